package kvnode_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// What a script costs those whom it does not mean: compare with BenchmarkSets and BenchmarkReplication.
var scripts = map[string][]fault.Rule{
	"no rule":                {},
	"a rule for others":      {{Match: fault.Match{Connection: "somebody else"}, Do: fault.Drop{}}},
	"a rule for other kinds": {{Match: fault.Match{Opcodes: []mcbp.Opcode{mcbp.OpDCPAddStream, mcbp.OpGet}, VBuckets: []uint16{1023}}, Do: fault.Drop{}}},
	"a rule that looks":      {{Match: fault.Match{VBuckets: []uint16{1023}}, Do: fault.Drop{}}},
}

func underScripts(b *testing.B, run func(b *testing.B, change ...func(*kvnode.Options))) {
	b.Helper()
	b.Run("no script", func(b *testing.B) { run(b) })
	for name, rules := range scripts {
		b.Run(name, func(b *testing.B) {
			script := fault.NewScript(1)
			for _, r := range rules {
				_, err := script.Add(r)
				require.NoError(b, err)
			}
			run(b, scripted(script))
		})
	}
}

func BenchmarkSetsUnderAScript(b *testing.B)        { underScripts(b, sets) }
func BenchmarkReplicationUnderAScript(b *testing.B) { underScripts(b, replication) }
