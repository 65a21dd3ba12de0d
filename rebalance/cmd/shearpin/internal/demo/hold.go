package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// Held says how to reach a cluster that stays up after its run.
type Held struct {
	Nodes    []HeldNode `json:"nodes"`
	User     string     `json:"user"`
	Password string     `json:"password"`
	Bucket   string     `json:"bucket"`
	// Map has one chain per vbucket: node names, the active first.
	Map vbmap.Map `json:"map"`
	// Acked is a file with a line for every document: its key, the value that was acknowledged last, and the values of
	// later writes that were never answered, one of which may be found instead. It is removed at the end.
	Acked string `json:"acked"`
}

// Format names the user and the nodes, for every verb. Only the encoder is told the password.
func (h Held) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "held for %s: %v", h.User, h.Nodes) }

// HeldNode is one node.
type HeldNode struct {
	Name string `json:"name"`
	Addr string `json:"addr"`
}

// ackedLine is one line of the file [Held].Acked.
type ackedLine struct {
	Key        string   `json:"key"`
	Value      string   `json:"value"`
	Unanswered []string `json:"unanswered,omitempty"`
}

// ErrNotUp says that there is no cluster to hold: it did not come up, or has been closed.
var ErrNotUp = errors.New("no cluster is up")

// Held describes the cluster that Run has left up, and writes the file of acknowledged documents.
func (d *Demo) Held(ctx context.Context) (*Held, error) {
	if d.cluster == nil {
		return nil, ErrNotUp
	}
	chains, err := d.cluster.Map(ctx, bucket)
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp("", "shearpin-demo-*.jsonl")
	if err != nil {
		return nil, fmt.Errorf("file of acknowledged documents: %w", err)
	}
	d.acked = file.Name()
	if err := errors.Join(d.writeAcked(file), file.Close()); err != nil {
		return nil, fmt.Errorf("file of acknowledged documents: %w", err)
	}
	held := &Held{
		User: d.credentials.User, Password: d.credentials.Password,
		Bucket: bucket, Map: chains, Acked: d.acked,
	}
	for _, node := range d.nodes {
		held.Nodes = append(held.Nodes, HeldNode{Name: node.Name(), Addr: node.Addr()})
	}
	return held, nil
}

// writeAcked writes a line for every document of which a version was acknowledged.
func (d *Demo) writeAcked(w io.Writer) error {
	buffered := bufio.NewWriter(w)
	lines := json.NewEncoder(buffered)
	ledger, content := d.corpus.Ledger, d.corpus.Content
	for doc := range ledger.Docs() {
		acked := ledger.Acknowledged(doc)
		if acked == 0 {
			continue
		}
		line := ackedLine{Key: content.Key(doc), Value: string(content.Value(doc, acked))}
		if from, to, ok := ledger.Unanswered(doc); ok {
			for version := from; version <= to; version++ {
				line.Unanswered = append(line.Unanswered, string(content.Value(doc, version)))
			}
		}
		if err := lines.Encode(line); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

// removeAcked deletes the file of acknowledged documents, if there is one.
func (d *Demo) removeAcked() error {
	if d.acked == "" {
		return nil
	}
	err := os.Remove(d.acked)
	d.acked = ""
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
