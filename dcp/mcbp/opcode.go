package mcbp

import "fmt"

// Opcode is byte 1 of a frame: the command.
type Opcode byte

// The commands that a cluster manager, a replication or a plain client uses (dcp-wire §6, §11, kv-clients). Those whose names
// end in Q are quiet: they are answered only if there is something to say.
const (
	OpGet                  Opcode = 0x00
	OpSet                  Opcode = 0x01
	OpAdd                  Opcode = 0x02
	OpReplace              Opcode = 0x03
	OpDelete               Opcode = 0x04
	OpIncrement            Opcode = 0x05
	OpDecrement            Opcode = 0x06
	OpQuit                 Opcode = 0x07
	OpGetQ                 Opcode = 0x09
	OpNoop                 Opcode = 0x0a
	OpVersion              Opcode = 0x0b
	OpGetK                 Opcode = 0x0c
	OpGetKQ                Opcode = 0x0d
	OpAppend               Opcode = 0x0e
	OpPrepend              Opcode = 0x0f
	OpStat                 Opcode = 0x10
	OpSetQ                 Opcode = 0x11
	OpAddQ                 Opcode = 0x12
	OpReplaceQ             Opcode = 0x13
	OpDeleteQ              Opcode = 0x14
	OpIncrementQ           Opcode = 0x15
	OpDecrementQ           Opcode = 0x16
	OpQuitQ                Opcode = 0x17
	OpAppendQ              Opcode = 0x19
	OpPrependQ             Opcode = 0x1a
	OpTouch                Opcode = 0x1c
	OpGetAndTouch          Opcode = 0x1d
	OpGetAndTouchQ         Opcode = 0x1e
	OpHello                Opcode = 0x1f
	OpSASLListMechs        Opcode = 0x20
	OpSASLAuth             Opcode = 0x21
	OpSASLStep             Opcode = 0x22
	OpSetDataIngress       Opcode = 0x2b
	OpSetVBucket           Opcode = 0x3d
	OpGetVBucket           Opcode = 0x3e
	OpDelVBucket           Opcode = 0x3f
	OpGetAllVBSeqnos       Opcode = 0x48
	OpDCPOpen              Opcode = 0x50
	OpDCPAddStream         Opcode = 0x51
	OpDCPCloseStream       Opcode = 0x52
	OpDCPStreamReq         Opcode = 0x53
	OpDCPGetFailoverLog    Opcode = 0x54
	OpDCPStreamEnd         Opcode = 0x55
	OpDCPSnapshotMarker    Opcode = 0x56
	OpDCPMutation          Opcode = 0x57
	OpDCPDeletion          Opcode = 0x58
	OpDCPExpiration        Opcode = 0x59
	OpDCPFlush             Opcode = 0x5a
	OpDCPSetVBucketState   Opcode = 0x5b
	OpDCPNoop              Opcode = 0x5c
	OpDCPBufferAck         Opcode = 0x5d
	OpDCPControl           Opcode = 0x5e
	OpDCPSystemEvent       Opcode = 0x5f
	OpDCPPrepare           Opcode = 0x60
	OpDCPSeqnoAcknowledged Opcode = 0x61
	OpDCPCommit            Opcode = 0x62
	OpDCPAbort             Opcode = 0x63
	OpDCPSeqnoAdvanced     Opcode = 0x64
	OpDCPOSOSnapshot       Opcode = 0x65
	OpDCPCacheTransfer     Opcode = 0x66
	OpDCPCacheTransferEnd  Opcode = 0x67
	OpSetParam             Opcode = 0x82
	OpGetReplica           Opcode = 0x83
	OpCreateBucket         Opcode = 0x85
	OpDeleteBucket         Opcode = 0x86
	OpListBuckets          Opcode = 0x87
	OpSelectBucket         Opcode = 0x89
	OpObserveSeqno         Opcode = 0x91
	OpGetFailoverLog       Opcode = 0x96
	OpGetMeta              Opcode = 0xa0
	OpEnableTraffic        Opcode = 0xad
	OpDisableTraffic       Opcode = 0xae
	OpCheckpointPersist    Opcode = 0xb1 // obsolete
	OpCompactDB            Opcode = 0xb3
	OpSetClusterConfig     Opcode = 0xb4
	OpGetClusterConfig     Opcode = 0xb5
	OpSeqnoPersistence     Opcode = 0xb7
	OpCollectionsManifest  Opcode = 0xba
	OpGetCollectionID      Opcode = 0xbb
	OpPrepareSnapshot      Opcode = 0xe0
	OpReleaseSnapshot      Opcode = 0xe1
	OpDownloadSnapshot     Opcode = 0xe2
	OpGetFileFragment      Opcode = 0xe3
	OpGetErrorMap          Opcode = 0xfe
)

var opcodeNames = [256]string{
	OpGet:                  "GET",
	OpSet:                  "SET",
	OpAdd:                  "ADD",
	OpReplace:              "REPLACE",
	OpDelete:               "DELETE",
	OpIncrement:            "INCREMENT",
	OpDecrement:            "DECREMENT",
	OpQuit:                 "QUIT",
	OpGetQ:                 "GETQ",
	OpNoop:                 "NOOP",
	OpVersion:              "VERSION",
	OpGetK:                 "GETK",
	OpGetKQ:                "GETKQ",
	OpAppend:               "APPEND",
	OpPrepend:              "PREPEND",
	OpStat:                 "STAT",
	OpSetQ:                 "SETQ",
	OpAddQ:                 "ADDQ",
	OpReplaceQ:             "REPLACEQ",
	OpDeleteQ:              "DELETEQ",
	OpIncrementQ:           "INCREMENTQ",
	OpDecrementQ:           "DECREMENTQ",
	OpQuitQ:                "QUITQ",
	OpAppendQ:              "APPENDQ",
	OpPrependQ:             "PREPENDQ",
	OpTouch:                "TOUCH",
	OpGetAndTouch:          "GAT",
	OpGetAndTouchQ:         "GATQ",
	OpHello:                "HELLO",
	OpSASLListMechs:        "SASL_LIST_MECHS",
	OpSASLAuth:             "SASL_AUTH",
	OpSASLStep:             "SASL_STEP",
	OpSetDataIngress:       "SET_BUCKET_DATA_INGRESS",
	OpSetVBucket:           "SET_VBUCKET",
	OpGetVBucket:           "GET_VBUCKET",
	OpDelVBucket:           "DEL_VBUCKET",
	OpGetAllVBSeqnos:       "GET_ALL_VB_SEQNOS",
	OpDCPOpen:              "DCP_OPEN",
	OpDCPAddStream:         "DCP_ADD_STREAM",
	OpDCPCloseStream:       "DCP_CLOSE_STREAM",
	OpDCPStreamReq:         "DCP_STREAM_REQ",
	OpDCPGetFailoverLog:    "DCP_GET_FAILOVER_LOG",
	OpDCPStreamEnd:         "DCP_STREAM_END",
	OpDCPSnapshotMarker:    "DCP_SNAPSHOT_MARKER",
	OpDCPMutation:          "DCP_MUTATION",
	OpDCPDeletion:          "DCP_DELETION",
	OpDCPExpiration:        "DCP_EXPIRATION",
	OpDCPFlush:             "DCP_FLUSH",
	OpDCPSetVBucketState:   "DCP_SET_VBUCKET_STATE",
	OpDCPNoop:              "DCP_NOOP",
	OpDCPBufferAck:         "DCP_BUFFER_ACK",
	OpDCPControl:           "DCP_CONTROL",
	OpDCPSystemEvent:       "DCP_SYSTEM_EVENT",
	OpDCPPrepare:           "DCP_PREPARE",
	OpDCPSeqnoAcknowledged: "DCP_SEQNO_ACKNOWLEDGED",
	OpDCPCommit:            "DCP_COMMIT",
	OpDCPAbort:             "DCP_ABORT",
	OpDCPSeqnoAdvanced:     "DCP_SEQNO_ADVANCED",
	OpDCPOSOSnapshot:       "DCP_OSO_SNAPSHOT",
	OpDCPCacheTransfer:     "DCP_CACHE_TRANSFER",
	OpDCPCacheTransferEnd:  "DCP_CACHE_TRANSFER_END",
	OpSetParam:             "SET_PARAM",
	OpGetReplica:           "GET_REPLICA",
	OpCreateBucket:         "CREATE_BUCKET",
	OpDeleteBucket:         "DELETE_BUCKET",
	OpListBuckets:          "LIST_BUCKETS",
	OpSelectBucket:         "SELECT_BUCKET",
	OpObserveSeqno:         "OBSERVE_SEQNO",
	OpGetFailoverLog:       "GET_FAILOVER_LOG",
	OpGetMeta:              "GET_META",
	OpEnableTraffic:        "ENABLE_TRAFFIC",
	OpDisableTraffic:       "DISABLE_TRAFFIC",
	OpCheckpointPersist:    "CHECKPOINT_PERSISTENCE",
	OpCompactDB:            "COMPACT_DB",
	OpSetClusterConfig:     "SET_CLUSTER_CONFIG",
	OpGetClusterConfig:     "GET_CLUSTER_CONFIG",
	OpSeqnoPersistence:     "SEQNO_PERSISTENCE",
	OpCollectionsManifest:  "GET_COLLECTIONS_MANIFEST",
	OpGetCollectionID:      "GET_COLLECTION_ID",
	OpPrepareSnapshot:      "PREPARE_SNAPSHOT",
	OpReleaseSnapshot:      "RELEASE_SNAPSHOT",
	OpDownloadSnapshot:     "DOWNLOAD_SNAPSHOT",
	OpGetFileFragment:      "GET_FILE_FRAGMENT",
	OpGetErrorMap:          "GET_ERROR_MAP",
}

// String is the command's name in the protocol's documentation, or its number.
func (o Opcode) String() string {
	if name := opcodeNames[o]; name != "" {
		return name
	}
	return fmt.Sprintf("opcode %#02x", byte(o))
}
