// Package jobid knows the two forms of a job's id: its text, and the 16 bytes that stand in a column.
package jobid

import "encoding/hex"

// Bytes of an id in a column.
const Bytes = 16

// Parse gives the bytes of a UUID in its text form, in either case; the nil UUID, which no job may have, of any other
// text.
func Parse(text string) (id [Bytes]byte) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return id
	}
	var digits [32]byte
	copy(digits[:8], text)
	copy(digits[8:12], text[9:])
	copy(digits[12:16], text[14:])
	copy(digits[16:20], text[19:])
	copy(digits[20:], text[24:])
	if _, err := hex.Decode(id[:], digits[:]); err != nil {
		return [Bytes]byte{}
	}
	return id
}

// Text gives the canonical text form of an id.
func Text(id [Bytes]byte) string {
	var text [36]byte
	hex.Encode(text[:8], id[:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:], id[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
