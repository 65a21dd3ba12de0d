package mcbp

import "fmt"

// Status is the outcome in a response. It is an error, so that errors.Is finds it in a chain of causes; a
// [StatusSuccess] is never returned as one.
type Status uint16

// The statuses that matter to replication and rebalance (dcp-wire §3).
const (
	StatusSuccess           Status = 0x00
	StatusKeyNotFound       Status = 0x01
	StatusKeyExists         Status = 0x02
	StatusTooBig            Status = 0x03
	StatusInvalid           Status = 0x04
	StatusNotStored         Status = 0x05
	StatusNotANumber        Status = 0x06
	StatusNotMyVBucket      Status = 0x07
	StatusNoBucket          Status = 0x08
	StatusStreamNotFound    Status = 0x0a
	StatusOpaqueNoMatch     Status = 0x0b
	StatusAuthStale         Status = 0x1f
	StatusAuthError         Status = 0x20
	StatusAuthContinue      Status = 0x21
	StatusRange             Status = 0x22
	StatusRollback          Status = 0x23
	StatusNoAccess          Status = 0x24
	StatusKeyNotAvailable   Status = 0x26
	StatusUnknownCommand    Status = 0x81
	StatusNoMemory          Status = 0x82
	StatusNotSupported      Status = 0x83
	StatusInternalError     Status = 0x84
	StatusBusy              Status = 0x85
	StatusTemporaryFailure  Status = 0x86
	StatusUnknownCollection Status = 0x88
	StatusManifestAhead     Status = 0x8a
	StatusUnknownScope      Status = 0x8c
	StatusStreamIDInvalid   Status = 0x8d

	// Those of durable writes.
	StatusDurabilityInvalidLevel      Status = 0xa0
	StatusDurabilityImpossible        Status = 0xa1
	StatusSyncWriteInProgress         Status = 0xa2
	StatusSyncWriteAmbiguous          Status = 0xa3
	StatusSyncWriteRecommitInProgress Status = 0xa4
)

var statusNames = map[Status]string{
	StatusSuccess:           "success",
	StatusKeyNotFound:       "not found",
	StatusKeyExists:         "exists",
	StatusTooBig:            "too big",
	StatusInvalid:           "invalid arguments",
	StatusNotStored:         "not stored",
	StatusNotANumber:        "not a number",
	StatusNotMyVBucket:      "not my vbucket",
	StatusNoBucket:          "no bucket",
	StatusStreamNotFound:    "stream not found",
	StatusOpaqueNoMatch:     "opaque does not match the stream",
	StatusAuthStale:         "authentication stale",
	StatusAuthError:         "authentication failed",
	StatusAuthContinue:      "authentication continues",
	StatusRange:             "out of range",
	StatusRollback:          "rollback",
	StatusNoAccess:          "no access",
	StatusKeyNotAvailable:   "encryption key not available",
	StatusUnknownCommand:    "unknown command",
	StatusNoMemory:          "no memory",
	StatusNotSupported:      "not supported",
	StatusInternalError:     "internal error",
	StatusBusy:              "busy",
	StatusTemporaryFailure:  "temporary failure",
	StatusUnknownCollection: "unknown collection",
	StatusManifestAhead:     "manifest cannot be applied",
	StatusUnknownScope:      "unknown scope",
	StatusStreamIDInvalid:   "stream id invalid",

	StatusDurabilityInvalidLevel:      "no such durability level",
	StatusDurabilityImpossible:        "durability impossible",
	StatusSyncWriteInProgress:         "a durable write is in progress",
	StatusSyncWriteAmbiguous:          "a durable write is ambiguous",
	StatusSyncWriteRecommitInProgress: "a durable write is being committed again",
}

// String is the meaning in words and the number, such as "not my vbucket (0x07)".
func (s Status) String() string {
	if name, ok := statusNames[s]; ok {
		return fmt.Sprintf("%s (%#02x)", name, uint16(s))
	}
	return fmt.Sprintf("status %#02x", uint16(s))
}

// Error makes a status usable as a cause.
func (s Status) Error() string { return s.String() }
