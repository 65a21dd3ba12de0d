package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/config"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/serve"
)

// serveCommand is a manager that runs until it is interrupted.
type serveCommand struct {
	Config string `default:"cluster.yaml" placeholder:"FILE" help:"What to manage (${default}); docs/operations.md describes the file."`
	Ready  string `placeholder:"FILE" help:"Write the line that says how to reach the manager to FILE too."`
}

func (c *serveCommand) validate() error {
	if err := checkPath("--config", c.Config); err != nil {
		return err
	}
	return checkPath("--ready", c.Ready)
}

// serving says how to reach a manager that is up.
type serving struct {
	Socket string `json:"socket,omitempty"`
	Addr   string `json:"addr,omitempty"`
}

// run manages until a signal comes. The second signal, or an end that takes too long, ends it regardless.
func (c *serveCommand) run(_ []string, s streams) int {
	file, err := config.Load(c.Config)
	if err != nil {
		fmt.Fprintf(s.err, "shearpin: %v\n", err)
		return exitUsage
	}
	if err := c.serve(file, logOf(file, file.Log.Level.Slog(), s.err), s); err != nil {
		fmt.Fprintf(s.err, "shearpin: %v\n", err)
		return exitFailed
	}
	return exitComplete
}

// logOf is the log that a configuration asks for, from a level on.
func logOf(file *config.Config, level slog.Level, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if file.Log.Format == config.FormatText || file.Log.Format == "" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

func (c *serveCommand) serve(file *config.Config, log *slog.Logger, s streams) error {
	manager, err := serve.Start(context.Background(), file, log)
	if err != nil {
		return err
	}
	err = announce(serving{Socket: manager.Socket(), Addr: manager.Addr()}, c.Ready, s)
	if err == nil {
		select {
		case <-s.signals:
			log.Info("interrupted", "part", "serve")
		case err = <-manager.Failed():
		}
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), overtime, fmt.Errorf("the manager did not close within %v", overtime))
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- manager.Close(ctx) }()
	select {
	case closing := <-closed:
		return errors.Join(err, closing)
	case <-s.signals:
		return errors.Join(err, fmt.Errorf("%w twice: quit without cleaning up", errInterrupted))
	}
}

// announce says on standard output how to reach what is up, and in a file too if there is one.
func announce(up any, file string, s streams) error {
	printJSON(s.out, up)
	if file == "" {
		return nil
	}
	line, err := json.Marshal(up)
	if err != nil {
		return err
	}
	return writeWhole("--ready", file, append(line, '\n'))
}

// writeWhole makes a file appear with all of its contents; what is there already is replaced by it.
func writeWhole(flag, path string, text []byte) error {
	scratch := path + ".new"
	if err := os.WriteFile(scratch, text, 0o644); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	if err := os.Rename(scratch, path); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}
