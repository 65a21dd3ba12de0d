package store

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// SchemaVersion is the version of the documents that this package writes. It reads this one only: an older store is
// converted before, a newer one belongs to a newer program.
const SchemaVersion = 1

// BucketDoc is what is kept of one bucket.
type BucketDoc struct {
	// Name and UUID identify the bucket; a bucket that is created again under its name has another UUID.
	Name, UUID string
	// VBuckets is fixed for the bucket's life; the map has that many chains, or none yet.
	VBuckets int
	// Replicas is how many copies each vbucket shall have besides the active.
	Replicas int
	// Servers is the nodes that hold the bucket now, those that are joining or leaving included.
	Servers []string
	// Map is in force; nil until the first one was made.
	Map vbmap.Map
	// Target is the fast-forward map: what the rebalance that runs, or that ended half-way, wanted. Nil if there is
	// none.
	Target vbmap.Map
	// Epoch is the highest epoch that claimed the bucket; writes of lower ones are refused.
	Epoch uint64
	// Revision grows with every write. Set by the store; ignored in what is written.
	Revision uint64
}

// Clone is a copy that shares nothing with d.
func (d BucketDoc) Clone() BucketDoc {
	d.Servers = append([]string(nil), d.Servers...)
	d.Map = d.Map.Clone()
	d.Target = d.Target.Clone()
	return d
}

// validate says what makes the document unfit to be stored.
func (d BucketDoc) validate() error {
	switch {
	case d.Name == "":
		return errors.New("bucket without a name")
	case d.VBuckets < 1:
		return fmt.Errorf("%d vbuckets", d.VBuckets)
	case d.Replicas < 0:
		return fmt.Errorf("%d replicas", d.Replicas)
	}
	rules := vbmap.Rules{VBuckets: d.VBuckets}
	if d.Map != nil {
		if err := vbmap.Validate(d.Map, rules); err != nil {
			return fmt.Errorf("map: %w", err)
		}
	}
	if d.Target != nil {
		if err := vbmap.Validate(d.Target, rules); err != nil {
			return fmt.Errorf("target: %w", err)
		}
	}
	return nil
}

// CorruptError is a document that cannot be read.
type CorruptError struct {
	Key string
	Err error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("store: %q cannot be read: %v", e.Key, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// SchemaError is a document, or a whole store, of a version that this program does not know.
type SchemaError struct {
	Key   string
	Found int
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("store: %q has schema version %d, this program knows %d", e.Key, e.Found, SchemaVersion)
}

// document is the stored form of a bucket. Chains name nodes by their place in Nodes, so that a map of 65 536 vbuckets
// stays well below what stores accept as one value; -1 is nobody.
type document struct {
	Schema   int      `json:"schema"`
	Name     string   `json:"name"`
	UUID     string   `json:"uuid"`
	VBuckets int      `json:"vbuckets"`
	Replicas int      `json:"replicas"`
	Epoch    uint64   `json:"epoch"`
	Nodes    []string `json:"nodes"`
	Servers  []int    `json:"servers"`
	Map      [][]int  `json:"map,omitempty"`
	Target   [][]int  `json:"target,omitempty"`
}

const nobody = -1

func encode(d BucketDoc) ([]byte, error) {
	names := places{}
	stored := document{
		Schema: SchemaVersion, Name: d.Name, UUID: d.UUID, VBuckets: d.VBuckets, Replicas: d.Replicas, Epoch: d.Epoch,
		Servers: names.chain(d.Servers), Map: names.chains(d.Map), Target: names.chains(d.Target),
	}
	stored.Nodes = names.list()
	return json.Marshal(stored)
}

// places numbers node names in the order in which they come up.
type places map[string]int

func (p places) chain(nodes []string) []int {
	numbers := make([]int, len(nodes))
	for i, node := range nodes {
		if node == vbmap.Undefined {
			numbers[i] = nobody
			continue
		}
		number, ok := p[node]
		if !ok {
			number = len(p)
			p[node] = number
		}
		numbers[i] = number
	}
	return numbers
}

func (p places) chains(m vbmap.Map) [][]int {
	if m == nil {
		return nil
	}
	chains := make([][]int, len(m))
	for vb, chain := range m {
		chains[vb] = p.chain(chain)
	}
	return chains
}

func (p places) list() []string {
	names := make([]string, len(p))
	for name, number := range p {
		names[number] = name
	}
	return names
}

func decode(key string, value []byte, revision uint64) (BucketDoc, error) {
	corrupt := func(err error) (BucketDoc, error) { return BucketDoc{}, &CorruptError{Key: key, Err: err} }
	var stored document
	if err := json.Unmarshal(value, &stored); err != nil {
		return corrupt(err)
	}
	if stored.Schema != SchemaVersion {
		return BucketDoc{}, &SchemaError{Key: key, Found: stored.Schema}
	}
	d := BucketDoc{
		Name: stored.Name, UUID: stored.UUID, VBuckets: stored.VBuckets, Replicas: stored.Replicas, Epoch: stored.Epoch,
		Revision: revision,
	}
	var err error
	if d.Servers, err = named(stored.Servers, stored.Nodes); err != nil {
		return corrupt(fmt.Errorf("servers: %w", err))
	}
	if d.Map, err = namedMap(stored.Map, stored.Nodes); err != nil {
		return corrupt(fmt.Errorf("map: %w", err))
	}
	if d.Target, err = namedMap(stored.Target, stored.Nodes); err != nil {
		return corrupt(fmt.Errorf("target: %w", err))
	}
	if err := d.validate(); err != nil {
		return corrupt(err)
	}
	return d, nil
}

func named(numbers []int, nodes []string) ([]string, error) {
	names := make([]string, len(numbers))
	for i, number := range numbers {
		switch {
		case number == nobody:
			names[i] = vbmap.Undefined
		case number < 0 || number >= len(nodes):
			return nil, fmt.Errorf("node number %d of %d", number, len(nodes))
		default:
			names[i] = nodes[number]
		}
	}
	return names, nil
}

func namedMap(chains [][]int, nodes []string) (vbmap.Map, error) {
	if chains == nil {
		return nil, nil
	}
	m := make(vbmap.Map, len(chains))
	for vb, numbers := range chains {
		names, err := named(numbers, nodes)
		if err != nil {
			return nil, fmt.Errorf("vb %d: %w", vb, err)
		}
		m[vb] = names
	}
	return m, nil
}
