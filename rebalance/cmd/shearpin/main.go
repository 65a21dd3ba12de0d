// Command shearpin shows and runs Shearpin.
//
//	shearpin demo
//
// starts embedded KV nodes, loads and keeps writing documents, adds a node, rebalances, and checks that no acknowledged
// write was lost. With --fault it breaks a replication on purpose while the rebalance runs; with --json it prints one
// object for programs; shearpin demo --help lists the rest.
//
//	shearpin kvnode --listen 127.0.0.1:11210 --name n0 --bucket orders:64 --admin 127.0.0.1:8099
//
// runs one of these nodes until interrupted. With --admin, other processes break it over HTTP: rules as JSON say what is done
// to which frames.
//
// The exit status is 0 if everything that must be seen was seen, 1 if not, and 2 if the command line cannot be used.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(mainStatus()) }

func mainStatus() int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	return run(os.Args[1:], streams{out: os.Stdout, err: os.Stderr, signals: signals})
}
