package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shearpin/shearpin/dcp/kvnode"
	"github.com/shearpin/shearpin/dcp/kvnode/fault"
	"github.com/shearpin/shearpin/dcp/mcbp"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/demo"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/faulthttp"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/loopback"
)

// passwordVariable holds the password of --user: the arguments of a command are for all to see.
const passwordVariable = "SHEARPIN_PASSWORD"

// kvnodeCommand runs one node as a process.
type kvnodeCommand struct {
	Listen   string   `default:"127.0.0.1:11210" placeholder:"ADDR" help:"Where clients connect (${default}); port 0 is any free one."`
	Name     string   `default:"n0" placeholder:"NAME" help:"The node's identity in topologies (${default})."`
	Data     string   `placeholder:"DIR" help:"The directory that buckets are kept in; without, in memory only."`
	Bucket   []string `placeholder:"NAME:VBUCKETS" sep:"none" help:"A bucket to begin with; may be given several times."`
	User     string   `placeholder:"NAME" help:"The one account, whose password is in the environment variable SHEARPIN_PASSWORD; without, nobody has to authenticate."`
	Admin    string   `placeholder:"ADDR" help:"Where faults are added and removed, over HTTP; without, not at all. Anybody who reaches it can break the node."`
	Anywhere bool     `help:"Let --admin be an address that other machines reach."`
	Seed     uint64   `default:"1" placeholder:"N" help:"Decides what rules with a probability strike (${default})."`
	Ready    string   `placeholder:"FILE" help:"Write the line that says how to reach the node to FILE too."`
	TLS      tlsFlags `embed:""`

	buckets []bucketFlag
}

type bucketFlag struct {
	name     string
	vbuckets int
}

func (c *kvnodeCommand) validate() error {
	for _, text := range c.Bucket {
		name, count, ok := strings.Cut(text, ":")
		vbuckets, err := strconv.Atoi(count)
		if !ok || err != nil || name == "" {
			return &demo.FlagError{Flag: "--bucket", Value: text, Why: "must be a name, a colon and a number of vbuckets"}
		}
		if slices.ContainsFunc(c.buckets, func(b bucketFlag) bool { return b.name == name }) {
			return &demo.FlagError{Flag: "--bucket", Value: text, Why: "is given twice"}
		}
		c.buckets = append(c.buckets, bucketFlag{name, vbuckets})
	}
	if err := cmp.Or(checkPath("--data", c.Data), checkPath("--ready", c.Ready), c.TLS.validate()); err != nil {
		return err
	}
	if (c.User == "") != (os.Getenv(passwordVariable) == "") {
		return &demo.FlagError{Flag: "--user", Value: strconv.Quote(c.User), Why: "there must be a name and a password in " + passwordVariable + ", or neither"}
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return &demo.FlagError{Flag: "--listen", Value: c.Listen, Why: "must be a host and a port"}
	}
	if c.Admin == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(c.Admin); err != nil {
		return &demo.FlagError{Flag: "--admin", Value: c.Admin, Why: "must be a host and a port"}
	}
	if !c.Anywhere && !loopback.Is(c.Admin) {
		return &demo.FlagError{Flag: "--admin", Value: c.Admin, Why: "other machines may reach it, and break the node; --anywhere allows that"}
	}
	return nil
}

// ready says how to reach a node that is up.
type ready struct {
	Node  string `json:"node"`
	Addr  string `json:"addr"`
	Admin string `json:"admin,omitempty"`
}

// run serves until a signal comes. The second signal, or an end that takes too long, ends it regardless.
func (c *kvnodeCommand) run(_ []string, s streams) int {
	script := fault.NewScript(c.Seed)
	node, err := c.start(script, s)
	if err != nil {
		fmt.Fprintf(s.err, "shearpin: %v\n", err)
		return exitFailed
	}
	up := ready{Node: node.Name(), Addr: node.Addr()}
	closeAdmin := func() {}
	if c.Admin != "" {
		closeAdmin, up.Admin, err = c.serveFaults(script, node, s)
	}
	for _, b := range c.buckets {
		if err != nil {
			break
		}
		err = b.create(node)
	}
	if err == nil {
		err = announce(up, c.Ready, s)
	}
	if err == nil {
		<-s.signals
	}
	if stopped := stop(node, closeAdmin, s.signals); err == nil {
		err = stopped
	}
	if err != nil {
		fmt.Fprintf(s.err, "shearpin: %v\n", err)
		return exitFailed
	}
	return exitComplete
}

func (c *kvnodeCommand) start(script *fault.Script, s streams) (*kvnode.Node, error) {
	secured, err := c.TLS.config()
	if err != nil {
		return nil, err
	}
	return kvnode.Start(kvnode.Options{
		Name: c.Name, Addr: c.Listen, TLS: secured, Dir: c.Data, User: c.User, Password: os.Getenv(passwordVariable), Faults: script,
		Log: slog.New(slog.NewTextHandler(s.err, nil)),
	})
}

// create creates the bucket, if it is not in the node's directory already.
func (b bucketFlag) create(node *kvnode.Node) error {
	err := node.CreateBucket(b.name, b.vbuckets)
	if !errors.Is(err, mcbp.StatusKeyExists) {
		return err
	}
	if there := node.VBuckets(b.name); there != b.vbuckets {
		return &demo.FlagError{Flag: "--bucket", Value: fmt.Sprintf("%s:%d", b.name, b.vbuckets), Why: fmt.Sprintf("it is there with %d vbuckets", there)}
	}
	return nil
}

// serveFaults listens for those who want to break the node, until it is closed by the function that it returns.
func (c *kvnodeCommand) serveFaults(script *fault.Script, node *kvnode.Node, s streams) (closeServer func(), addr string, err error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", c.Admin)
	if err != nil {
		return func() {}, "", fmt.Errorf("--admin: %w", err)
	}
	server := faulthttp.NewServer(script, node, c.Anywhere)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintf(s.err, "shearpin: --admin: %v\n", err)
		}
	}()
	closeServer = func() {
		_ = server.Close() // what it was asked is of no interest any more
		<-served
	}
	return closeServer, listener.Addr().String(), nil
}

// stop closes the node and its server.
func stop(node *kvnode.Node, closeAdmin func(), signals <-chan os.Signal) error {
	closed := make(chan error, 1)
	go func() {
		closeAdmin()
		closed <- node.Close()
	}()
	limit := time.NewTimer(overtime)
	defer limit.Stop()
	select {
	case err := <-closed:
		return err
	case <-signals:
		return fmt.Errorf("%w twice: quit without cleaning up", errInterrupted)
	case <-limit.C:
		return fmt.Errorf("the node did not close within %v", overtime)
	}
}
