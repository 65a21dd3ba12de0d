package mcbp

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// commands are one good request of each kind of dcp-wire §11, and answers to them.
func commands() map[string]*Packet {
	return map[string]*Packet{
		"hello": {
			Opcode: OpHello, Key: []byte("agent"), Value: AppendFeatures(nil, []Feature{FeatureXattr, FeatureJSON}),
		},
		"list mechanisms":     {Opcode: OpSASLListMechs},
		"auth":                {Opcode: OpSASLAuth, Key: []byte("PLAIN"), Value: []byte("\x00user\x00word")},
		"step":                {Opcode: OpSASLStep, Key: []byte("SCRAM-SHA512"), Value: []byte("c=biws")},
		"stat":                {Opcode: OpStat, VBucket: 3, Key: []byte("dcp"), Value: []byte("{}"), Datatype: DatatypeJSON},
		"set vbucket":         {Opcode: OpSetVBucket, VBucket: 3, Extras: []byte{2}, Value: []byte("{}"), Datatype: DatatypeJSON},
		"get vbucket":         {Opcode: OpGetVBucket, VBucket: 3},
		"del vbucket":         {Opcode: OpDelVBucket, VBucket: 3, Value: []byte("async=0")},
		"seqnos":              {Opcode: OpGetAllVBSeqnos, Extras: []byte{0, 0, 0, 1, 0, 0, 0, 8}},
		"set param":           {Opcode: OpSetParam, Extras: make([]byte, 4), Key: []byte("k"), Value: []byte("v")},
		"select bucket":       {Opcode: OpSelectBucket, Key: []byte("orders")},
		"failover log":        {Opcode: OpGetFailoverLog, VBucket: 3},
		"enable traffic":      {Opcode: OpEnableTraffic},
		"disable traffic":     {Opcode: OpDisableTraffic},
		"set config":          {Opcode: OpSetClusterConfig, Extras: make([]byte, 16), Key: []byte("b"), Value: []byte("{}"), Datatype: DatatypeJSON},
		"get config":          {Opcode: OpGetClusterConfig},
		"seqno persistence":   {Opcode: OpSeqnoPersistence, VBucket: 3, Extras: make([]byte, 8)},
		"error map":           {Opcode: OpGetErrorMap, Value: []byte{0, 2}},
		"create bucket":       {Opcode: OpCreateBucket, Key: []byte("orders"), Value: []byte("ep.so\x00max_vbuckets=64")},
		"bucket answer":       {Magic: MagicResponse, Opcode: OpCreateBucket, Status: StatusKeyExists},
		"hello answer":        {Magic: MagicResponse, Opcode: OpHello, Value: AppendFeatures(nil, []Feature{FeatureJSON})},
		"stat answer":         {Magic: MagicResponse, Opcode: OpStat, Key: []byte("vb_3"), Value: []byte("active")},
		"get vbucket answer":  {Magic: MagicResponse, Opcode: OpGetVBucket, Value: []byte{0, 0, 0, 1}},
		"set vbucket answer":  {Magic: MagicResponse, Opcode: OpSetVBucket},
		"seqnos answer":       {Magic: MagicResponse, Opcode: OpGetAllVBSeqnos, Value: AppendVBSeqnos(nil, []VBSeqno{{3, 4}})},
		"failover log answer": {Magic: MagicResponse, Opcode: OpGetFailoverLog, Value: make([]byte, 32)},
		"refused seqnos":      {Magic: MagicResponse, Opcode: OpGetAllVBSeqnos, Status: StatusNotSupported, Value: []byte("why")},
		"refusal": {
			Magic: MagicResponse, Opcode: OpSeqnoPersistence, Status: StatusNotMyVBucket, Value: []byte("map"), Datatype: DatatypeSnappy,
		},
	}
}

func TestCommandsFitTheirLayout(t *testing.T) {
	for name, p := range commands() {
		known, err := CheckLayout(p.Frame())
		assert.True(t, known, name)
		assert.NoError(t, err, name)
	}
}

func TestCommandsThatDoNotFitTheirLayout(t *testing.T) {
	for name, v := range map[string]struct {
		of     string
		change func(*Packet)
	}{
		"half a feature":                 {"hello", func(p *Packet) { p.Value = p.Value[1:] }},
		"a long agent":                   {"hello", func(p *Packet) { p.Key = make([]byte, MaxAgentNameLen+1) }},
		"a hello to a vbucket":           {"hello", func(p *Packet) { p.VBucket = 1 }},
		"extras of hello":                {"hello", func(p *Packet) { p.Extras = []byte{0} }},
		"no mechanism":                   {"auth", func(p *Packet) { p.Key = nil }},
		"auth, compressed":               {"auth", func(p *Packet) { p.Datatype = DatatypeSnappy }},
		"stat with an unmarked filter":   {"stat", func(p *Packet) { p.Datatype = 0 }},
		"state 0":                        {"set vbucket", func(p *Packet) { p.Extras = []byte{0} }},
		"state 5":                        {"set vbucket", func(p *Packet) { p.Extras = []byte{5} }},
		"no state":                       {"set vbucket", func(p *Packet) { p.Extras = nil }},
		"an unmarked topology":           {"set vbucket", func(p *Packet) { p.Datatype = 0 }},
		"a topology that is not there":   {"set vbucket", func(p *Packet) { p.Value = nil }},
		"delete otherwise":               {"del vbucket", func(p *Packet) { p.Value = []byte("async=1") }},
		"delete with a key":              {"del vbucket", func(p *Packet) { p.Key = []byte("k") }},
		"seqnos in state 5":              {"seqnos", func(p *Packet) { p.Extras[3] = 5 }},
		"seqnos of five bytes":           {"seqnos", func(p *Packet) { p.Extras = p.Extras[:5] }},
		"no bucket":                      {"select bucket", func(p *Packet) { p.Key = nil }},
		"a short seqno":                  {"seqno persistence", func(p *Packet) { p.Extras = p.Extras[1:] }},
		"a value of a seqno":             {"seqno persistence", func(p *Packet) { p.Value = []byte{1} }},
		"config without a revision":      {"set config", func(p *Packet) { p.Extras = nil }},
		"no config":                      {"set config", func(p *Packet) { p.Value = nil }},
		"error map of no version":        {"error map", func(p *Packet) { p.Value = nil }},
		"error map of a long version":    {"error map", func(p *Packet) { p.Value = make([]byte, 4) }},
		"a bucket without a name":        {"create bucket", func(p *Packet) { p.Key = nil }},
		"a bucket of no engine":          {"create bucket", func(p *Packet) { p.Value = nil }},
		"a bucket with extras":           {"create bucket", func(p *Packet) { p.Extras = []byte{0} }},
		"a bucket of a vbucket":          {"create bucket", func(p *Packet) { p.VBucket = 1 }},
		"a bucket's key in an answer":    {"bucket answer", func(p *Packet) { p.Key = []byte("k") }},
		"a bucket that explains itself":  {"bucket answer", func(p *Packet) { p.Status, p.Value = StatusSuccess, []byte("why") }},
		"a CAS":                          {"get vbucket", func(p *Packet) { p.CAS = 1 }},
		"framing extras":                 {"get vbucket", func(p *Packet) { p.Magic, p.FramingExtras = MagicFramingRequest, []byte{0} }},
		"half a feature, answered":       {"hello answer", func(p *Packet) { p.Value = p.Value[1:] }},
		"a key in an answer":             {"hello answer", func(p *Packet) { p.Key = []byte("k") }},
		"extras in an answer":            {"hello answer", func(p *Packet) { p.Extras = []byte{0} }},
		"a state of one byte":            {"get vbucket answer", func(p *Packet) { p.Value = p.Value[3:] }},
		"a success that explains itself": {"set vbucket answer", func(p *Packet) { p.Value = []byte("why") }},
		"half a seqno":                   {"seqnos answer", func(p *Packet) { p.Value = p.Value[5:] }},
		"half a log":                     {"failover log answer", func(p *Packet) { p.Value = p.Value[8:] }},
		"an unknown datatype":            {"refusal", func(p *Packet) { p.Datatype = 0x10 }},
	} {
		p := commands()[v.of]
		v.change(p)
		known, err := CheckLayout(p.Frame())
		assert.True(t, known, name)
		var layout *LayoutError
		assert.ErrorAs(t, err, &layout, name)
	}
}

// Every command of dcp-wire §11, and of kv-observed's Administration, has a layout for its request and its answer, or a reason
// why not.
func TestEveryCommandHasALayoutOrAReason(t *testing.T) {
	const (
		unsaid = "the pages name it and do not say what its parts are"
		files  = "of file-based rebalance: what is in its JSON, and whether there is any, depends on the engine's version"
		fusion = "of fusion: JSON of a kind of storage that is not supported here"
	)
	for op, reason := range map[Opcode]string{
		OpHello: "", OpSASLListMechs: "", OpSASLAuth: "", OpSASLStep: "", OpSelectBucket: "", OpStat: "", OpSetVBucket: "", OpGetVBucket: "",
		OpDelVBucket: "", OpGetAllVBSeqnos: "", OpGetFailoverLog: "", OpSeqnoPersistence: "", OpSetClusterConfig: "", OpGetClusterConfig: "",
		OpEnableTraffic: "", OpDisableTraffic: "", OpSetParam: "", OpCreateBucket: "", OpGetErrorMap: "",
		OpCheckpointPersist: "obsolete", OpCompactDB: unsaid, OpSetDataIngress: unsaid,
		OpPrepareSnapshot: files, OpReleaseSnapshot: files, OpDownloadSnapshot: files, OpGetFileFragment: files,
		0x70: fusion, 0x71: fusion, 0x72: fusion, 0x73: fusion, 0x74: fusion, 0x75: fusion, 0x76: fusion, 0x77: fusion, 0x78: fusion, 0x79: fusion,
	} {
		for _, magic := range []Magic{MagicRequest, MagicResponse} {
			known, _ := CheckLayout((&Packet{Magic: magic, Opcode: op}).Frame())
			assert.Equal(t, reason == "", known, "%v, magic %#02x", op, byte(magic))
		}
	}
}

func TestFramesWithoutAWrittenLayout(t *testing.T) {
	for name, p := range map[string]*Packet{
		"a document command":  {Opcode: OpSet, Extras: make([]byte, 8), Key: []byte("k"), CAS: 1},
		"its answer":          {Magic: MagicResponse, Opcode: OpGet, Extras: make([]byte, 4)},
		"an unknown opcode":   {Opcode: 0xc1, Extras: []byte{1}},
		"a server's request":  {Magic: MagicServerRequest, Opcode: 1, Extras: make([]byte, 4)},
		"its answer too":      {Magic: MagicServerResponse, Opcode: 1},
		"a number of DCP's":   {Magic: MagicServerRequest, Opcode: OpDCPStreamEnd},
		"answered":            {Magic: MagicServerResponse, Opcode: OpDCPAddStream},
		"a measured response": {Magic: MagicFramingResponse, Opcode: OpHello, FramingExtras: []byte{2, 0, 1}, Value: []byte{1}},
	} {
		known, err := CheckLayout(p.Frame())
		assert.False(t, known, name)
		assert.NoError(t, err, name)
	}
}

func TestFeatureLists(t *testing.T) {
	value := AppendFeatures([]byte("x"), []Feature{FeatureCollections, FeatureSnappy})
	assert.Equal(t, "x\x00\x12\x00\x0a", string(value))
	features, err := ParseFeatures(value[1:])
	require.NoError(t, err)
	assert.Equal(t, []Feature{FeatureCollections, FeatureSnappy}, features)
	_, err = ParseFeatures(value)
	assert.Error(t, err)
}

func TestVBSeqnoLists(t *testing.T) {
	value := AppendVBSeqnos([]byte("x"), []VBSeqno{{VBucket: 7, Seqno: 0x0102}, {VBucket: 0x0300, Seqno: 1}})
	assert.Equal(t, "x"+
		"\x00\x07\x00\x00\x00\x00\x00\x00\x01\x02"+
		"\x03\x00\x00\x00\x00\x00\x00\x00\x00\x01", string(value))
	seqnos, err := ParseVBSeqnos(value[1:])
	require.NoError(t, err)
	assert.Equal(t, []VBSeqno{{VBucket: 7, Seqno: 0x0102}, {VBucket: 0x0300, Seqno: 1}}, seqnos)
	_, err = ParseVBSeqnos(value)
	assert.Error(t, err)
}

func TestServerOpcodesAreASpaceOfTheirOwn(t *testing.T) {
	f := (&Packet{Magic: MagicServerRequest, Opcode: 1, Opaque: Opaque{9}, Value: []byte("map")}).Frame()
	assert.Equal(t, "server opcode 0x01 (response false) opaque=09000000 body=3", f.String())
	f = (&Packet{Magic: MagicServerResponse, Opcode: 1}).Frame()
	assert.Equal(t, "server opcode 0x01 (response true) opaque=00000000 body=0", f.String())
	assert.True(t, bytes.Equal(f, packetOf(f).Frame()))
}
