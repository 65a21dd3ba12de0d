package rebalance

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestACopyThatIsWrongIsFoundBeforeTheSwitch(t *testing.T) {
	for _, verification := range []Verification{VerifyNothing, VerifySeqnos, VerifyData} {
		t.Run(string(verification), func(t *testing.T) {
			inFakeCluster(t, func(t *testing.T, i *interrupted) {
				i.cluster.env.config.Verify = verification
				before := i.chains()
				moves := i.plan().Buckets[0].Moves
				vb := moves[slices.IndexFunc(moves, func(m PlannedMove) bool { return m.New.Contains("n3") })].VB
				wrong := false
				i.world.setGate(func(_ context.Context, op fakeOp) error {
					i.world.mu.Lock()
					defer i.world.mu.Unlock()
					if op.What == "estimate" && op.VB == vb && !wrong {
						wrong = true
						i.world.nodes["n3"].copies[op.VB].wrong = true
					}
					return nil
				})
				report, err := i.start().Wait(t.Context())
				require.NoError(t, err)
				i.world.mu.Lock()
				require.True(t, wrong)
				i.world.mu.Unlock()
				if verification != VerifyData {
					assert.Equal(t, Complete, report.Outcome, "seqnos are equal")
					return
				}
				assert.Equal(t, Failed, report.Outcome)
				var found *VerifyError
				require.ErrorAs(t, report.Err, &found)
				assert.Equal(t, vb, found.VB)
				assert.Equal(t, "n3", found.Copied)
				assert.Equal(t, before[found.VB], i.chains()[found.VB], "it was not switched")
			})
		})
	}
}

// A rebalance that verifies does all that one does which does not, and asks for nothing that it need not.
func TestARebalanceThatVerifiesCompletes(t *testing.T) {
	for verification, asked := range map[Verification]bool{VerifyNothing: false, VerifySeqnos: false, VerifyData: true} {
		t.Run(string(verification), func(t *testing.T) {
			inFakeCluster(t, func(t *testing.T, i *interrupted) {
				i.cluster.env.config.Verify = verification
				digests := false
				i.world.setGate(func(_ context.Context, op fakeOp) error {
					i.world.mu.Lock()
					defer i.world.mu.Unlock()
					digests = digests || op.What == "digest"
					return nil
				})
				report, err := i.start().Wait(t.Context())
				require.NoError(t, err)
				require.NoError(t, report.Err)
				assert.Equal(t, i.before, i.world.data())
				i.world.mu.Lock()
				defer i.world.mu.Unlock()
				assert.Equal(t, asked, digests)
			})
		})
	}
}

func TestAVerificationMustBeKnown(t *testing.T) {
	_, err := Config{Nodes: []Node{fakeNodeNamed(0)}, Verify: "everything"}.validate()
	require.EqualError(t, err, `rebalance: Config.Verify is "everything", must be empty, "seqnos" or "data"`)
}
