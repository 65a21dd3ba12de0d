package mcbp

import (
	"encoding/binary"
	"fmt"
)

// rule is the layout of a command that is no DCP message (dcp-wire §11, kv-observed), in one direction.
type rule struct {
	shape
	// content judges what lengths alone cannot; nil accepts all.
	content func(Frame) error
}

type rules map[Opcode]*rule

func (r rules) check(f Frame) (known bool, err error) {
	rule := r[f.Opcode()]
	if rule == nil {
		return false, nil
	}
	if err := rule.shape.check(f); err != nil {
		return true, err
	}
	if rule.content == nil {
		return true, nil
	}
	return true, rule.content(f)
}

// ruleBook files rules by their opcode.
func ruleBook(list ...*rule) rules {
	r := make(rules, len(list))
	for _, rule := range list {
		r[rule.opcode] = rule
	}
	return r
}

var commandRules = ruleBook(
	&rule{shape{opcode: OpHello, scope: ofConnection, extras: noExtras, key: optional, value: optional}, checkHello},
	&rule{shape{opcode: OpSASLListMechs, scope: ofConnection, extras: noExtras}, nil},
	&rule{shape{opcode: OpSASLAuth, scope: ofConnection, extras: noExtras, key: required, value: optional}, nil},
	&rule{shape{opcode: OpSASLStep, scope: ofConnection, extras: noExtras, key: required, value: optional}, nil},
	&rule{shape{opcode: OpStat, extras: noExtras, key: optional, value: optional, datatype: DatatypeJSON}, checkJSON},
	&rule{shape{opcode: OpSetVBucket, extras: []int{1}, value: optional, datatype: DatatypeJSON}, checkSetVBucket},
	&rule{shape{opcode: OpGetVBucket, extras: noExtras}, nil},
	&rule{shape{opcode: OpDelVBucket, extras: noExtras, value: optional}, checkDelVBucket},
	&rule{shape{opcode: OpGetAllVBSeqnos, extras: []int{0, 4, 8}}, checkGetAllVBSeqnos},
	&rule{shape{opcode: OpSetParam, extras: []int{4}, key: required, value: required}, nil},
	&rule{shape{opcode: OpCreateBucket, scope: ofConnection, extras: noExtras, key: required, value: required}, nil},
	&rule{shape{opcode: OpSelectBucket, scope: ofConnection, extras: noExtras, key: required}, nil},
	&rule{shape{opcode: OpEnableTraffic, scope: ofConnection, extras: noExtras}, nil},
	&rule{shape{opcode: OpDisableTraffic, scope: ofConnection, extras: noExtras}, nil},
	&rule{shape{
		opcode: OpSetClusterConfig, scope: ofConnection, extras: []int{16}, key: optional, value: required, datatype: DatatypeJSON,
	}, nil},
	&rule{shape{opcode: OpGetClusterConfig, scope: ofConnection, extras: []int{0, 16}}, nil},
	&rule{shape{opcode: OpSeqnoPersistence, extras: []int{8}}, nil},
	&rule{shape{opcode: OpGetErrorMap, scope: ofConnection, extras: noExtras, value: required}, valueOf(2)},
)

// answerRules are the answers. A refusal may explain itself in any value; a success has the value that the rule says.
var answerRules = ruleBook(
	answerRule(OpHello, absent, valuesOf(featureLen)),
	answerRule(OpSASLListMechs, absent, anyValue),
	answerRule(OpSASLAuth, absent, anyValue),
	answerRule(OpSASLStep, absent, anyValue),
	answerRule(OpStat, optional, anyValue),
	answerRule(OpSetVBucket, absent, noValue),
	answerRule(OpGetVBucket, absent, valueOf(4)),
	answerRule(OpDelVBucket, absent, noValue),
	answerRule(OpGetAllVBSeqnos, absent, valuesOf(vbSeqnoLen)),
	answerRule(OpSetParam, absent, noValue),
	answerRule(OpCreateBucket, absent, noValue),
	answerRule(OpSelectBucket, absent, noValue),
	answerRule(OpEnableTraffic, absent, noValue),
	answerRule(OpDisableTraffic, absent, noValue),
	answerRule(OpSetClusterConfig, absent, noValue),
	answerRule(OpGetClusterConfig, absent, anyValue),
	answerRule(OpSeqnoPersistence, absent, noValue),
	answerRule(OpGetErrorMap, absent, anyValue),
)

func answerRule(op Opcode, key presence, success func(Frame) error) *rule {
	s := shape{opcode: op, response: true, extras: noExtras, key: key, value: optional, datatype: datatypeAny, cas: true}
	return &rule{s, func(f Frame) error {
		if f.Status() == StatusSuccess {
			return success(f)
		}
		return nil
	}}
}

func anyValue(Frame) error { return nil }

func noValue(f Frame) error {
	_, err := textOf(f)
	return err
}

// valueOf demands a value of n bytes.
func valueOf(n int) func(Frame) error {
	return func(f Frame) error {
		if len(f.Value()) != n {
			return badLayout(f, "a value of %d bytes, not %d", len(f.Value()), n)
		}
		return nil
	}
}

// valuesOf demands a value that is a list of records of n bytes.
func valuesOf(n int) func(Frame) error {
	return func(f Frame) error {
		if len(f.Value())%n != 0 {
			return badLayout(f, "a value of %d bytes is not made of records of %d", len(f.Value()), n)
		}
		return nil
	}
}

func checkHello(f Frame) error {
	if n := f.KeyLen(); n > MaxAgentNameLen {
		return badLayout(f, "an agent name of %d bytes, more than %d", n, MaxAgentNameLen)
	}
	return valuesOf(featureLen)(f)
}

func checkSetVBucket(f Frame) error {
	if s := VBucketState(f.Extras()[0]); s < VBucketActive || s > VBucketDead {
		return badLayout(f, "unknown state %d", byte(s))
	}
	return checkJSON(f)
}

func checkDelVBucket(f Frame) error {
	if v := f.Value(); len(v) != 0 && string(v) != "async=0" {
		return badLayout(f, "a value of %d bytes that is not async=0", len(v))
	}
	return nil
}

func checkGetAllVBSeqnos(f Frame) error {
	if f.ExtrasLen() == 0 {
		return nil
	}
	if s := binary.BigEndian.Uint32(f.Extras()); s > uint32(VBucketDead) {
		return badLayout(f, "unknown state %d", s)
	}
	return nil
}

const (
	featureLen = 2
	vbSeqnoLen = 10
)

// AppendFeatures encodes the value of a HELLO or its answer.
func AppendFeatures(b []byte, features []Feature) []byte {
	for _, f := range features {
		b = binary.BigEndian.AppendUint16(b, uint16(f))
	}
	return b
}

// ParseFeatures decodes such a value, in its order. Engines answer in an order of their own: compare as sets.
func ParseFeatures(value []byte) ([]Feature, error) {
	if len(value)%featureLen != 0 {
		return nil, fmt.Errorf("mcbp: a feature list of %d bytes is not made of features of %d", len(value), featureLen)
	}
	features := make([]Feature, 0, len(value)/featureLen)
	for ; len(value) > 0; value = value[featureLen:] {
		features = append(features, Feature(binary.BigEndian.Uint16(value)))
	}
	return features, nil
}

// VBSeqno is the high seqno of one vbucket, as GET_ALL_VB_SEQNOS answers it.
type VBSeqno struct {
	VBucket uint16
	Seqno   uint64
}

// AppendVBSeqnos encodes the value of a GET_ALL_VB_SEQNOS answer.
func AppendVBSeqnos(b []byte, seqnos []VBSeqno) []byte {
	for _, s := range seqnos {
		b = binary.BigEndian.AppendUint16(b, s.VBucket)
		b = binary.BigEndian.AppendUint64(b, s.Seqno)
	}
	return b
}

// ParseVBSeqnos decodes such a value.
func ParseVBSeqnos(value []byte) ([]VBSeqno, error) {
	if len(value)%vbSeqnoLen != 0 {
		return nil, fmt.Errorf("mcbp: vbucket seqnos of %d bytes are not made of records of %d", len(value), vbSeqnoLen)
	}
	seqnos := make([]VBSeqno, 0, len(value)/vbSeqnoLen)
	for ; len(value) > 0; value = value[vbSeqnoLen:] {
		seqnos = append(seqnos, VBSeqno{VBucket: binary.BigEndian.Uint16(value), Seqno: binary.BigEndian.Uint64(value[2:])})
	}
	return seqnos, nil
}
