package kvnode_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// processDir is the variable that makes this test binary a node on that directory instead. The node tells its address
// and serves until its input ends or it is killed.
const processDir = "SHEARPIN_TEST_KVNODE_DIR"

func beNode(dir string) error {
	n, err := kvnode.Start(kvnode.Options{Name: "n0", Dir: dir})
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, n.Addr())
	_, _ = bufio.NewReader(os.Stdin).ReadString(0)
	return n.Close()
}

// process is a node in a process of its own.
type process struct {
	cmd  *exec.Cmd
	addr string
}

func startProcess(t *testing.T, dir string) *process {
	t.Helper()
	p := &process{cmd: exec.CommandContext(t.Context(), os.Args[0])}
	p.cmd.Env = append(os.Environ(), processDir+"="+dir)
	p.cmd.Stderr = os.Stderr
	_, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	p.addr = strings.TrimSpace(line)
	return p
}

func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

func (p *process) connect(t *testing.T) *client {
	t.Helper()
	socket, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.addr)
	require.NoError(t, err)
	c := &client{t: t, socket: socket}
	t.Cleanup(func() { socket.Close() })
	return c
}

// A process that is killed while it writes leaves a directory that the next one goes on with: it has whatever was said to
// be on disk.
func TestAProcessThatIsKilledKeepsWhatIsOnDisk(t *testing.T) {
	dir := t.TempDir()
	durable := map[string]uint64{} // the seqnos of keys
	for round := range 3 {
		p := startProcess(t, dir)
		c := p.connect(t)
		if round == 0 {
			c.ok(&mcbp.Packet{Opcode: mcbp.OpCreateBucket, Key: []byte(testBucket), Value: []byte("ep.so\x00max_vbuckets=8")})
		}
		c.ok(&mcbp.Packet{Opcode: mcbp.OpSelectBucket, Key: []byte(testBucket)})
		eventually(t, "warm", func() bool {
			pairs, _ := c.stats("warmup")
			return pairs["ep_warmup_thread"] == "complete"
		})
		if round == 0 {
			c.setVBucket(7, mcbp.VBucketActive)
		}
		assert.Len(t, c.failoverLog(7), 1+round, "one entry more after each kill")
		high := statUint(t, c, "vbucket-seqno", 7, "high_seqno")
		for key, seqno := range durable {
			require.Equal(t, mcbp.StatusSuccess, c.get(7, key).Status(), "round %d, key %s of seqno %d", round, key, seqno)
			require.GreaterOrEqual(t, high, seqno)
		}
		if round == 0 {
			_, err := kvnode.Start(kvnode.Options{Name: "n1", Dir: dir})
			require.ErrorIs(t, err, kvnode.ErrDirectoryInUse)
		}

		ask := func(p *mcbp.Packet) mcbp.Frame {
			c.write(p.Frame())
			return c.read()
		}
		for range 20 {
			high++
			key := fmt.Sprint("k", high)
			require.Equal(t, mcbp.StatusSuccess, ask(setPacket(7, key, "v")).Status())
			durable[key] = high
		}
		extras := binary.BigEndian.AppendUint64(nil, high)
		require.Equal(t, mcbp.StatusSuccess, ask(&mcbp.Packet{Opcode: mcbp.OpSeqnoPersistence, VBucket: 7, Extras: extras}).Status())
		for i := range 10 { // nobody waits for these
			c.write(setPacket(7, fmt.Sprint("more", i), "v").Frame())
		}
		p.kill()
	}
}
