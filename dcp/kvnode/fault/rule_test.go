package fault

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

func TestRulesThatCannotBeFollowed(t *testing.T) {
	s := NewScript(1)
	where := func(mcbp.Frame) bool { return true }
	for field, r := range map[string]Rule{
		"Do":                {},
		"After":             {After: -1, Do: Drop{}},
		"Times":             {Times: -1, Do: Drop{}},
		"Probability":       {Probability: 1.1, Do: Drop{}},
		"Match.Role":        {Match: Match{Role: 9}, Do: Drop{}},
		"Match.Direction":   {Match: Match{Direction: 9}, Do: Drop{}},
		"Match.Frames":      {Match: Match{Frames: 9}, Do: Drop{}},
		"Match.Statuses":    {Match: Match{Frames: Requests, Statuses: []mcbp.Status{0}}, Do: Drop{}},
		"Do.For":            {Do: Delay{}},
		"Do.Copies":         {Do: Duplicate{Copies: 1001}},
		"Do.AtMost":         {Do: Hold{AtMost: -1}},
		"Do.Until.Role":     {Do: Hold{Until: Match{Role: 9}}},
		"Do.How":            {Do: Close{How: 9}},
		"Do.By":             {Do: Seqnos{}},
		"Do.Bytes":          {Do: Garbage{Bytes: 1 << 30}},
		"Match.Direction 1": {Match: Match{Direction: Received}, Do: Trickle{}},
		"Match.Direction 2": {Match: Match{Direction: Sent}, Do: StopReading{}},
		"Match.Direction 3": {Match: Match{Direction: Received}, Do: Cut{}},
		"Match.Direction 4": {Match: Match{Direction: Received}, Do: Truncate{}},
		"Match.Direction 5": {Match: Match{Direction: Received}, Do: HugeLength{}},
		"Match.Direction 6": {Match: Match{Direction: Received}, Do: Seqnos{By: 1}},
		"Match.Direction 7": {Match: Match{Direction: Sent}, Do: RefuseRollback{}},
		"Match.Frames 2":    {Match: Match{Frames: Answers}, Do: NoAnswer{}},
		"Match.Frames 3":    {Match: Match{Frames: Requests, Direction: Sent}, Do: Answer{}},
		"Match.Where":       {Match: Match{Where: where}, Do: Cut{}},
		"Match.Opcodes":     {Match: Match{Opcodes: []mcbp.Opcode{1}}, Do: SlowDisk{}},
		"Match.Connection":  {Match: Match{Connection: "x"}, Do: SlowDisk{}},
		"Match.Role 2":      {Match: Match{Role: Consumer}, Do: EndStream{}},
		"Match.Role 3":      {Match: Match{Role: Producer}, Do: RefuseRollback{}},
		"Do.Every":          {Do: Trickle{Every: -1}},
		"Do.Bytes 2":        {Do: Truncate{Bytes: -1}},
		"Do.For 2":          {Do: Pause{For: -time.Second}},
		"Do.For 3":          {Do: SlowDisk{For: -time.Second}},
	} {
		_, err := s.Add(r)
		var wrong *RuleError
		require.ErrorAs(t, err, &wrong, field)
		want, _, _ := strings.Cut(field, " ")
		assert.Equal(t, want, wrong.Field, field)
		assert.NotEmpty(t, wrong.Why)
	}
	_, err := s.Add(Rule{Times: -3, Do: Drop{}})
	require.EqualError(t, err, "fault: rule: Times is -3: must not be negative")
	_, err = s.Add(Rule{Match: Match{VBuckets: []uint16{7}}, Do: SlowDisk{}})
	require.EqualError(t, err, "fault: rule: Match.VBuckets is [7]: a disk serves all frames")
	_, err = s.Add(Rule{Match: Match{Statuses: []mcbp.Status{mcbp.StatusBusy}}, Do: NoAnswer{}})
	require.EqualError(t, err, "fault: rule: Match.Statuses is [busy (0x85)]: only requests are answered; to lose an answer, drop it")
	assert.Empty(t, s.rules.Load().faults)
}

func TestARuleIsGivenBackAsItWasAdded(t *testing.T) {
	r := Rule{Name: "mine", Match: Match{Node: "n0", Opcodes: []mcbp.Opcode{mcbp.OpSet}}, Do: NoAnswer{}}
	f, err := NewScript(1).Add(r)
	require.NoError(t, err)
	assert.Equal(t, r, f.Rule())
}

// A list that is there and empty fits nothing, whichever it is.
func TestEmptyListsFitNothing(t *testing.T) {
	answer := (&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpSet}).Frame()
	s := &sight{way: Sent, frame: answer, vb: 7}
	assert.True(t, (&Match{}).fitsFrame(s, false))
	assert.False(t, (&Match{Opcodes: []mcbp.Opcode{}}).fitsFrame(s, false))
	assert.False(t, (&Match{VBuckets: []uint16{}}).fitsFrame(s, false))
	assert.False(t, (&Match{Statuses: []mcbp.Status{}}).fitsFrame(s, false))
	assert.False(t, SlowDisk{Kinds: []kvnode.DiskKind{}}.fits(kvnode.DiskRead))
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		fits          bool
	}{
		{"", "anything", true},
		{"a", "a", true},
		{"a", "ab", false},
		{"*", "", true},
		{"a*", "ab", true},
		{"*b", "ab", true},
		{"*b", "ba", false},
		{"a*b*c", "axxbxxc", true},
		{"a*b*c", "axxc", false},
		{"ab*ba", "aba", false},
		{"replication:*->n1:*", "replication:n0->n1:default", true},
		{"replication:*->n1:*", "replication:n1->n0:default", false},
	} {
		assert.Equal(t, c.fits, wild(c.pattern, c.name), "%q %q", c.pattern, c.name)
	}
}

// A rule that will not strike any more costs the connections nothing, and neither does one for other connections.
func TestTablesForgetRulesThatAreSpent(t *testing.T) {
	s := NewScript(1)
	f, err := s.Add(Rule{Match: Match{Connection: "x", Direction: Sent, Opcodes: []mcbp.Opcode{mcbp.OpDCPMutation}}, Times: 1, Do: Drop{}})
	require.NoError(t, err)
	other, mine := &identity{name: "y"}, &identity{name: "x"}
	assert.Equal(t, [2]bool{true, true}, newTable(s.rules.Load(), other).idle)
	table := newTable(s.rules.Load(), mine)
	assert.Equal(t, [2]bool{true, false}, table.idle)
	frame := (&mcbp.Packet{Opcode: mcbp.OpDCPMutation}).Frame()
	assert.True(t, table.looks(Sent, frame))
	assert.False(t, table.looks(Received, frame))
	require.Same(t, f, table.strike(&sight{who: mine, way: Sent, frame: frame, vb: 0}))
	assert.Nil(t, table.strike(&sight{who: mine, way: Sent, frame: frame, vb: 0}))
	assert.Equal(t, [2]bool{true, true}, newTable(s.rules.Load(), mine).idle)
}

func TestHoldsAreForgottenWhenAllHasPassed(t *testing.T) {
	s := NewScript(1)
	f, err := s.Add(Rule{Match: Match{Opcodes: []mcbp.Opcode{1}}, Times: 1, Do: Hold{Until: Match{Opcodes: []mcbp.Opcode{2}}}})
	require.NoError(t, err)
	require.Equal(t, 1, f.strike(Strike{}))
	require.Len(t, s.rules.Load().faults, 1, "somebody waits")
	who := &identity{}
	newTable(s.rules.Load(), who).passed(&sight{who: who, way: Sent, frame: (&mcbp.Packet{Opcode: 2}).Frame()})
	assert.Empty(t, s.rules.Load().faults)
}

func TestStrikesOfLongAgoAreForgotten(t *testing.T) {
	s := NewScript(1)
	f, err := s.Add(Rule{Do: Drop{}})
	require.NoError(t, err)
	for range 3*maxStrikes + 1 {
		f.strike(Strike{})
		require.LessOrEqual(t, len(s.strikes), 2*maxStrikes)
	}
	strikes := s.Strikes()
	require.Len(t, strikes, maxStrikes)
	assert.EqualValues(t, 2*maxStrikes+2, strikes[0].Seq)
}

// What is remembered of a connection is bounded as well.
func TestRequestsWithoutAnswersAreForgotten(t *testing.T) {
	m := newMemory()
	for i := range uint32(3 * maxRequests) {
		f := (&mcbp.Packet{Opcode: mcbp.OpSet, VBucket: 7, Opaque: mcbp.OpaqueFromUint32(i)}).Frame()
		m.know(&sight{way: Received, frame: f})
		m.opaques(&sight{way: Received, frame: (&mcbp.Packet{Opcode: mcbp.OpDCPStreamReq, VBucket: uint16(i)}).Frame()})
		m.mute(f)
		m.end(7, f.Opaque())
		require.LessOrEqual(t, len(m.requests)+len(m.older), maxRequests)
		require.LessOrEqual(t, len(m.kinds), maxOpaques)
		require.LessOrEqual(t, len(m.mutes), maxMuted)
		require.LessOrEqual(t, len(m.streams), maxOver)
	}
	answer := &sight{way: Sent, vb: -1, frame: (&mcbp.Packet{
		Magic: mcbp.MagicResponse, Opcode: mcbp.OpSet, Opaque: mcbp.OpaqueFromUint32(3*maxRequests - 1),
	}).Frame()}
	m.know(answer)
	assert.Equal(t, 7, answer.vb, "the newest are known")
}

// A client may use one opaque for all its requests, one after the other.
func TestRequestsUnderOneOpaqueAreKnownForEver(t *testing.T) {
	m := newMemory()
	request := (&mcbp.Packet{Opcode: mcbp.OpSet, VBucket: 7}).Frame()
	answer := (&mcbp.Packet{Magic: mcbp.MagicResponse, Opcode: mcbp.OpSet}).Frame()
	for i := range 3 * maxRequests {
		m.know(&sight{way: Received, frame: request})
		s := &sight{way: Sent, vb: -1, frame: answer}
		m.know(s)
		require.Equal(t, 7, s.vb, "request %d", i)
	}
}

func TestStrikesAndActionsCanBeRead(t *testing.T) {
	at := Strike{
		Seq: 3, Action: Drop{}, Node: "n0", Connection: "link", Peer: "127.0.0.1:9", Role: Consumer, Direction: Received,
		Opcode: mcbp.OpDCPAddStream, VBucket: 7,
	}
	assert.Equal(t, `3 drop: node n0 consumer 127.0.0.1:9 "link" received DCP_ADD_STREAM request opaque 00000000 vb 7`, at.String())
	assert.Equal(t, "1 cut: node n1 client 127.0.0.1:9", Strike{Seq: 1, Action: Cut{}, Node: "n1", Peer: "127.0.0.1:9", Role: Client, VBucket: -1}.String())
	assert.Equal(t, "1 a disk that hangs: node n1 disk write", Strike{Seq: 1, Action: SlowDisk{}, Node: "n1", Disk: "write"}.String())
	assert.Equal(t, "unknown (9)", Role(9).String())
	assert.Equal(t, "unknown (9)", Direction(9).String())
	assert.Equal(t, "seqnos -3", Seqnos{By: -3}.String())
	assert.Equal(t, "3 bytes of garbage", Garbage{Bytes: 3}.String())
	assert.Equal(t, "garbage", Garbage{}.String())
	assert.Equal(t, "truncate to 3 bytes", Truncate{Bytes: 3}.String())
	assert.Equal(t, "truncate by a byte", Truncate{}.String())
}

// A name that the node refuses is nobody's, and not remembered.
func TestOverlongNamesAreNotLearnt(t *testing.T) {
	who := &tap{}
	who.who.Store(&identity{role: Client})
	for _, op := range []mcbp.Opcode{mcbp.OpHello, mcbp.OpSelectBucket} {
		who.identify((&mcbp.Packet{Opcode: op, Key: []byte("short")}).Frame())
		who.identify((&mcbp.Packet{Opcode: op, Key: make([]byte, 60_000)}).Frame())
	}
	assert.Equal(t, identity{role: Client, name: "short", bucket: "short"}, *who.who.Load())
}
