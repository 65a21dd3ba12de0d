package store_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shearpin/shearpin/rebalance/store"
)

var (
	kills    = flag.Int("kills", 20, "how often TestKilledWriters kills the process that writes")
	killSeed = flag.Uint64("kills.seed", 0, "seed of the moments at which TestKilledWriters kills; 0 takes any")
)

// writerEnv names the file that this binary, started as a child of its own tests, shall write to until it is killed.
const writerEnv = "SHEARPIN_STORE_TEST_WRITES_TO"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		writeUntilKilled(os.Stdout, path)
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	// childWriters write at the same time, so that commits hold several writes.
	childWriters = 4
	// childKeeps is how many of its keys each of them keeps; older ones it deletes.
	childKeeps = 5
)

// writeUntilKilled tells what it is about to do and what was acknowledged.
func writeUntilKilled(out io.Writer, path string) {
	fmt.Fprintln(out, "opening")
	s, err := store.OpenFile(path)
	if err != nil {
		fmt.Fprintln(out, "failed", err)
		return
	}
	fmt.Fprintln(out, "open")
	var running sync.WaitGroup
	for writer := range childWriters {
		running.Go(func() { fmt.Fprintln(out, "failed", writeKeys(out, s, writer)) })
	}
	running.Wait()
}

// writeKeys writes keys with growing numbers and deletes old ones, as if it had never been interrupted.
func writeKeys(out io.Writer, s store.Store, writer int) error {
	ctx := context.Background()
	entries, err := s.List(ctx, fmt.Sprintf("%d/", writer))
	if err != nil {
		return err
	}
	number := 0
	if len(entries) > 0 {
		if _, err := fmt.Sscanf(entries[len(entries)-1].Key, "%d/%d", &writer, &number); err != nil {
			return err
		}
	}
	for {
		number++
		key := keyOf(writer, number)
		revision, err := s.CompareAndSet(ctx, key, []byte(valueOf(key)), 0)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, "set", key, revision)
		old := keyOf(writer, number-childKeeps)
		_, revision, err = s.Get(ctx, old)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		fmt.Fprintln(out, "deleting", old)
		if err := s.Delete(ctx, old, revision); err != nil {
			return err
		}
		fmt.Fprintln(out, "deleted", old)
	}
}

func keyOf(writer, number int) string { return fmt.Sprintf("%d/%08d", writer, number) }

// valueOf is some kilobytes for some keys, so that commits take pages of their own.
func valueOf(key string) string { return strings.Repeat(key+" ", int(key[len(key)-1]-'0')*100+1) }

// acknowledged is what the parent knows: of keys that are in neither map it knows nothing.
type acknowledged struct {
	set     map[string]uint64 // revision
	deleted map[string]bool
	highest uint64
}

// hear takes a line of the child's.
func (a *acknowledged) hear(t *testing.T, line string) {
	t.Helper()
	var (
		key      string
		revision uint64
	)
	switch word, rest, _ := strings.Cut(line, " "); word {
	case "set":
		_, err := fmt.Sscanf(rest, "%s %d", &key, &revision)
		require.NoError(t, err, line)
		a.set[key], a.highest = revision, max(a.highest, revision)
	case "deleting":
		delete(a.set, rest)
	case "deleted":
		a.deleted[rest] = true
	case "opening", "open":
	default:
		require.Fail(t, "the child", line)
	}
}

// A process that writes is killed at random moments, its first ones among them, and started again.
func TestKilledWriters(t *testing.T) {
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-kills.seed=%d", seed)
	moments := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "store")
	known := &acknowledged{set: map[string]uint64{}, deleted: map[string]bool{}}
	for round := range *kills {
		lines := moments.IntN(300)
		if round%4 == 0 {
			lines = moments.IntN(3) // while it opens the file
		}
		if round%8 == 0 { // and makes it
			path = filepath.Join(t.TempDir(), "store")
			known = &acknowledged{set: map[string]uint64{}, deleted: map[string]bool{}}
		}
		killAfter(t, path, lines, known)
		checkAfterKill(t, path, known)
	}
}

// killAfter starts a writer, kills it when it has said so many lines, and takes in all that it said.
func killAfter(t *testing.T, path string, lines int, known *acknowledged) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), writerEnv+"="+path)
	said, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	heard, scanner := 0, bufio.NewScanner(said)
	for heard < lines && scanner.Scan() {
		heard++
		known.hear(t, scanner.Text())
	}
	require.NoError(t, child.Process.Kill())
	for scanner.Scan() {
		known.hear(t, scanner.Text())
	}
	require.NoError(t, scanner.Err())
	err = child.Wait()
	var ended *exec.ExitError
	require.ErrorAs(t, err, &ended)
	require.False(t, ended.Exited(), "it was killed: %v", err)
}

// checkAfterKill opens the file and compares.
func checkAfterKill(t *testing.T, path string, known *acknowledged) {
	t.Helper()
	s, err := store.OpenFile(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	entries, err := s.List(t.Context(), "")
	require.NoError(t, err)
	found := map[string]uint64{}
	for _, entry := range entries {
		found[entry.Key] = entry.Revision
		assert.False(t, known.deleted[entry.Key], "%s was deleted", entry.Key)
		if entry.Key != "mark" {
			assert.Equal(t, valueOf(entry.Key), string(entry.Value), "%s is whole", entry.Key)
		}
	}
	for key, revision := range known.set {
		assert.Equal(t, revision, found[key], "%s was acknowledged", key)
	}
	mark := set(t, s, "mark", "opened")
	assert.Greater(t, mark, known.highest, "no revision comes again")
	known.highest = mark
	if !t.Failed() {
		assert.Equal(t, []string{filepath.Base(path)}, namesIn(t, filepath.Dir(path)), "nothing is left of what was not finished")
	}
}

func TestASecondProcessIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := openFile(t, path)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), writerEnv+"="+path)
	said, err := child.Output()
	require.NoError(t, err)
	assert.Contains(t, string(said), fmt.Sprintf("failed %s: %v", path, store.ErrInUse))
	set(t, s, "key", "the first goes on")
}
