package atlasqueue

import (
	"crypto/rand"
	"encoding/binary"
	"strings"
	"sync"
	"time"

	"github.com/atlasqueue/atlasqueue/clients/go/internal/jobid"
)

var lastID struct {
	sync.Mutex
	stamp uint64
}

// NewJobID makes a job id: a UUID of version 7 (RFC 9562) in canonical text form. The ids of one process ascend.
func NewJobID() string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // Never fails; see its documentation.
	return newJobID(nextStamps(1), random)
}

// setJobIDs makes ids for the jobs that have none. Clock and randomness, which cost the most, are asked once for all.
func setJobIDs(jobs []NewJob) {
	missing := 0
	for i := range jobs {
		if jobs[i].JobID == "" {
			missing++
		}
	}
	if missing == 0 {
		return
	}
	stamp, random := nextStamps(missing), make([]byte, 8*missing)
	_, _ = rand.Read(random)
	for i := range jobs {
		if jobs[i].JobID == "" {
			jobs[i].JobID = newJobID(stamp, [8]byte(random))
			stamp, random = stamp+1, random[8:]
		}
	}
}

// nextStamps gives the first of so many stamps that nobody else gets.
func nextStamps(count int) uint64 {
	now := uint64(time.Now().UnixNano())
	// Milliseconds, then 12 bits of the rest of the nanoseconds: ascending within a millisecond too.
	stamp := now/1_000_000<<12 | now%1_000_000*4096/1_000_000
	lastID.Lock()
	defer lastID.Unlock()
	stamp = max(stamp, lastID.stamp+1)
	lastID.stamp = stamp + uint64(count) - 1
	return stamp
}

func newJobID(stamp uint64, random [8]byte) string {
	var id [jobid.Bytes]byte
	copy(id[8:], random[:])
	binary.BigEndian.PutUint64(id[:8], stamp>>12<<16|0x7000|stamp&0xFFF)
	id[8] = id[8]&0x3F | 0x80
	return jobid.Text(id)
}

// lowerJobID is a UUID's text in lower case. Digits, hyphens and small letters have a bit that capitals have not, so
// that what is in lower case already, as most are, is soon seen.
func lowerJobID(text string) string {
	bits := byte(' ')
	for i := range len(text) {
		bits &= text[i]
	}
	if bits == 0 {
		return strings.ToLower(text)
	}
	return text
}
