package vbmap

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkGenerate shows what a map costs as it grows: a new one, and the next one when a node joined.
func BenchmarkGenerate(b *testing.B) {
	for _, size := range []struct{ vbuckets, nodes int }{
		{1024, 10}, {1024, 100}, {1024, 1000}, {8192, 10}, {8192, 100}, {8192, 1000}, {65536, 10}, {65536, 100}, {65536, 1000},
	} {
		nodes := make([]Node, size.nodes+1)
		for i := range nodes {
			nodes[i].Name = fmt.Sprintf("n%04d", i)
		}
		p := Params{VBuckets: size.vbuckets, Replicas: 1, Nodes: nodes[:size.nodes]}
		b.Run(fmt.Sprintf("vbuckets=%d/nodes=%d/new", size.vbuckets, size.nodes), func(b *testing.B) {
			for b.Loop() {
				_, err := Generate(p)
				require.NoError(b, err)
			}
		})
		current, err := Generate(p)
		require.NoError(b, err)
		p.Nodes, p.Current = nodes, current
		b.Run(fmt.Sprintf("vbuckets=%d/nodes=%d/joined", size.vbuckets, size.nodes), func(b *testing.B) {
			for b.Loop() {
				_, err := Generate(p)
				require.NoError(b, err)
			}
		})
	}
}
