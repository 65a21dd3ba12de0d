package rebalance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/actors"
	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// through JSON and back, as an error travels from an agent in another process.
func travel(t *testing.T, err error) error {
	t.Helper()
	text, failed := json.Marshal(encodeError(err))
	require.NoError(t, failed)
	var data *errorData
	require.NoError(t, json.Unmarshal(text, &data))
	return decodeError(data)
}

func TestErrorsOfAnAgentTravel(t *testing.T) {
	stream := mcbp.Opaque{1, 0, 0, 0}
	ended := &dcp.UnexpectedStreamEnd{VB: 17, AddOpaque: mcbp.Opaque{0xff, 0, 0x11, 0xff}, StreamOpaque: stream, Reason: mcbp.EndStateChanged}
	for _, err := range []error{
		nil,
		context.Canceled, context.DeadlineExceeded, io.EOF, actors.Killed, actors.NoProcess, dcp.ErrSuperseded, dcp.ErrSocketClosed,
		kv.ErrNukeUnanswered,
		mcbp.StatusNotMyVBucket,
		ended,
		&dcp.AddStreamTimeout{VBs: []uint16{1, 2}, AddOpaques: []mcbp.Opaque{{0xff}, {0xfe}}, StreamOpaques: []*mcbp.Opaque{nil, &stream}},
		&dcp.CloseStreamTimeout{VBs: []uint16{7}},
		&dcp.UnknownOpaque{Opcode: mcbp.OpDCPAddStream, Opaque: mcbp.Opaque{0xff, 1}, Role: dcp.RoleConsumer, VBs: []uint16{3}},
		&dcp.MalformedFrame{Role: dcp.RoleProducer, Header: [mcbp.HeaderLen]byte{0x80, 0x55}, Why: "extras too long"},
		&dcp.StreamStatusError{Op: mcbp.OpDCPAddStream, VB: 9, Role: dcp.RoleConsumer, Status: mcbp.StatusNotMyVBucket},
		&dcp.StreamEndedError{VB: 9, Reason: mcbp.EndReason(77)},
		&dcp.StaleEpoch{Got: 4, Current: 5},
		&dcp.OverloadedError{What: "links", Limit: 7},
		&dcp.NameInUseError{Name: "replication:n0->n1:b", Node: "n1", Kicks: 3, Err: &dcp.SocketClosedError{Err: io.EOF}},
		&dcp.LinkError{Producer: "n0", Consumer: "n3", Conn: 2, Err: &dcp.CrashError{Role: dcp.RoleConsumer, Err: ended}},
		&dcp.ApplyError{ByVB: map[uint16]error{9: io.EOF, 4: &dcp.LinkError{Producer: "n0", Consumer: "n1", Err: dcp.ErrShut}}},
		&kv.StatusError{Op: mcbp.OpSetVBucket, VB: 4, Status: mcbp.StatusInvalid, Message: "why"},
		&kv.ConnectError{Node: "n0", Addr: "127.0.0.1:1", Step: kv.StepDial, Err: io.EOF},
		&dcp.FeatureMismatch{Feature: mcbp.FeatureSnappy, Producer: "n0", Consumer: "n1"},
		&ActiveCopy{VB: 7},
		&kv.FeatureError{Missing: []mcbp.Feature{mcbp.FeatureCollections}},
		&kv.ProtocolError{Answer: "an answer", Why: "to no request"},
		&kv.MechanismError{Allowed: []kv.Mechanism{kv.ScramSHA512}, Listed: []kv.Mechanism{kv.Plain}, PlainRefused: true},
		&kv.AuthError{User: "user", Mechanism: kv.ScramSHA1, Err: kv.ErrServerUnproven},
		&kv.EndpointError{Field: "TLS", Err: io.EOF},
		&actors.ShutdownReason{Detail: io.EOF},
		&dcp.CrashError{Role: dcp.RoleProducer, Err: &dcp.SocketClosedError{Err: io.EOF}},
		&dcp.TakeoverTimeout{VBs: []uint16{3}},
	} {
		t.Run(fmt.Sprintf("%T %v", err, err), func(t *testing.T) {
			assert.Equal(t, err, travel(t, err))
		})
	}
}

// What went on on a connection is kept where it crashed.
func TestTheFlightOfACrashStaysAtHome(t *testing.T) {
	crash := &dcp.CrashError{Role: dcp.RoleConsumer, Err: dcp.ErrSocketClosed, Flight: []dcp.FlightEvent{{From: "open", To: "crashed"}}}
	assert.Equal(t, &dcp.CrashError{Role: dcp.RoleConsumer, Err: dcp.ErrSocketClosed}, travel(t, crash))
}

func TestErrorsWithoutACodecKeepTheirTextAndCauses(t *testing.T) {
	inner := &dcp.StreamEndedError{VB: 9, Reason: mcbp.EndTooSlow}
	for _, err := range []error{
		fmt.Errorf("while looking: %w", inner),
		fmt.Errorf("%w, and %w", inner, io.EOF),
		errors.Join(inner, io.EOF),
		fmt.Errorf("a level: %w", fmt.Errorf("and another: %w", inner)),
	} {
		arrived := travel(t, err)
		assert.Equal(t, err.Error(), arrived.Error())
		var found *dcp.StreamEndedError
		require.ErrorAs(t, arrived, &found)
		assert.Equal(t, inner, found)
		assert.Equal(t, Causes(err), Causes(arrived))
	}
	assert.Equal(t, errors.New("words").Error(), travel(t, errors.New("words")).Error())
}

// What a codec cannot read is still an error, with whatever came with it.
func TestErrorDataThatCannotBeReadIsStillAnError(t *testing.T) {
	for _, text := range []string{
		`{}`,
		`{"code":"link"}`,
		`{"code":"link","fields":{"Producer":7}}`,
		`{"code":"link","fields":{},"causes":[]}`,
		`{"code":"unexpected_stream_end","fields":null}`,
		`{"code":"apply","fields":[1,2],"causes":[{"code":"eof"}]}`,
		`{"code":"from the future","text":"words"}`,
	} {
		var data *errorData
		require.NoError(t, json.Unmarshal([]byte(text), &data))
		err := decodeError(data)
		require.Error(t, err)
		assert.NotPanics(t, func() { _ = err.Error(); Causes(err) }, text)
	}
}

func TestAgentRequestsAndAnswersArePlainData(t *testing.T) {
	s := stamp{Epoch: 5, Owner: "rebalance"}
	for _, value := range []any{
		&setState{stamp: s, VB: 1, State: mcbp.VBucketActive, Topology: [][]string{{"n0", "n1"}, {"n2", ""}}},
		&setStream{stamp: s, VB: 1, Producer: "n0"},
		&takeover{stamp: s, VB: 1, Producer: "n0"},
		&deleteCopy{stamp: s, VB: 1},
		&applyStates{stamp: s, Retain: map[uint16]string{1: "n0"}, States: []vbucketState{{VB: 2, State: mcbp.VBucketReplica}}, Delete: []uint16{3}},
		&endStreams{stamp: s, Producers: []string{"n0"}},
		&openStreams{stamp: s, Streams: map[uint16]string{1: "n0"}},
		&admitClients{s}, &releaseOwner{s},
		&prepare{Epoch: 5},
		&readSeqno{VB: 1}, &awaitPersisted{VB: 1, Seqno: 2}, &readEstimate{VB: 1, Consumer: "n1"}, &readHistory{VB: 1}, &query{},
		&readDigest{VB: 1, Data: true}, &digestAnswer{High: 1, UUID: 1 << 63, Digest: "d"},
		&seqnoAnswer{High: 1, Persisted: 2}, &persistedAnswer{Again: true}, &estimateAnswer{Status: "backfilling", Items: 3},
		&historyAnswer{Entries: []kv.FailoverEntry{{UUID: 1, Seqno: 2}}},
		&queryAnswer{Copies: map[uint16]copyInfo{1: {State: mcbp.VBucketActive, UUID: 1 << 63}}, Streams: map[uint16]string{1: "n0"}},
	} {
		text, err := json.Marshal(value)
		require.NoError(t, err)
		again := newOf(value)
		require.NoError(t, json.Unmarshal(text, again))
		assert.Equal(t, value, again)
	}
}
