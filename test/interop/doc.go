// Package interop holds our code against that of others: real clients and their codecs, which stay out of the core's graph
// because this is a module of its own. It contains no code for others.
//
// The codec is compared with gocbcore's. The embedded node and the rebalance are given to clients that nobody has changed: gocbcore's
// KV and DCP agents, gomemcached with its UprFeed, and the gocb SDK. They work while vbuckets move.
package interop
