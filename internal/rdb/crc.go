package rdb

import (
	"encoding/binary"
	"hash/crc64"
	"sync"
)

// crcLane is how many bytes of a lane are summed in one go, and crcLanes how many
// lanes side by side: the sum of one byte waits for that of the byte before, and
// a core that waits can work for the others meanwhile.
const (
	crcLane  = 4 << 10
	crcLanes = 4
)

// crcTables are made at the first use.
type crcTables struct {
	bytes lookup8 // as in slicing by eight: what a byte does to the sum, so many bytes later
	lane  lookup8 // what a byte of the sum becomes, one lane later
}

// jones is the polynomial of the checksum in RDB files.
const jones = 0x95ac9329ac4bc9b5

//nolint:gochecknoglobals // a table that only its first use writes
var tables = sync.OnceValue(func() *crcTables {
	t := &crcTables{bytes: lookup8{*crc64.MakeTable(jones)}}
	for i := 1; i < 8; i++ {
		for b := range 256 {
			c := t.bytes[i-1][b]
			t.bytes[i][b] = t.bytes[0][c&0xff] ^ c>>8
		}
	}
	// The sum is linear: what becomes of a number is the exclusive or of what
	// becomes of its bits.
	zeros := make([]byte, crcLane)
	var bit [64]uint64
	for i := range bit {
		bit[i] = t.serial(1<<i, zeros)
	}
	for k := range 8 { // byte k of the sum; the tables are in the order of bytes
		for b := range 256 {
			for i := range 8 {
				if b>>i&1 == 1 {
					t.lane[7-k][b] ^= bit[8*k+i]
				}
			}
		}
	}
	return t
})

// updateLanes is updateCRC on every CPU.
func updateLanes(crc uint64, p []byte) uint64 {
	t := tables()
	for len(p) >= crcLanes*crcLane {
		crc = t.parallel(crc, p[:crcLanes*crcLane])
		p = p[crcLanes*crcLane:]
	}
	return t.serial(crc, p)
}

// parallel sums four lanes at the same time.
func (t *crcTables) parallel(crc uint64, p []byte) uint64 {
	p0, p1 := p[:crcLane:crcLane], p[crcLane:2*crcLane:2*crcLane]
	p2, p3 := p[2*crcLane:3*crcLane:3*crcLane], p[3*crcLane:4*crcLane:4*crcLane]
	l := &t.bytes
	c0, c1, c2, c3 := crc, uint64(0), uint64(0), uint64(0)
	for i := 0; i <= crcLane-8; i += 8 {
		c0 ^= binary.LittleEndian.Uint64(p0[i : i+8])
		c1 ^= binary.LittleEndian.Uint64(p1[i : i+8])
		c2 ^= binary.LittleEndian.Uint64(p2[i : i+8])
		c3 ^= binary.LittleEndian.Uint64(p3[i : i+8])
		c0 = l.low(uint32(c0)) ^ l.high(uint32(c0>>32))
		c1 = l.low(uint32(c1)) ^ l.high(uint32(c1>>32))
		c2 = l.low(uint32(c2)) ^ l.high(uint32(c2>>32))
		c3 = l.low(uint32(c3)) ^ l.high(uint32(c3>>32))
	}
	for _, next := range [...]uint64{c1, c2, c3} {
		c0 = t.lane.low(uint32(c0)) ^ t.lane.high(uint32(c0>>32)) ^ next
	}
	return c0
}

// lookup8 is what the eight bytes of c become together. It is in two halves so
// that the compiler inlines it.
type lookup8 [8][256]uint64

func (l *lookup8) low(c uint32) uint64 {
	return l[7][c&0xff] ^ l[6][c>>8&0xff] ^ l[5][c>>16&0xff] ^ l[4][c>>24]
}

func (l *lookup8) high(c uint32) uint64 {
	return l[3][c&0xff] ^ l[2][c>>8&0xff] ^ l[1][c>>16&0xff] ^ l[0][c>>24]
}

func (t *crcTables) serial(crc uint64, p []byte) uint64 {
	for ; len(p) >= 8; p = p[8:] {
		crc ^= binary.LittleEndian.Uint64(p)
		crc = t.bytes.low(uint32(crc)) ^ t.bytes.high(uint32(crc>>32))
	}
	for _, b := range p {
		crc = t.bytes[0][byte(crc)^b] ^ crc>>8
	}
	return crc
}
