package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
)

// await waits until is says so, or fails the script after a time that only something broken takes.
func await(ts *testscript.TestScript, what string, is func() bool) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for limit := time.After(within); !is(); {
		select {
		case <-ticker.C:
		case <-limit:
			ts.Fatalf("%s did not come", what)
		}
	}
}

// configure is the script command
//
//	configure FILE REST NODE...
//
// It waits until NODE.json says how to reach each node, and writes a configuration of these nodes and what is in REST.
func configure(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: configure FILE REST NODE...")
	}
	var b strings.Builder
	b.WriteString("nodes:\n")
	for _, name := range args[2:] {
		fmt.Fprintf(&b, "  - {name: %s, addr: \"%s\"}\n", name, nodeAddr(ts, name))
	}
	b.WriteString(ts.ReadFile(args[1]))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()), 0o600))
}

// nodeAddr waits until NAME.json says how to reach a node.
func nodeAddr(ts *testscript.TestScript, name string) string {
	var up ready
	await(ts, name+".json", func() bool {
		text, err := os.ReadFile(ts.MkAbs(name + ".json"))
		return err == nil && json.Unmarshal(text, &up) == nil
	})
	return up.Addr
}

// setAddr is the script command
//
//	addr VARIABLE NODE
//
// It puts the address of a node into a variable of the script.
func setAddr(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: addr VARIABLE NODE")
	}
	ts.Setenv(args[0], nodeAddr(ts, args[1]))
}

// managed is the script command
//
//	managed SOCKET
//
// It waits until the manager on SOCKET is ready.
func managed(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: managed SOCKET")
	}
	client := control.NewSocketClient(ts.MkAbs(args[0]))
	defer client.Close()
	await(ts, "a manager on "+args[0], func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		return client.Do(ctx, http.MethodGet, "/readyz", nil, nil) == nil
	})
}

// awaitState is the script command
//
//	state SOCKET STATE [MOVES]
//
// It waits until the manager on SOCKET is in that state, and its rebalance has planned at least that many moves.
func awaitState(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: state SOCKET STATE [MOVES]")
	}
	moves := 0
	if len(args) == 3 {
		_, err := fmt.Sscan(args[2], &moves)
		ts.Check(err)
	}
	client := control.NewSocketClient(ts.MkAbs(args[0]))
	defer client.Close()
	await(ts, "state "+args[1], func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		status := struct {
			State    string
			Progress struct {
				Planned int `json:"moves_planned"`
			}
		}{}
		return client.Do(ctx, http.MethodGet, control.Prefix+"/status", nil, &status) == nil &&
			status.State == args[1] && status.Progress.Planned >= moves
	})
}
