package kv

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Stats asks for a group of statistics and calls fn for each, in the order of the node, in the calling goroutine. A fn that
// takes too long while the node sends too much fails the call with [ErrBacklog]; nobody else waits for it.
func (c *Client) Stats(ctx context.Context, group string, fn func(key, value string)) error {
	return c.stats(ctx, &mcbp.Packet{Opcode: mcbp.OpStat, Key: []byte(group)}, func(key, value string) error {
		fn(key, value)
		return nil
	})
}

// stats ends with the first error of fn; the answers that still come are dropped.
func (c *Client) stats(ctx context.Context, p *mcbp.Packet, fn func(key, value string) error) error {
	call, opaque, err := c.begin(ctx, p, true)
	if err != nil {
		return fmt.Errorf("%v %q: %w", p.Opcode, p.Key, err)
	}
	for {
		answers, err := c.wait(ctx, call, opaque)
		if err != nil {
			return fmt.Errorf("%v %q: %w", p.Opcode, p.Key, err)
		}
		for _, f := range answers {
			switch {
			case f.Status() != mcbp.StatusSuccess:
				return statusError(p, f)
			case f.KeyLen() == 0:
				return nil
			}
			if err := fn(string(f.Key()), string(f.Value())); err != nil {
				c.abandon(call, opaque)
				return fmt.Errorf("%v %q: %w", p.Opcode, p.Key, err)
			}
		}
	}
}

// vbStats asks for a group whose keys are vb_N (then name is empty) or vb_N:name; others are passed over.
func (c *Client) vbStats(ctx context.Context, group string, vb uint16, fn func(vb uint16, name, value string) error) error {
	p := &mcbp.Packet{Opcode: mcbp.OpStat, Key: []byte(group), VBucket: vb}
	return c.stats(ctx, p, func(key, value string) error {
		vb, name, ok := cutVBucket(key)
		if !ok {
			return nil
		}
		if err := fn(vb, name, value); err != nil {
			return fmt.Errorf("%s=%q: %w", key, value, err)
		}
		return nil
	})
}

func cutVBucket(key string) (vb uint16, name string, ok bool) {
	number, ok := strings.CutPrefix(key, "vb_")
	number, name, _ = strings.Cut(number, ":")
	n, err := strconv.ParseUint(number, 10, 16)
	return uint16(n), name, ok && err == nil
}

// VBucketInfo is one copy of a vbucket, as `vbucket-details` describes it.
type VBucketInfo struct {
	State mcbp.VBucketState
	// Topology is that of the last SET_VBUCKET: one or two chains of node names, "" for an undefined member; nil if none.
	Topology          [][]string
	HighSeqno         uint64
	PersistedSeqno    uint64
	HighPreparedSeqno uint64
	UUID              uint64
	NumItems          uint64
}

// VBuckets describes every vbucket that the node has in the selected bucket.
func (c *Client) VBuckets(ctx context.Context) (map[uint16]VBucketInfo, error) {
	infos := make(map[uint16]VBucketInfo)
	err := c.vbStats(ctx, "vbucket-details", 0, func(vb uint16, name, value string) (err error) {
		info := infos[vb]
		switch name {
		case "", "state":
			info.State, err = mcbp.ParseVBucketState(value)
		case "topology":
			info.Topology, err = parseTopology(value)
		case "high_seqno":
			info.HighSeqno, err = parseNumber(value)
		case "persistence_seqno":
			info.PersistedSeqno, err = parseNumber(value)
		case "high_prepared_seqno":
			info.HighPreparedSeqno, err = parseNumber(value)
		case "uuid":
			info.UUID, err = parseNumber(value)
		case "num_items":
			info.NumItems, err = parseNumber(value)
		default:
			return nil
		}
		infos[vb] = info
		return err
	})
	if err != nil {
		return nil, err
	}
	return infos, nil
}

// SeqnoInfo is how far one copy of a vbucket has come, as `vbucket-seqno` says.
type SeqnoInfo struct {
	High, Persisted, HighPrepared uint64
	UUID                          uint64
}

// VBucketSeqno asks how far one vbucket has come. A vbucket that is not on the node is a [StatusError] with
// mcbp.StatusNotMyVBucket; High or Persisted that it does not tell is a [ProtocolError].
func (c *Client) VBucketSeqno(ctx context.Context, vb uint16) (SeqnoInfo, error) {
	var info SeqnoInfo
	group, told := "vbucket-seqno "+strconv.Itoa(int(vb)), map[string]bool{}
	err := c.vbStats(ctx, group, vb, func(of uint16, name, value string) (err error) {
		if of != vb {
			return nil
		}
		told[name] = true
		switch name {
		case "high_seqno":
			info.High, err = parseNumber(value)
		case "last_persisted_seqno":
			info.Persisted, err = parseNumber(value)
		case "high_prepared_seqno":
			info.HighPrepared, err = parseNumber(value)
		case "uuid":
			info.UUID, err = parseNumber(value)
		}
		return err
	})
	if err != nil {
		return info, err
	}
	return info, untold(group, told, "high_seqno", "last_persisted_seqno")
}

// untold is what a node should have told and has not: that is not 0, and nobody may take it for 0.
func untold(group string, told map[string]bool, names ...string) error {
	for _, name := range names {
		if !told[name] {
			return &ProtocolError{Answer: fmt.Sprintf("%v %q", mcbp.OpStat, group), Why: "the node does not tell " + name}
		}
	}
	return nil
}

// Estimate is how much of a vbucket a DCP connection has still to send.
type Estimate struct {
	// Status is the node's word. Only while it names a live stream do the Items mean anything: a connection or stream that
	// does not exist has an estimate of 0 as well (dcp-wire §12).
	Status string
	Items  uint64
}

// TakeoverEstimate asks the producer how much the DCP connection conn has still to send of vb. A vbucket that is not on the
// node is a [StatusError] with mcbp.StatusNotMyVBucket, an answer that lacks one of the two a [ProtocolError].
func (c *Client) TakeoverEstimate(ctx context.Context, vb uint16, conn string) (Estimate, error) {
	var e Estimate
	group, told := fmt.Sprintf("dcp-vbtakeover %d %s", vb, conn), map[string]bool{}
	p := &mcbp.Packet{Opcode: mcbp.OpStat, Key: []byte(group), VBucket: vb}
	err := c.stats(ctx, p, func(key, value string) (err error) {
		told[key] = true
		switch key {
		case "status":
			e.Status = value
		case "estimate":
			e.Items, err = parseNumber(value)
		}
		return err
	})
	if err != nil {
		return e, err
	}
	return e, untold(group, told, "status", "estimate")
}

// DCPConnection is one DCP connection that a node has.
type DCPConnection struct {
	Name string
	// Type is "consumer" or "producer": the node's role.
	Type string
}

// DCPConnections lists the node's DCP connections of the selected bucket.
func (c *Client) DCPConnections(ctx context.Context) ([]DCPConnection, error) {
	var list []DCPConnection
	err := c.Stats(ctx, "dcp", func(key, value string) {
		name, ok := strings.CutPrefix(key, "eq_dcpq:")
		if !ok {
			return
		}
		if name, ok = strings.CutSuffix(name, ":type"); ok {
			list = append(list, DCPConnection{Name: name, Type: value})
		}
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func parseNumber(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }

func parseTopology(s string) ([][]string, error) {
	if s == "" {
		return nil, nil
	}
	var chains [][]string // null leaves a member empty
	if err := json.Unmarshal([]byte(s), &chains); err != nil {
		return nil, err
	}
	return chains, nil
}
