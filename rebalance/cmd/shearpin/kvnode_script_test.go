package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/mcbp"
)

// within bounds what a script command waits for.
const within = time.Minute

// reach is the script command
//
//	reach FILE
//
// It waits until FILE says how to reach a node, for the commands http and write.
func reach(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: reach FILE")
	}
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for limit := time.After(within); ; {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil {
			var up ready
			ts.Check(json.Unmarshal(text, &up))
			ts.Setenv("NODE_ADDR", up.Addr)
			ts.Setenv("NODE_ADMIN", up.Admin)
			return
		}
		select {
		case <-ticker.C:
		case <-limit:
			ts.Fatalf("%s did not come", args[0])
		}
	}
}

// askHTTP is the script command
//
//	[!] http METHOD PATH [FILE]
//
// It sends FILE to the node's server and prints the answer. The status must be a success, or with ! none.
func askHTTP(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: http METHOD PATH [FILE]")
	}
	body := ""
	if len(args) == 3 {
		body = ts.ReadFile(args[2])
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, args[0], "http://"+ts.Getenv("NODE_ADMIN")+args[1], strings.NewReader(body))
	ts.Check(err)
	r.Header.Set("Content-Type", "application/json")
	r.Close = true
	answer, err := http.DefaultClient.Do(r)
	ts.Check(err)
	defer answer.Body.Close()
	_, err = io.Copy(ts.Stdout(), answer.Body)
	ts.Check(err)
	if (answer.StatusCode < 300) == neg {
		ts.Fatalf("status %s", answer.Status)
	}
}

// write is the script command
//
//	write VB
//
// It makes the vbucket active, sets a document in it, and prints the status.
func write(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: write VB")
	}
	vb, err := strconv.ParseUint(args[0], 10, 16)
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	client, err := kv.Connect(ctx, kv.Endpoint{Node: "node", Addr: ts.Getenv("NODE_ADDR")}, "orders")
	ts.Check(err)
	defer client.Close()
	ts.Check(client.SetVBucket(ctx, uint16(vb), mcbp.VBucketActive, nil))
	_, err = client.Set(ctx, uint16(vb), "key", []byte("value"), 0, 0, 0)
	status := mcbp.StatusSuccess
	if err != nil && !errors.As(err, &status) {
		ts.Fatalf("%v", err)
	}
	fmt.Fprintln(ts.Stdout(), status)
}

// The first signal has come already when a node is stopped; the next does not wait for anything.
func TestANodeThatDoesNotCloseIsLeftByTheSecondSignal(t *testing.T) {
	node, err := kvnode.Start(kvnode.Options{Name: "n0"})
	require.NoError(t, err)
	signals, release := make(chan os.Signal, 1), make(chan struct{})
	signals <- os.Interrupt
	require.ErrorIs(t, stop(node, func() { <-release }, signals), errInterrupted)
	close(release)
	require.NoError(t, node.Close())
}
