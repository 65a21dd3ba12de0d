package dcp

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

const (
	// namePrefix is how engines know a replication.
	namePrefix = "replication:"
	// keptNodeName and keptBucketName are what a shortened connection name keeps of its parts.
	keptNodeName   = 35
	keptBucketName = 60
)

// ConnectionName is the DCP name of replication connection conn (0 is the first) of a bucket from producer to consumer.
// Engines recognise a replication by its prefix, and both the consumer's manager and whoever asks the producer for its
// statistics compute it, so it must agree with rebalance.md §2.2 to the byte. It is at most 200 bytes long.
func ConnectionName(producer, consumer, bucket string, conn int) string {
	suffix := ""
	if conn > 0 {
		suffix = fmt.Sprintf("/%d", conn)
	}
	name := namePrefix + producer + "->" + consumer + ":" + bucket + suffix
	if len(name) <= mcbp.MaxConnectionNameLen {
		return name
	}
	common := commonPrefix(producer, consumer)
	// The hash only keeps shortened names apart; it protects nothing.
	hash := sha1.Sum([]byte(name))
	return namePrefix + shortNode(producer, common) + "->" + shortNode(consumer, common) + ":" +
		bucket[:min(len(bucket), keptBucketName)] + ":" + base64.StdEncoding.EncodeToString(hash[:])
}

func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// shortNode keeps the part in which the node's name differs from the other one.
func shortNode(name string, common int) string {
	start := common
	if len(name)-common < keptNodeName {
		start = max(0, len(name)-keptNodeName)
	}
	return name[start:min(len(name), start+keptNodeName)]
}
