package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/workload"
)

// Options are the flags that decide what happens. The tags are read by the command line.
type Options struct {
	Nodes      int           `default:"3" placeholder:"N" help:"Embedded nodes at the start (${default})."`
	Add        int           `default:"1" placeholder:"N" help:"Nodes added before the rebalance (${default})."`
	Remove     int           `default:"0" placeholder:"N" help:"Of the first nodes, how many the rebalance empties (${default})."`
	VBuckets   int           `name:"vbuckets" default:"1024" placeholder:"N" help:"Vbuckets of the bucket (${default})."`
	Replicas   int           `default:"1" placeholder:"N" help:"Copies of each vbucket beside the active (${default})."`
	Docs       int           `default:"100000" placeholder:"N" help:"Documents loaded before the rebalance (${default})."`
	ValueSize  int           `default:"256" placeholder:"BYTES" help:"Size of each value (${default})."`
	Writers    int           `default:"2" placeholder:"N" help:"Clients that keep updating documents (${default})."`
	Seed       uint64        `default:"1" placeholder:"N" help:"Decides values, the order of writes and the map (${default})."`
	Fault      string        `default:"none" placeholder:"KIND" help:"Break the first rebalance: none, ${faults} (${default})."`
	FaultVB    int           `name:"fault-vb" default:"-1" placeholder:"VB" help:"The vbucket to break; -1 is the first that fits (${default})."`
	AddTimeout time.Duration `default:"2s" placeholder:"T" help:"Limit for an ADD_STREAM without progress (${default})."`
	Timeout    time.Duration `default:"5m" placeholder:"T" help:"Limit for everything before --hold (${default})."`
}

// NoFault is the value of Options.Fault that breaks nothing.
const NoFault = "none"

// Ranges of the flags. The upper ends are far above what one machine can run; they catch slips of the keyboard.
const (
	maxNodes      = 64
	maxVBuckets   = 32768 // client hashes have 15 bits
	maxReplicas   = 3
	maxDocs       = 10_000_000
	maxValueSize  = 20 << 20
	maxWriters    = 256
	minAddTimeout = 100 * time.Millisecond
	minTimeout    = time.Second
	maxTimeout    = 24 * time.Hour
)

// FlagError is a value that a flag cannot have.
type FlagError struct {
	// Flag is the name with its dashes, Value the text that was given, Why what is wrong with it.
	Flag, Value, Why string
}

func (e *FlagError) Error() string { return fmt.Sprintf("%s %s: %s", e.Flag, e.Value, e.Why) }

// FlagErrors are all that is wrong, in the order of the flags; never empty.
type FlagErrors []*FlagError

func (e FlagErrors) Error() string {
	texts := make([]string, len(e))
	for i, flag := range e {
		texts[i] = flag.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap lets errors.As find a single flag.
func (e FlagErrors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, flag := range e {
		errs[i] = flag
	}
	return errs
}

// Faults are the names of the faults that can be asked for.
func Faults() []string {
	var names []string
	for _, kind := range fault.Kinds() {
		names = append(names, kind.String())
	}
	return names
}

// Check looks at every flag alone and then their combinations. It returns nil or [FlagErrors].
func (o *Options) Check() error {
	found := o.ranges()
	if len(found) == 0 {
		found = o.combinations()
	}
	if len(found) == 0 {
		return nil
	}
	return found
}

func (o *Options) ranges() FlagErrors {
	var found FlagErrors
	within := func(flag string, value, low, high int) {
		if value < low || value > high {
			found = append(found, &FlagError{flag, fmt.Sprint(value), fmt.Sprintf("must be between %d and %d", low, high)})
		}
	}
	between := func(flag string, value, low, high time.Duration) {
		if value < low || value > high {
			found = append(found, &FlagError{flag, value.String(), fmt.Sprintf("must be between %v and %v", low, high)})
		}
	}
	within("--nodes", o.Nodes, 1, maxNodes)
	within("--add", o.Add, 0, maxNodes)
	within("--remove", o.Remove, 0, maxNodes)
	within("--vbuckets", o.VBuckets, 1, maxVBuckets)
	within("--replicas", o.Replicas, 0, maxReplicas)
	within("--docs", o.Docs, 1, maxDocs)
	within("--value-size", o.ValueSize, workload.MinValueSize, maxValueSize)
	within("--writers", o.Writers, 0, maxWriters)
	if o.Fault != NoFault {
		if _, err := fault.ParseKind(o.Fault); err != nil {
			found = append(found, &FlagError{
				"--fault", o.Fault,
				fmt.Sprintf("unknown kind; there are %s, %s", NoFault, strings.Join(Faults(), ", ")),
			})
		}
	}
	within("--fault-vb", o.FaultVB, -1, maxVBuckets-1)
	between("--add-timeout", o.AddTimeout, minAddTimeout, maxTimeout)
	between("--timeout", o.Timeout, minTimeout, maxTimeout)
	return found
}

// combinations assumes that ranges found nothing.
func (o *Options) combinations() FlagErrors {
	var found FlagErrors
	never := func(wrong bool, flag string, value any, why string, args ...any) {
		if wrong {
			found = append(found, &FlagError{flag, fmt.Sprint(value), fmt.Sprintf(why, args...)})
		}
	}
	never(o.Nodes+o.Add > maxNodes, "--add", o.Add, "with --nodes %d that is over %d nodes", o.Nodes, maxNodes)
	never(o.Remove > o.Nodes, "--remove", o.Remove, "there are only --nodes %d to remove from", o.Nodes)
	never(o.Replicas >= o.Nodes, "--replicas", o.Replicas, "needs at least %d nodes, there are --nodes %d", o.Replicas+1, o.Nodes)
	left := o.Nodes + o.Add - o.Remove
	never(o.Remove <= o.Nodes && o.Replicas < o.Nodes && left <= o.Replicas, "--remove", o.Remove,
		"leaves %d nodes, --replicas %d needs at least %d", left, o.Replicas, o.Replicas+1)
	never(o.Writers > o.Docs, "--writers", o.Writers, "each needs documents of its own, there are only --docs %d", o.Docs)
	never(o.AddTimeout >= o.Timeout, "--add-timeout", o.AddTimeout, "must be shorter than --timeout %v", o.Timeout)

	if o.Fault == NoFault {
		never(o.FaultVB != -1, "--fault-vb", o.FaultVB, "without --fault there is nothing to break")
		return found
	}
	never(o.FaultVB >= o.VBuckets, "--fault-vb", o.FaultVB, "there are only --vbuckets %d", o.VBuckets)
	never(o.Add == 0 && o.Remove == 0, "--fault", o.Fault, "with --add 0 and --remove 0 nothing moves, so nothing can break")
	never(o.VBuckets < o.Nodes+o.Add, "--fault", o.Fault,
		"with --vbuckets %d on %d nodes it is not certain that anything moves", o.VBuckets, o.Nodes+o.Add)
	return found
}

// nodeNames are n0, n1, …, the added ones last.
func (o *Options) nodeNames() []string {
	names := make([]string, o.Nodes+o.Add)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i)
	}
	return names
}

// kept are the nodes that shall hold data after the rebalance: all but the last Remove of the first ones.
func (o *Options) kept() []string {
	return slices.Delete(o.nodeNames(), o.Nodes-o.Remove, o.Nodes)
}
