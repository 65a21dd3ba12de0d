// Package kv is the client side of one KV node: it connects, and speaks the commands of a cluster manager.
//
// There are two kinds of connection. [OpenDCP] returns a socket on which a DCP connection has been opened and nothing more
// read, ready for a relay. [Connect] returns a [Client] for vbucket, statistics, bucket and document commands: pipelined,
// safe for concurrent use, every call bounded by its context. A [Session] holds one client of a node and connects again
// when it is lost.
//
// Both begin with the same handshake: dial, TLS if asked for, SASL, SELECT_BUCKET, HELLO. Each step has a deadline of its
// own, and a [ConnectError] names the step that failed. A peer that stays silent, trickles bytes, or answers anything else
// costs that one attempt. The password is proved by SCRAM, or sent in plain where nobody can listen, and appears in no
// error, log line or formatted value. Certificates are asked for anew for each connection: see [TLSFiles].
package kv
