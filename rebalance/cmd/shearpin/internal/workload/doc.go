// Package workload plays the applications that use a cluster while it is rebalanced, and remembers enough to say
// afterwards whether the cluster kept every write that it acknowledged.
//
// The documents are numbered. [Content] derives key and value of every version of every document from a seed, so that
// the [Ledger] needs a few bytes per document, not the values. A [Client] finds the active node of a key through the
// vbucket map, as real clients do, and follows the map when vbuckets move. [Load] writes the first version of all
// documents, a [Writers] goes on updating them, and [VerifyDocuments] and [VerifyReplicas] read everything back.
//
// Every write is conditional on the state that the last acknowledged write left (ADD for the first version, SET with its
// CAS for the others). So each write checks that its predecessor is still there, a write whose answer was lost cannot
// take effect after a later one, and repeating it is safe.
package workload
