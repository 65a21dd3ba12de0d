package mcbp

import (
	"fmt"
	"strings"
)

// Datatype is the set of bits that describe the value of one frame.
type Datatype byte

// The datatype bits.
const (
	DatatypeJSON   Datatype = 0x01
	DatatypeSnappy Datatype = 0x02
	DatatypeXattr  Datatype = 0x04

	// datatypeAny are the bits that a document's value may have.
	datatypeAny = DatatypeJSON | DatatypeSnappy | DatatypeXattr
)

// String names the bits, such as "json|snappy".
func (d Datatype) String() string {
	var names []string
	for _, bit := range []struct {
		d    Datatype
		name string
	}{{DatatypeJSON, "json"}, {DatatypeSnappy, "snappy"}, {DatatypeXattr, "xattr"}} {
		if d&bit.d != 0 {
			names = append(names, bit.name)
		}
	}
	if rest := d &^ datatypeAny; rest != 0 {
		names = append(names, fmt.Sprintf("%#02x", byte(rest)))
	}
	if len(names) == 0 {
		return "raw"
	}
	return strings.Join(names, "|")
}

// Feature is a capability that HELLO negotiates.
type Feature uint16

// The features (dcp-wire §4, kv-clients).
const (
	FeatureTLS                 Feature = 0x02
	FeatureMutationSeqno       Feature = 0x04
	FeatureXattr               Feature = 0x06
	FeatureXerror              Feature = 0x07
	FeatureSelectBucket        Feature = 0x08
	FeatureSnappy              Feature = 0x0a
	FeatureJSON                Feature = 0x0b
	FeatureDuplex              Feature = 0x0c
	FeatureAltRequest          Feature = 0x10
	FeatureSyncReplication     Feature = 0x11
	FeatureCollections         Feature = 0x12
	FeatureClusterMapKnown     Feature = 0x1d
	FeatureDedupeNotMyVBucket  Feature = 0x1e
	FeatureClusterMapPushBrief Feature = 0x1f
)

var featureNames = map[Feature]string{
	FeatureTLS:                 "tls",
	FeatureMutationSeqno:       "mutation_seqno",
	FeatureXattr:               "xattr",
	FeatureXerror:              "xerror",
	FeatureSelectBucket:        "select_bucket",
	FeatureSnappy:              "snappy",
	FeatureJSON:                "json",
	FeatureDuplex:              "duplex",
	FeatureAltRequest:          "alt_request",
	FeatureSyncReplication:     "sync_replication",
	FeatureCollections:         "collections",
	FeatureClusterMapKnown:     "clustermap_known_version",
	FeatureDedupeNotMyVBucket:  "dedupe_not_my_vbucket",
	FeatureClusterMapPushBrief: "clustermap_push_brief",
}

// String is the feature's name and code.
func (f Feature) String() string {
	if name, ok := featureNames[f]; ok {
		return fmt.Sprintf("%s (0x%02x)", name, uint16(f))
	}
	return fmt.Sprintf("feature 0x%02x", uint16(f))
}

// VBucketState is the state of one copy of a vbucket. The zero value, which no engine sends, stands for a missing copy.
type VBucketState byte

// The states (dcp-wire §5).
const (
	VBucketMissing VBucketState = 0
	VBucketActive  VBucketState = 1
	VBucketReplica VBucketState = 2
	VBucketPending VBucketState = 3
	VBucketDead    VBucketState = 4
)

var vbucketStateNames = [...]string{"missing", "active", "replica", "pending", "dead"}

// String is the word that engines use in their statistics.
func (s VBucketState) String() string {
	if int(s) < len(vbucketStateNames) {
		return vbucketStateNames[s]
	}
	return fmt.Sprintf("state %d", byte(s))
}

// ParseVBucketState reads the word that engines use in their statistics.
func ParseVBucketState(word string) (VBucketState, error) {
	for i, name := range vbucketStateNames {
		if name == word {
			return VBucketState(i), nil
		}
	}
	return VBucketMissing, fmt.Errorf("mcbp: unknown vbucket state %q", word)
}

// EndReason says why a producer ended a stream. Values beyond those named exist; they are failures.
type EndReason uint32

// The reasons of STREAM_END (dcp-wire §6.5).
const (
	EndOK             EndReason = 0
	EndClosed         EndReason = 1
	EndStateChanged   EndReason = 2
	EndDisconnected   EndReason = 3
	EndTooSlow        EndReason = 4
	EndBackfillFailed EndReason = 5
	EndRollback       EndReason = 6
	EndFilterEmpty    EndReason = 7
	EndLostPrivileges EndReason = 8
)

var endReasonNames = [...]string{
	"ok", "closed", "state changed", "disconnected", "too slow", "backfill failed", "rollback", "filter empty", "lost privileges",
}

// String is the reason in words.
func (r EndReason) String() string {
	if int64(r) < int64(len(endReasonNames)) {
		return endReasonNames[r]
	}
	return fmt.Sprintf("reason %#x", uint32(r))
}

// Flags of ADD_STREAM and STREAM_REQ (dcp-wire §6.2). Replication uses the first alone.
const (
	StreamFlagTakeover      uint32 = 0x001
	StreamFlagDiskOnly      uint32 = 0x002
	StreamFlagToLatest      uint32 = 0x004
	StreamFlagActiveOnly    uint32 = 0x010
	StreamFlagStrictVBUUID  uint32 = 0x020
	StreamFlagFromLatest    uint32 = 0x040
	StreamFlagIgnorePurged  uint32 = 0x080
	StreamFlagCacheTransfer uint32 = 0x100
)

// Flags of DCP_OPEN, and the two words that replication sends (dcp-wire §6.1).
const (
	OpenFlagProducer           uint32 = 0x001
	OpenFlagNotifier           uint32 = 0x002 // withdrawn: must be clear
	OpenFlagXattrs             uint32 = 0x004
	OpenFlagNoValue            uint32 = 0x008
	OpenFlagDeleteTimes        uint32 = 0x020
	OpenFlagNoValueKeepType    uint32 = 0x040
	OpenFlagDeletedUserXattrs  uint32 = 0x100
	OpenFlagSkipInitialDeletes uint32 = 0x200
	OpenFlagsReplicaConsumer          = OpenFlagXattrs | OpenFlagDeleteTimes | OpenFlagDeletedUserXattrs
	OpenFlagsReplicaProducer          = OpenFlagsReplicaConsumer | OpenFlagProducer
	MaxConnectionNameLen              = 200
	MaxAgentNameLen                   = 250
	EndSeqnoForever            uint64 = 0xffffffffffffffff
)
