package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/config"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/console"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/control"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/demo"
)

// defaultConfig is where the configuration is looked for if nobody says where it is.
const defaultConfig = "cluster.yaml"

// managerFlags say which manager is meant, and how to answer.
type managerFlags struct {
	Config  string `placeholder:"FILE" help:"The manager's configuration, which says where it is commanded (cluster.yaml)."`
	Control string `placeholder:"WHERE" env:"SHEARPIN_CONTROL" help:"Where the manager is commanded, if there is no --config: the path of its socket, or http://HOST:PORT."`
	Token   string `name:"token-file" placeholder:"FILE" env:"SHEARPIN_TOKEN_FILE" help:"The file with the token that it wants to see over TCP."`
	JSON    bool   `name:"json" help:"Print JSON on standard output and nothing else there."`
}

func (f *managerFlags) validate() error {
	for _, flag := range []struct{ name, value string }{
		{"--config", f.Config}, {"--control", f.Control}, {"--token-file", f.Token},
	} {
		if err := checkPath(flag.name, flag.value); err != nil {
			return err
		}
	}
	if f.Control == "" || f.Config != "" {
		return nil
	}
	_, isTCP := strings.CutPrefix(f.Control, "http://")
	switch {
	case strings.HasPrefix(f.Control, "https://"):
		return &demo.FlagError{Flag: "--control", Value: f.Control, Why: "must be a path or begin with http://"}
	case isTCP && f.Token == "":
		return &demo.FlagError{Flag: "--token-file", Value: `""`, Why: "must be there for --control http://…"}
	}
	return nil
}

// client is for the manager that the flags mean.
func (f *managerFlags) client() (*control.Client, error) {
	if f.Config == "" && f.Control != "" {
		addr, isTCP := strings.CutPrefix(f.Control, "http://")
		if !isTCP {
			return control.NewSocketClient(f.Control), nil
		}
		token, err := config.ReadToken(f.Token)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		return control.NewTCPClient(strings.TrimSuffix(addr, "/"), token), nil
	}
	c, err := config.Load(f.path())
	if err != nil {
		return nil, err
	}
	if c.Control.Socket != "" {
		return control.NewSocketClient(c.Resolve(c.Control.Socket)), nil
	}
	token, err := c.Token()
	if err != nil {
		return nil, err
	}
	return control.NewTCPClient(c.Control.Listen, token), nil
}

// path is that of the configuration.
func (f *managerFlags) path() string {
	if f.Config == "" {
		return defaultConfig
	}
	return f.Config
}

// ask has work done by the manager and returns the exit status. The first signal breaks it off.
func (f *managerFlags) ask(s streams, work func(ctx context.Context, c *control.Client) error) int {
	client, err := f.client()
	if err != nil {
		f.tell(err, s)
		return exitUsage
	}
	defer client.Close()
	ctx, interrupt := context.WithCancelCause(context.Background())
	defer interrupt(nil)
	go func() {
		select {
		case <-s.signals:
			interrupt(errInterrupted)
		case <-ctx.Done():
		}
	}()
	return f.status(work(ctx, client), s)
}

// status tells an error and is the exit status that goes with it.
func (f *managerFlags) status(err error, s streams) int {
	if err == nil {
		return exitComplete
	}
	f.tell(err, s)
	var unreachable *control.UnreachableError
	if errors.As(err, &unreachable) {
		return exitUnreachable
	}
	return exitFailed
}

// tell says what went wrong, layer by layer if there are many.
func (f *managerFlags) tell(err error, s streams) {
	_, problem := control.NewProblem(err)
	if f.JSON {
		printJSON(s.out, map[string]*control.Problem{"error": problem})
		return
	}
	if errors.As(err, &problem) && len(problem.Cause) > 2 {
		fmt.Fprintf(s.err, "shearpin: %s\n", strings.Join(console.Because(problem.Cause), "\n          "))
		return
	}
	fmt.Fprintf(s.err, "shearpin: %v\n", err)
}
