package kv

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// SetVBucket sets the state of a vbucket and creates it if it is missing. topology is one chain of node names, active first,
// or two while a move is under way; "" stands for an undefined member. nil sends none, which is right for every state but
// active.
//
// Making a vbucket active that is not adds an entry to its failover log. Streams from and to the vbucket may end
// (dcp-wire §10.4).
func (c *Client) SetVBucket(ctx context.Context, vb uint16, state mcbp.VBucketState, topology [][]string) error {
	p := &mcbp.Packet{Opcode: mcbp.OpSetVBucket, VBucket: vb, Extras: []byte{byte(state)}}
	if topology != nil {
		value, err := encodeTopology(topology)
		if err != nil {
			return err
		}
		p.Value, p.Datatype = value, mcbp.DatatypeJSON
	}
	_, err := c.request(ctx, p)
	return err
}

func encodeTopology(topology [][]string) ([]byte, error) {
	chains := make([][]*string, len(topology))
	for i, chain := range topology {
		chains[i] = make([]*string, len(chain))
		for j := range chain {
			if chain[j] != "" {
				chains[i][j] = &chain[j]
			}
		}
	}
	return json.Marshal(map[string]any{"topology": chains})
}

// VBucketState is the state of one vbucket, mcbp.VBucketMissing if the node does not have it. A state that does not exist is a
// [ProtocolError].
func (c *Client) VBucketState(ctx context.Context, vb uint16) (mcbp.VBucketState, error) {
	f, err := c.request(ctx, &mcbp.Packet{Opcode: mcbp.OpGetVBucket, VBucket: vb})
	switch {
	case errors.Is(err, mcbp.StatusNotMyVBucket):
		return mcbp.VBucketMissing, nil
	case err != nil:
		return mcbp.VBucketMissing, err
	case len(f.Value()) != 4:
		return mcbp.VBucketMissing, &ProtocolError{Answer: f.String(), Why: "length of a vbucket's state"}
	}
	state := binary.BigEndian.Uint32(f.Value())
	if state < uint32(mcbp.VBucketActive) || state > uint32(mcbp.VBucketDead) {
		return mcbp.VBucketMissing, &ProtocolError{Answer: f.String(), Why: fmt.Sprintf("vbucket state %d", state)}
	}
	return mcbp.VBucketState(state), nil
}

// DeleteVBucket deletes a vbucket; one that is missing is no error. The node answers before its files are gone.
func (c *Client) DeleteVBucket(ctx context.Context, vb uint16) error {
	_, err := c.request(ctx, &mcbp.Packet{Opcode: mcbp.OpDelVBucket, VBucket: vb})
	if errors.Is(err, mcbp.StatusNotMyVBucket) {
		return nil
	}
	return err
}

// SeqnoPersistence waits until everything up to seqno is on the node's disk. It asks once: if the node gives up waiting,
// that is a [StatusError] with mcbp.StatusTemporaryFailure, and asking again is right.
func (c *Client) SeqnoPersistence(ctx context.Context, vb uint16, seqno uint64) error {
	_, err := c.request(ctx, &mcbp.Packet{
		Opcode: mcbp.OpSeqnoPersistence, VBucket: vb, Extras: binary.BigEndian.AppendUint64(nil, seqno),
	})
	return err
}

// FailoverEntry is one branch of a vbucket's history: from Seqno on it was written under UUID.
type FailoverEntry = mcbp.FailoverEntry

// FailoverLog is a vbucket's history, the newest entry first.
func (c *Client) FailoverLog(ctx context.Context, vb uint16) ([]FailoverEntry, error) {
	f, err := c.request(ctx, &mcbp.Packet{Opcode: mcbp.OpGetFailoverLog, VBucket: vb})
	if err != nil {
		return nil, err
	}
	log, err := mcbp.ParseFailoverLog(f.Value())
	if err != nil {
		return nil, &ProtocolError{Answer: f.String(), Why: err.Error()}
	}
	return log, nil
}

// AllVBSeqnos is the high seqno of every vbucket of the node that is active, replica or pending.
func (c *Client) AllVBSeqnos(ctx context.Context) (map[uint16]uint64, error) {
	f, err := c.request(ctx, &mcbp.Packet{Opcode: mcbp.OpGetAllVBSeqnos})
	if err != nil {
		return nil, err
	}
	list, err := mcbp.ParseVBSeqnos(f.Value())
	if err != nil {
		return nil, &ProtocolError{Answer: f.String(), Why: err.Error()}
	}
	seqnos := make(map[uint16]uint64, len(list))
	for _, s := range list {
		seqnos[s.VBucket] = s.Seqno
	}
	return seqnos, nil
}
