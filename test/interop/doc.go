// Package interop holds our code against that of others: real clients and their codecs, which stay out of the core's graph
// because this is a module of its own. It contains no code for others.
package interop
