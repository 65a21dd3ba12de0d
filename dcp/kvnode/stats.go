package kvnode

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// stats appends the answers of one STAT.
type stats struct {
	c *conn
	f mcbp.Frame
}

func (s stats) add(key, value string) {
	p := mcbp.Response(s.f, mcbp.StatusSuccess)
	p.Key, p.Value = []byte(key), []byte(value)
	s.c.reply(p)
}

func (s stats) addUint(key string, value uint64) { s.add(key, strconv.FormatUint(value, 10)) }

// statGroup adds one group's pairs. The arguments are what follows the group's name. Any status but success is the whole
// answer, and nothing may have been added then.
type statGroup func(b *bucket, s stats, args []string) mcbp.Status

// groupNamed returns the group of that name, or nil.
func groupNamed(name string) statGroup {
	switch name {
	case "vbucket":
		return perVBucket(statState)
	case "vbucket-durability-state":
		return perVBucket(statDurabilityState)
	case "vbucket-details":
		return perVBucket(statDetails)
	case "vbucket-seqno":
		return perVBucket(statSeqno)
	case "vbucket-digest":
		return perVBucket(statDigest)
	case "dcp-vbtakeover":
		return statTakeover
	case "dcp":
		return statDCP
	case warmupGroup:
		return statWarmup
	}
	return nil
}

// stat answers STAT: one answer per pair, then one without key and value. The value of the request may be a JSON filter,
// which cannot exclude anything here: all connections belong to the one user.
func (c *conn) stat(b *bucket, f mcbp.Frame) {
	if f.ExtrasLen() != 0 || len(f.Value()) != 0 && !json.Valid(f.Value()) {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	words := strings.Fields(string(f.Key()))
	if len(words) > 0 {
		group := groupNamed(words[0])
		if group == nil {
			c.answer(f, mcbp.StatusKeyNotFound)
			return
		}
		if status := group(b, stats{c, f}, words[1:]); status != mcbp.StatusSuccess {
			c.answer(f, status)
			return
		}
	}
	c.answer(f, mcbp.StatusSuccess)
}

// perVBucket makes a group that takes one vbucket number, or none for all copies of the node. The statistics are taken
// copy by copy, each at one moment.
func perVBucket(one func(v *vbucket, s stats, prefix string)) statGroup {
	return func(b *bucket, s stats, args []string) mcbp.Status {
		if len(args) > 1 {
			return mcbp.StatusInvalid
		}
		if len(args) == 1 {
			v, status := b.parseVBucket(args[0])
			if status == mcbp.StatusSuccess {
				one(v, s, v.statPrefix())
			}
			return status
		}
		for id := range b.vbs {
			if v := b.vbs[id].Load(); v != nil {
				one(v, s, v.statPrefix())
			}
		}
		return mcbp.StatusSuccess
	}
}

// parseVBucket reads a vbucket number that a statistic is asked about.
func (b *bucket) parseVBucket(word string) (*vbucket, mcbp.Status) {
	id, err := strconv.ParseUint(word, 10, 16)
	if err != nil {
		return nil, mcbp.StatusInvalid
	}
	if v := b.vb(uint16(id)); v != nil {
		return v, mcbp.StatusSuccess
	}
	return nil, mcbp.StatusNotMyVBucket
}

func (v *vbucket) statPrefix() string { return "vb_" + strconv.Itoa(int(v.id)) }

// vbucketStats are a copy's numbers, taken at one moment.
type vbucketStats struct {
	state     mcbp.VBucketState
	topology  string
	high      uint64
	persisted uint64
	uuid      uint64
	documents int
	// visible is the newest seqno that is not one of a prepare or an abort.
	visible, prepared, completed uint64
}

func (v *vbucket) stats() vbucketStats {
	v.mu.Lock()
	defer v.mu.Unlock()
	st := vbucketStats{state: v.state, topology: "null", high: v.high, persisted: v.persisted(), uuid: v.log.uuid(), documents: v.documents}
	st.visible, st.prepared, st.completed = v.visible, v.durability.highPrepared, v.durability.highCompleted
	if v.topology != nil {
		st.topology = string(v.topology)
	}
	return st
}

func statState(v *vbucket, s stats, prefix string) { s.add(prefix, v.stats().state.String()) }

func statDurabilityState(v *vbucket, s stats, prefix string) {
	st := v.stats()
	s.add(prefix+":state", st.state.String())
	s.add(prefix+":topology", st.topology)
	s.addUint(prefix+":high_prepared_seqno", st.prepared)
}

func statDetails(v *vbucket, s stats, prefix string) {
	st := v.stats()
	s.add(prefix, st.state.String())
	s.addUint(prefix+":high_seqno", st.high)
	s.addUint(prefix+":persistence_seqno", st.persisted)
	s.addUint(prefix+":uuid", st.uuid)
	s.addUint(prefix+":num_items", uint64(st.documents))
	s.add(prefix+":topology", st.topology)
	s.addUint(prefix+":high_prepared_seqno", st.prepared)
	s.addUint(prefix+":high_completed_seqno", st.completed)
	s.addUint(prefix+":purge_seqno", 0)
	s.addUint(prefix+":max_visible_seqno", st.visible)
}

func statSeqno(v *vbucket, s stats, prefix string) {
	st := v.stats()
	s.addUint(prefix+":high_seqno", st.high)
	s.addUint(prefix+":last_persisted_seqno", st.persisted)
	s.addUint(prefix+":uuid", st.uuid)
	s.addUint(prefix+":high_prepared_seqno", st.prepared)
	s.addUint(prefix+":high_completed_seqno", st.completed)
	s.addUint(prefix+":purge_seqno", 0)
	s.addUint(prefix+":max_visible_seqno", st.visible)
}

// statDCP lists the bucket's DCP connections.
func statDCP(b *bucket, s stats, args []string) mcbp.Status {
	if len(args) != 0 {
		return mcbp.StatusInvalid
	}
	for _, c := range b.connections() {
		end := c.end()
		if end == nil {
			continue // it is being opened
		}
		name := end.connection()
		s.add("eq_dcpq:"+name.Name+":type", name.Role.String())
		s.addUint("eq_dcpq:"+name.Name+":num_streams", uint64(end.streamCount()))
	}
	return mcbp.StatusSuccess
}

// statTakeover tells how far a stream is from having sent everything: the estimate is 0 only if nothing is left.
func statTakeover(b *bucket, s stats, args []string) mcbp.Status {
	if len(args) < 1 || len(args) > 2 {
		return mcbp.StatusInvalid
	}
	v, status := b.parseVBucket(args[0])
	if status != mcbp.StatusSuccess {
		return status
	}
	if len(args) == 1 {
		v.mu.Lock()
		all := uint64(v.history.count)
		v.mu.Unlock()
		s.takeover("does_not_exist", "", all, all, "0")
		return mcbp.StatusSuccess
	}
	name := args[1]
	c := b.connection(name)
	if c == nil {
		s.takeover(b.node.opts.Version.noSuchConnection(), name, 0, 0, "0")
		return mcbp.StatusSuccess
	}
	p, ok := c.end().(*producer)
	if !ok {
		s.takeover(b.node.opts.Version.noSuchConnection(), name, 0, 0, "0")
		return mcbp.StatusSuccess
	}
	stream := p.stream(v.id)
	switch {
	case stream == nil || stream.vb != v:
		s.takeover("stream_does_not_exist", name, 0, 0, "0")
	case stream.ending():
		s.takeover("stream_is_dead", name, 0, 0, "0")
	default:
		status, disk, items, memory := stream.estimate()
		s.takeover(status, name, items, memory, disk)
	}
	return mcbp.StatusSuccess
}

func (s stats) takeover(status, name string, estimate, memory uint64, disk string) {
	s.add("status", status)
	s.addUint("estimate", estimate)
	s.addUint("chk_items", memory)
	s.add("backfillRemaining", disk)
	s.addUint("vb_items", estimate)
	s.addUint("on_disk_deletes", 0)
	if name != "" {
		s.add("name", "eq_dcpq:"+name)
	}
}
