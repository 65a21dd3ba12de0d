package kvnode

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// What lies on disk is checked when it is read: every value starts with the version of its layout and the checksum of
// what follows.
const (
	recordVersion = 1
	recordPrefix  = 1 + crc32.Size
	// itemFixed is the length of an item before its value: flags, datatype, CAS, seqno, revision, client's flags, expiry,
	// delete time.
	itemFixed   = 1 + 1 + 8 + 8 + 8 + 4 + 4 + 4
	itemDeleted = 1
	itemExpired = 2
	// A version that is no document says of which kind it is. One that a durable write has to do with has a level and the seqnos of
	// what was there before, ahead of its value.
	itemPrepared = 4
	itemAborted  = 8
	itemDurable  = 16
	durableFixed = 1 + 8 + 8
)

var (
	errRecordShort    = errors.New("a record that is too short")
	errRecordVersion  = errors.New("a record of an unknown version")
	errRecordChecksum = errors.New("a record whose checksum is wrong")
	errRecordContent  = errors.New("a record that contradicts itself")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal fills in the prefix of a record, which is the first recordPrefix bytes of b. The checksum covers the key too, so
// that a record cannot turn up under another.
func seal(key string, b []byte) []byte {
	b[0] = recordVersion
	binary.BigEndian.PutUint32(b[1:], checksum(key, b[recordPrefix:]))
	return b
}

func checksum(key string, content []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, content)
}

// open checks a record and returns its content.
func open(key string, b []byte) ([]byte, error) {
	switch {
	case len(b) < recordPrefix:
		return nil, errRecordShort
	case b[0] != recordVersion:
		return nil, fmt.Errorf("%w: %d", errRecordVersion, b[0])
	case binary.BigEndian.Uint32(b[1:]) != checksum(key, b[recordPrefix:]):
		return nil, errRecordChecksum
	}
	return b[recordPrefix:], nil
}

func encodeItem(it *item) []byte {
	b := make([]byte, recordPrefix, recordPrefix+itemFixed+len(it.value))
	var flags byte
	if it.deleted {
		flags = itemDeleted
	}
	if it.expired {
		flags |= itemExpired
	}
	switch it.kind {
	case prepared:
		flags |= itemPrepared
	case aborted:
		flags |= itemAborted
	}
	durable := it.kind != document || it.prior != 0 || it.since != 0
	if durable {
		flags |= itemDurable
	}
	b = append(b, flags, byte(it.datatype))
	b = binary.BigEndian.AppendUint64(b, it.cas)
	b = binary.BigEndian.AppendUint64(b, it.seqno)
	b = binary.BigEndian.AppendUint64(b, it.rev)
	b = binary.BigEndian.AppendUint32(b, it.flags)
	b = binary.BigEndian.AppendUint32(b, it.expiry)
	b = binary.BigEndian.AppendUint32(b, it.deleteTime)
	if durable {
		b = binary.BigEndian.AppendUint64(append(b, byte(it.level)), it.prior)
		b = binary.BigEndian.AppendUint64(b, it.since)
	}
	return seal(it.key, append(b, it.value...))
}

// decodeItem copies what it keeps of the record.
func decodeItem(key string, record []byte) (*item, error) {
	b, err := open(key, record)
	if err != nil {
		return nil, err
	}
	if len(b) < itemFixed {
		return nil, errRecordShort
	}
	it := &item{
		key: key, deleted: b[0]&itemDeleted != 0, expired: b[0]&itemExpired != 0, datatype: mcbp.Datatype(b[1]),
		cas: binary.BigEndian.Uint64(b[2:]), seqno: binary.BigEndian.Uint64(b[10:]), rev: binary.BigEndian.Uint64(b[18:]),
		flags: binary.BigEndian.Uint32(b[26:]), expiry: binary.BigEndian.Uint32(b[30:]), deleteTime: binary.BigEndian.Uint32(b[34:]),
	}
	flags := b[0]
	b = b[itemFixed:]
	switch {
	case flags&itemPrepared != 0:
		it.kind = prepared
	case flags&itemAborted != 0:
		it.kind = aborted
	}
	if flags&itemDurable != 0 {
		if len(b) < durableFixed {
			return nil, errRecordShort
		}
		it.level = mcbp.DurabilityLevel(b[0])
		it.prior, it.since = binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:])
		b = b[durableFixed:]
	}
	if len(b) > 0 || !it.deleted {
		it.value = append([]byte{}, b...)
	}
	if key == "" || len(key) > maxKeyLen || it.seqno == 0 || len(it.value) > maxValue {
		return nil, errRecordContent
	}
	return it, nil
}

// encodeJSON makes a record of anything small.
func encodeJSON(key string, v any) ([]byte, error) {
	content, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return seal(key, append(make([]byte, recordPrefix), content...)), nil
}

func decodeJSON(key string, record []byte, v any) error {
	content, err := open(key, record)
	if err != nil {
		return err
	}
	return json.Unmarshal(content, v)
}
