// Package integration holds the actor-level tests: whole supervision trees over real sockets, against embedded KV nodes,
// with a leak check behind each. It contains no code for others.
package integration
