package dcp

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Only one of the four combinations breaks a replication: documents that the consumer cannot read.
func TestOnlyAProducerThatCompressesForAConsumerThatCannotReadItIsAMismatch(t *testing.T) {
	link := Link{Bucket: "orders", Producer: "n0", Consumer: "n1"}
	for _, consumer := range []bool{true, false} {
		for _, producer := range []bool{true, false} {
			var s compression
			s.atConsumer(consumer)
			s.atProducer(producer)
			err := s.check(link)
			assert.Equal(t, !consumer, s.refused())
			if consumer || !producer {
				require.NoError(t, err)
				continue
			}
			var mismatch *FeatureMismatch
			require.ErrorAs(t, err, &mismatch)
			assert.Equal(t, FeatureMismatch{Feature: mcbp.FeatureSnappy, Producer: "n0", Consumer: "n1"}, *mismatch)
			assert.EqualError(t, err, "snappy (0x0a) granted by producer n0, refused by consumer n1")
		}
	}
}

func TestAConsumerThatHasLearntSnappyIsAskedAgain(t *testing.T) {
	var s compression
	s.atConsumer(false)
	require.True(t, s.refused())
	s.atConsumer(true)
	assert.False(t, s.refused())
}

// engine is a node that only shakes hands; it grants what it is asked for, Snappy perhaps not. asked is called with the
// features of each HELLO before it is answered.
func engine(t *testing.T, name string, snappy bool, asked func([]mcbp.Feature)) kv.Endpoint {
	t.Helper()
	return kv.Endpoint{Node: name, Addr: name + ".example:11210", Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		t.Cleanup(func() { _ = far.Close() })
		go func() {
			for {
				header := make(mcbp.Frame, mcbp.HeaderLen)
				if _, err := io.ReadFull(far, header); err != nil {
					return
				}
				f := make(mcbp.Frame, mcbp.HeaderLen+int(header.BodyLen()))
				copy(f, header)
				if _, err := io.ReadFull(far, f[mcbp.HeaderLen:]); err != nil {
					return
				}
				answer := answerTo(f, mcbp.StatusSuccess)
				if f.Opcode() == mcbp.OpHello {
					var list []mcbp.Feature
					for v := f.Value(); len(v) >= 2; v = v[2:] {
						feature := mcbp.Feature(binary.BigEndian.Uint16(v))
						list = append(list, feature)
						if snappy || feature != mcbp.FeatureSnappy {
							answer.Value = append(answer.Value, v[:2]...)
						}
					}
					asked(list)
				}
				if _, err := far.Write(answer.Frame()); err != nil {
					return
				}
			}
		}()
		return near, nil
	}}
}

// Who is asked for what, in each order in which the two ends may come to their answers.
func TestAProducerIsNotAskedForSnappyThatItsConsumerHasRefused(t *testing.T) {
	with := []mcbp.Feature{mcbp.FeatureXattr, mcbp.FeatureCollections, mcbp.FeatureSnappy, mcbp.FeatureJSON}
	without := []mcbp.Feature{mcbp.FeatureXattr, mcbp.FeatureCollections, mcbp.FeatureJSON}
	for name, c := range map[string]struct {
		consumer, producer bool // have Snappy
		order              string
		want               [][]mcbp.Feature // of the producer
		mismatch           bool
	}{
		"both have it":                    {true, true, "consumer first", [][]mcbp.Feature{with}, false},
		"the producer has not":            {true, false, "consumer first", [][]mcbp.Feature{with}, false},
		"the consumer has not":            {false, true, "consumer first", [][]mcbp.Feature{without}, false},
		"neither has":                     {false, false, "consumer first", [][]mcbp.Feature{without}, false},
		"the consumer has not, meanwhile": {false, true, "meanwhile", [][]mcbp.Feature{with, without}, false},
		"neither has, meanwhile":          {false, false, "meanwhile", [][]mcbp.Feature{with}, false},
		"the consumer has not, too late":  {false, true, "producer first", [][]mcbp.Feature{with}, true},
		"neither has, too late":           {false, false, "producer first", [][]mcbp.Feature{with}, false},
		"both have it, the other way":     {true, true, "producer first", [][]mcbp.Feature{with}, false},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := map[string]kv.Endpoint{}
			env := &linkEnv{link: Link{Bucket: "orders", Producer: "n0", Consumer: "n1"}}
			env.endpoints = func(node string) (kv.Endpoint, bool) { ep, ok := nodes[node]; return ep, ok }
			dial := func(role string) {
				conn, err := (&connecting{env: env, role: role}).dial(t.Context())
				require.NoError(t, err)
				t.Cleanup(func() { _ = conn.Close() })
			}
			var asked [][]mcbp.Feature
			nodes["n1"] = engine(t, "n1", c.consumer, func(list []mcbp.Feature) { assert.Equal(t, with, list) })
			nodes["n0"] = engine(t, "n0", c.producer, func(list []mcbp.Feature) {
				asked = append(asked, list)
				if c.order == "meanwhile" && len(asked) == 1 {
					dial(RoleConsumer)
				}
			})
			switch c.order {
			case "consumer first":
				dial(RoleConsumer)
				dial(RoleProducer)
			case "producer first":
				dial(RoleProducer)
				dial(RoleConsumer)
			default:
				dial(RoleProducer)
			}
			assert.Equal(t, c.want, asked)
			err := env.snappy.check(env.link)
			assert.Equal(t, c.mismatch, err != nil)
		})
	}
}
