package atlasqueue

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"
)

var lastID struct {
	sync.Mutex
	stamp uint64
}

// NewJobID makes a job id: a UUID of version 7 (RFC 9562) in canonical text form. The ids of one process ascend.
func NewJobID() string {
	var id [16]byte
	_, _ = rand.Read(id[8:]) // Never fails; see its documentation.
	now := uint64(time.Now().UnixNano())
	// Milliseconds, then 12 bits of the rest of the nanoseconds: ascending within a millisecond too.
	stamp := now/1_000_000<<12 | now%1_000_000*4096/1_000_000
	lastID.Lock()
	stamp = max(stamp, lastID.stamp+1)
	lastID.stamp = stamp
	lastID.Unlock()
	binary.BigEndian.PutUint64(id[:8], stamp>>12<<16|0x7000|stamp&0xFFF)
	id[8] = id[8]&0x3F | 0x80
	var text [36]byte
	hex.Encode(text[:8], id[:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:], id[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
