package mcbp

import "fmt"

// Datatype is the set of bits that describe the value of one frame.
type Datatype byte

// The datatype bits.
const (
	DatatypeJSON   Datatype = 0x01
	DatatypeSnappy Datatype = 0x02
	DatatypeXattr  Datatype = 0x04
)

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

// Flags of ADD_STREAM and STREAM_REQ that replication uses (dcp-wire §6.2).
const (
	StreamFlagTakeover uint32 = 0x01
)

// Flags of DCP_OPEN, and the two words that replication sends (dcp-wire §6.1).
const (
	OpenFlagProducer          uint32 = 0x001
	OpenFlagXattrs            uint32 = 0x004
	OpenFlagDeleteTimes       uint32 = 0x020
	OpenFlagDeletedUserXattrs uint32 = 0x100
	OpenFlagsReplicaConsumer         = OpenFlagXattrs | OpenFlagDeleteTimes | OpenFlagDeletedUserXattrs
	OpenFlagsReplicaProducer         = OpenFlagsReplicaConsumer | OpenFlagProducer
	MaxConnectionNameLen             = 200
	MaxAgentNameLen                  = 250
	EndSeqnoForever           uint64 = 0xffffffffffffffff
)
