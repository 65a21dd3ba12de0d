package rebalance

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// TestMoveMachine runs the conversations in testdata/move. The commands:
//
//	move vb=17 old=(n0,n1) new=(n3,n1)   a new machine begins ("-" is an undefined member)
//	answer id=1 [high=N persisted=N] [status=S items=N] [again] [error=TEXT] [link=A,B]
//	run until=STEP                        answers everything well until the step begins
//	fire timer=KIND [node=N] [step=S]     a timer of the current step, or of S
//	ended producer=A consumer=B code=N    a stream ends by itself
//	verify [data]                         copies are to be verified, by seqno or by their data
//	digest id=1 high=N uuid=N [digest=S]  answers what a copy's data come to
//	abort                                 the operator aborts this move
//	stop                                  the operator stops the rebalance
func TestMoveMachine(t *testing.T) {
	datadriven.Walk(t, "testdata/move", func(t *testing.T, path string) {
		var play *movePlay
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "move" {
				play = newMovePlay(t, d)
				return play.show(play.machine.begin())
			}
			return play.command(t, d)
		})
	})
}

// movePlay drives one machine and remembers what it asked for.
type movePlay struct {
	machine *moveMachine
	open    []moveEffect
}

func newMovePlay(t *testing.T, d *datadriven.TestData) *movePlay {
	var vb int
	d.ScanArgs(t, "vb", &vb)
	plan, err := planMove(uint16(vb), scanChain(t, d, "old"), scanChain(t, d, "new"))
	require.NoError(t, err)
	return &movePlay{machine: newMoveMachine(plan, stamp{Epoch: 5, Owner: "rebalance"}, MoveLimits{})}
}

func scanChain(t *testing.T, d *datadriven.TestData, key string) vbmap.Chain {
	for _, arg := range d.CmdArgs {
		if arg.Key == key {
			chain := make(vbmap.Chain, len(arg.Vals))
			for i, node := range arg.Vals {
				chain[i] = strings.TrimSuffix(node, "-")
			}
			return chain
		}
	}
	t.Fatalf("no %s chain", key)
	return nil
}

func (p *movePlay) show(effects []moveEffect) string {
	var b strings.Builder
	for _, effect := range effects {
		switch effect.(type) {
		case moveAsk, moveCommit:
			p.open = append(p.open, effect)
		}
		fmt.Fprintln(&b, effect)
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

func (p *movePlay) command(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "answer":
		var id int
		d.ScanArgs(t, "id", &id)
		value, err := scanAnswer(t, d)
		return p.show(p.machine.answered(id, value, err))
	case "verify":
		v := VerifySeqnos
		if d.HasArg("data") {
			v = VerifyData
		}
		p.machine.verifying(v)
		return ""
	case "digest":
		var id, high, uuid int
		var digest string
		d.ScanArgs(t, "id", &id)
		d.ScanArgs(t, "high", &high)
		d.ScanArgs(t, "uuid", &uuid)
		d.MaybeScanArgs(t, "digest", &digest)
		return p.show(p.machine.answered(id, digestAnswer{High: uint64(high), UUID: uint64(uuid), Digest: digest}, nil))
	case "fire":
		var kind, node string
		d.ScanArgs(t, "timer", &kind)
		d.MaybeScanArgs(t, "node", &node)
		step := string(p.machine.step())
		d.MaybeScanArgs(t, "step", &step)
		for k := timerWatchdog; k <= timerProbe; k++ {
			if k.String() == kind {
				return p.show(p.machine.fired(moveTimer{Step: Step(step), Kind: k, Node: node}))
			}
		}
	case "ended":
		var producer, consumer string
		var code int
		d.ScanArgs(t, "producer", &producer)
		d.ScanArgs(t, "consumer", &consumer)
		d.ScanArgs(t, "code", &code)
		cause := &dcp.StreamEndedError{VB: p.machine.plan.VB, Reason: mcbp.EndReason(code)}
		return p.show(p.machine.streamEnded(producer, consumer, cause))
	case "abort":
		effects, possible := p.machine.abort()
		if !possible {
			return "refused\n"
		}
		return p.show(effects)
	case "stop":
		return p.show(p.machine.stop())
	case "run":
		var until string
		d.ScanArgs(t, "until", &until)
		return p.run(t, Step(until))
	}
	t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	return ""
}

// run answers well until the step begins, and shows the effects of that step alone.
func (p *movePlay) run(t *testing.T, until Step) string {
	for range 1000 {
		require.NotEmpty(t, p.open, "the machine ended before step %s", until)
		effect := p.open[0]
		p.open = p.open[1:]
		var answer []moveEffect
		switch e := effect.(type) {
		case moveCommit:
			answer = p.machine.answered(e.ID, nil, nil)
		case moveAsk:
			answer = p.machine.answered(e.ID, goodAnswer(e.Request), nil)
		}
		text := p.show(answer)
		if p.machine.step() == until {
			return text
		}
	}
	t.Fatal("the machine asks for ever")
	return ""
}

func goodAnswer(r agentRequest) any {
	switch r.(type) {
	case readSeqno:
		return seqnoAnswer{High: 42, Persisted: 42}
	case readEstimate:
		return estimateAnswer{Status: "in-memory"}
	case awaitPersisted:
		return persistedAnswer{}
	}
	return nil
}

func scanAnswer(t *testing.T, d *datadriven.TestData) (value any, err error) {
	var text string
	var high, persisted, items int
	d.MaybeScanArgs(t, "high", &high)
	d.MaybeScanArgs(t, "persisted", &persisted)
	d.MaybeScanArgs(t, "items", &items)
	switch {
	case d.HasArg("link"):
		var producer, consumer string
		d.ScanArgs(t, "link", &producer, &consumer)
		err := &dcp.UnexpectedStreamEnd{
			VB: 17, AddOpaque: mcbp.Opaque{0xff, 0, 0x11, 0xff},
			StreamOpaque: mcbp.Opaque{1}, Reason: mcbp.EndStateChanged,
		}
		return nil, &dcp.LinkError{Producer: producer, Consumer: consumer, Err: &dcp.CrashError{Role: dcp.RoleConsumer, Err: err}}
	case d.HasArg("error"):
		d.ScanArgs(t, "error", &text)
		return nil, errors.New(text)
	case d.HasArg("status"):
		d.ScanArgs(t, "status", &text)
		return estimateAnswer{Status: text, Items: uint64(items)}, nil
	case d.HasArg("again"):
		return persistedAnswer{Again: true}, nil
	case d.HasArg("high"):
		return seqnoAnswer{High: uint64(high), Persisted: uint64(persisted)}, nil
	}
	return nil, nil
}
