package demo

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// defaults are the flags' defaults; the command line's own test checks that they agree.
func defaults() Options {
	return Options{
		Nodes: 3, Add: 1, VBuckets: 1024, Replicas: 1, Docs: 100_000, ValueSize: 256, Writers: 2, Seed: 1,
		Fault: NoFault, FaultVB: -1, AddTimeout: 2 * time.Second, Timeout: 5 * time.Minute,
	}
}

func TestCheckAcceptsWhatCanRun(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"the defaults":               func(*Options) {},
		"every fault":                func(o *Options) { o.Fault = "stale-stream-end" },
		"a certain vbucket":          func(o *Options) { o.Fault, o.FaultVB = "add-error", 1023 },
		"vbucket 0":                  func(o *Options) { o.Fault, o.FaultVB = "add-error", 0 },
		"a swap":                     func(o *Options) { o.Remove = 1 },
		"all first nodes leave":      func(o *Options) { o.Nodes, o.Add, o.Remove = 2, 2, 2 },
		"one node, no replicas":      func(o *Options) { o.Nodes, o.Replicas = 1, 0 },
		"no writers":                 func(o *Options) { o.Writers = 0 },
		"nothing moves, no fault":    func(o *Options) { o.Add = 0 },
		"the smallest":               func(o *Options) { o.VBuckets, o.Docs, o.ValueSize, o.Writers = 1, 1, 16, 1 },
		"as many replicas as fit":    func(o *Options) { o.Replicas = 2 },
		"a removal that just fits":   func(o *Options) { o.Add, o.Remove = 0, 1 },
		"the largest seed":           func(o *Options) { o.Seed = math.MaxUint64 },
		"one vbucket per node":       func(o *Options) { o.Fault, o.VBuckets = "late-answer", 4 },
		"a timeout just long enough": func(o *Options) { o.AddTimeout, o.Timeout = time.Second, time.Second+1 },
	} {
		t.Run(name, func(t *testing.T) {
			o := defaults()
			change(&o)
			assert.NoError(t, o.Check())
		})
	}
}

func TestCheckNamesFlagAndValue(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"--nodes 0: must be between 1 and 64":                                    func(o *Options) { o.Nodes = 0 },
		"--nodes 65: must be between 1 and 64":                                   func(o *Options) { o.Nodes = 65 },
		"--add -1: must be between 0 and 64":                                     func(o *Options) { o.Add = -1 },
		"--remove -2: must be between 0 and 64":                                  func(o *Options) { o.Remove = -2 },
		"--vbuckets 0: must be between 1 and 32768":                              func(o *Options) { o.VBuckets = 0 },
		"--vbuckets 32769: must be between 1 and 32768":                          func(o *Options) { o.VBuckets = 32769 },
		"--replicas 4: must be between 0 and 3":                                  func(o *Options) { o.Replicas = 4 },
		"--docs 0: must be between 1 and 10000000":                               func(o *Options) { o.Docs = 0 },
		"--value-size 15: must be between 16 and 20971520":                       func(o *Options) { o.ValueSize = 15 },
		"--writers 257: must be between 0 and 256":                               func(o *Options) { o.Writers = 257 },
		"--fault explode: unknown kind":                                          func(o *Options) { o.Fault = "explode" },
		"--fault : unknown kind":                                                 func(o *Options) { o.Fault = "" },
		"--fault-vb -2: must be between -1 and 32767":                            func(o *Options) { o.FaultVB = -2 },
		"--add-timeout 0s: must be between 100ms and 24h0m0s":                    func(o *Options) { o.AddTimeout = 0 },
		"--timeout -1s: must be between 1s and 24h0m0s":                          func(o *Options) { o.Timeout = -time.Second },
		"--add 62: with --nodes 3 that is over 64 nodes":                         func(o *Options) { o.Add = 62 },
		"--remove 4: there are only --nodes 3 to remove from":                    func(o *Options) { o.Remove, o.Add = 4, 4 },
		"--replicas 3: needs at least 4 nodes, there are --nodes 3":              func(o *Options) { o.Replicas = 3 },
		"--remove 3: leaves 1 nodes, --replicas 1 needs at least 2":              func(o *Options) { o.Remove = 3 },
		"--writers 9: each needs documents of its own, there are only --docs 8":  func(o *Options) { o.Writers, o.Docs = 9, 8 },
		"--add-timeout 2s: must be shorter than --timeout 2s":                    func(o *Options) { o.Timeout = 2 * time.Second },
		"--fault-vb 3: without --fault there is nothing to break":                func(o *Options) { o.FaultVB = 3 },
		"--fault-vb 1024: there are only --vbuckets 1024":                        func(o *Options) { o.Fault, o.FaultVB = "add-error", 1024 },
		"--fault add-error: with --add 0 and --remove 0 nothing moves":           func(o *Options) { o.Fault, o.Add = "add-error", 0 },
		"--fault add-error: with --vbuckets 3 on 4 nodes it is not certain that": func(o *Options) { o.Fault, o.VBuckets = "add-error", 3 },
	} {
		t.Run(want, func(t *testing.T) {
			o := defaults()
			change(&o)
			err := o.Check()
			require.Error(t, err)
			assert.True(t, strings.HasPrefix(err.Error(), want), "got %q", err)
			var flag *FlagError
			assert.ErrorAs(t, err, &flag)
		})
	}
}

func TestCheckReportsEveryWrongFlag(t *testing.T) {
	o := defaults()
	o.Nodes, o.Docs, o.Fault = 0, -1, "x"
	err := o.Check()
	for _, flag := range []string{"--nodes 0: ", "; --docs -1: ", "; --fault x: "} {
		assert.ErrorContains(t, err, flag)
	}
}

func TestKeptAreAllButTheLastOfTheFirst(t *testing.T) {
	o := defaults()
	o.Nodes, o.Add, o.Remove = 4, 2, 1
	assert.Equal(t, []string{"n0", "n1", "n2", "n3", "n4", "n5"}, o.nodeNames())
	assert.Equal(t, []string{"n0", "n1", "n2", "n4", "n5"}, o.kept())
}
