package mcbp

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// FrameInfo is one object of the framing extras (dcp-wire §2). What an id means depends on the direction.
type FrameInfo struct {
	ID uint16
	// Data aliases the bytes that were parsed.
	Data []byte
}

// Ids of frame infos in requests.
const (
	FrameInfoBarrier     uint16 = 0
	FrameInfoDurability  uint16 = 1
	FrameInfoStreamID    uint16 = 2
	FrameInfoImpersonate uint16 = 4
	FrameInfoPreserveTTL uint16 = 5
	FrameInfoPrivilege   uint16 = 6
	FrameInfoAuthToken   uint16 = 7
)

// Ids of frame infos in responses.
const (
	FrameInfoServerDuration   uint16 = 0
	FrameInfoReadUnits        uint16 = 1
	FrameInfoWriteUnits       uint16 = 2
	FrameInfoThrottleDuration uint16 = 3
)

// The nibble that says that the number is this much more than the byte that follows.
const frameInfoEscape = 15

// Limits of what one frame info can say.
const (
	MaxFrameInfoID  = frameInfoEscape + math.MaxUint8
	MaxFrameInfoLen = frameInfoEscape + math.MaxUint8
)

// FramingError is framing extras that are not a sequence of frame infos, or a frame info whose content is not what its id
// demands.
type FramingError struct {
	// At is the offset of the frame info in the bytes that were parsed.
	At  int
	Why string
}

func (e *FramingError) Error() string {
	return fmt.Sprintf("bad framing extras at byte %d: %s", e.At, e.Why)
}

// NextFrameInfo takes the first frame info off framing extras, which must not be empty, and returns it with the rest. The
// error is a *[FramingError]. Each frame info has one encoding only, so what was parsed is what [FrameInfo.Append] writes.
func NextFrameInfo(b []byte) (info FrameInfo, rest []byte, err error) {
	info, rest, why := cutFrameInfo(b)
	if why != "" {
		return FrameInfo{}, b, &FramingError{Why: why}
	}
	return info, rest, nil
}

// CheckFrameInfos reports whether b is a sequence of frame infos, with the sizes that requests or responses demand of those
// that are known. The error is a *[FramingError].
func CheckFrameInfos(b []byte, response bool) error {
	for rest := b; len(rest) > 0; {
		info, next, why := cutFrameInfo(rest)
		if why == "" {
			why = info.flaw(response)
		}
		if why != "" {
			return &FramingError{At: len(b) - len(rest), Why: why}
		}
		rest = next
	}
	return nil
}

func cutFrameInfo(b []byte) (info FrameInfo, rest []byte, why string) {
	if len(b) == 0 {
		return FrameInfo{}, nil, "no frame info"
	}
	numbers, at := [2]int{int(b[0] >> 4), int(b[0] & 0x0f)}, 1
	for i, n := range numbers {
		if n != frameInfoEscape {
			continue
		}
		if at == len(b) {
			return FrameInfo{}, nil, "the header is cut short"
		}
		numbers[i] += int(b[at])
		at++
	}
	id, size := numbers[0], numbers[1]
	if size > len(b)-at {
		return FrameInfo{}, nil, fmt.Sprintf("frame info %d of %d bytes, but %d are left", id, size, len(b)-at)
	}
	return FrameInfo{ID: uint16(id), Data: b[at : at+size : at+size]}, b[at+size:], ""
}

// Append encodes the frame info behind b. It panics if the id or the length of the data is over its limit.
func (i FrameInfo) Append(b []byte) []byte {
	if i.ID > MaxFrameInfoID || len(i.Data) > MaxFrameInfoLen {
		panic(fmt.Sprintf("mcbp: a frame info %d of %d bytes does not fit", i.ID, len(i.Data)))
	}
	id, size := min(int(i.ID), frameInfoEscape), min(len(i.Data), frameInfoEscape)
	b = append(b, byte(id<<4|size))
	if id == frameInfoEscape {
		b = append(b, byte(i.ID-frameInfoEscape))
	}
	if size == frameInfoEscape {
		b = append(b, byte(len(i.Data)-frameInfoEscape))
	}
	return append(b, i.Data...)
}

// flaw says what is wrong with the data of a known id; empty if nothing is.
func (i FrameInfo) flaw(response bool) string {
	n, ok := len(i.Data), true
	switch {
	case response:
		ok = n == 2 || i.ID > FrameInfoThrottleDuration
	case i.ID == FrameInfoDurability:
		_, why := parseDurability(i.Data)
		return why
	case i.ID == FrameInfoBarrier, i.ID == FrameInfoPreserveTTL:
		ok = n == 0
	case i.ID == FrameInfoStreamID, i.ID == FrameInfoAuthToken:
		ok = n == 2
	case i.ID == FrameInfoImpersonate, i.ID == FrameInfoPrivilege:
		ok = n > 0
	}
	if !ok {
		return fmt.Sprintf("frame info %d of %d bytes (response %t)", i.ID, n, response)
	}
	return ""
}

// DurabilityLevel is how many copies must have a durable write before it counts.
type DurabilityLevel uint8

// The levels (dcp-wire §2).
const (
	DurabilityMajority           DurabilityLevel = 1
	DurabilityMajorityAndPersist DurabilityLevel = 2
	DurabilityPersistToMajority  DurabilityLevel = 3
)

const (
	durabilityLen                    = 1
	durabilityLenWithTimeout         = 3
	durabilityTimeoutReserved uint16 = math.MaxUint16

	// A stream id as the only frame info: header and length of the whole.
	streamIDHeader = byte(FrameInfoStreamID)<<4 | 2
	streamIDLen    = 3
)

func (l DurabilityLevel) known() bool {
	return l >= DurabilityMajority && l <= DurabilityPersistToMajority
}

// Durability is the requirement of a durable write.
type Durability struct {
	Level DurabilityLevel
	// Timeout is how long the write may take, in whole milliseconds from 1 to 65 534; 0 leaves it to the engine.
	Timeout time.Duration
}

// ParseDurability decodes the data of a [FrameInfoDurability]. The error is a *[FramingError].
func ParseDurability(data []byte) (Durability, error) {
	d, why := parseDurability(data)
	if why != "" {
		return Durability{}, &FramingError{Why: why}
	}
	return d, nil
}

func parseDurability(data []byte) (d Durability, why string) {
	if len(data) != durabilityLen && len(data) != durabilityLenWithTimeout {
		return d, fmt.Sprintf("a durability requirement of %d bytes", len(data))
	}
	d.Level = DurabilityLevel(data[0])
	if !d.Level.known() {
		return d, fmt.Sprintf("unknown durability level %d", data[0])
	}
	if len(data) == durabilityLenWithTimeout {
		ms := binary.BigEndian.Uint16(data[1:])
		if ms == 0 || ms == durabilityTimeoutReserved {
			return d, fmt.Sprintf("reserved durability timeout %#04x", ms)
		}
		d.Timeout = time.Duration(ms) * time.Millisecond
	}
	return d, ""
}

// AppendInfo encodes the requirement as a frame info behind b. A timeout is rounded up to a millisecond and cut to the
// longest that can be said.
func (d Durability) AppendInfo(b []byte) []byte {
	data := [durabilityLenWithTimeout]byte{byte(d.Level)}
	if d.Timeout <= 0 {
		return FrameInfo{ID: FrameInfoDurability, Data: data[:durabilityLen]}.Append(b)
	}
	ms := min((d.Timeout+time.Millisecond-1)/time.Millisecond, time.Duration(durabilityTimeoutReserved-1))
	binary.BigEndian.PutUint16(data[1:], uint16(ms))
	return FrameInfo{ID: FrameInfoDurability, Data: data[:]}.Append(b)
}
