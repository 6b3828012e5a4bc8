package rdb

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	bufferSize  = 128 << 10
	trailerSize = 8
	// keepSize bytes before the read position stay in the buffer: the end record
	// and the checksum. So the sum over everything but the checksum is known at
	// the end of the file even when the walk ran past it.
	keepSize = 1 + trailerSize
	// maxEmptyReads is how often r may return no byte and no error in a row.
	maxEmptyReads = 100
)

// source reads a stream through one buffer. It knows the offset of every byte and
// keeps the checksum of what has left the buffer.
type source struct {
	r      io.Reader
	buf    []byte
	lo, hi int    // buf[lo:hi] is read but not consumed
	base   int64  // offset of buf[0]
	crc    uint64 // of everything before buf[0]
	err    error  // of r, kept
	part   string // what is being read, for errors
}

// offset returns the position of the next byte.
func (s *source) offset() int64 { return s.base + int64(s.lo) }

// end returns how much was read from r.
func (s *source) end() int64 { return s.base + int64(s.hi) }

// atEOF reports whether r said that this is the end.
func (s *source) atEOF() bool {
	return s.err == io.EOF //nolint:errorlint // wrapped, it is some failure of r's, not the end
}

// need makes n unread bytes available; n is small.
func (s *source) need(n int) error {
	for empty := 0; s.hi-s.lo < n; {
		switch {
		case s.atEOF():
			return &Error{Offset: s.end(), What: "unexpected end of file", In: s.part}
		case s.err != nil:
			return fmt.Errorf("rdb: read at offset %d: %w", s.end(), s.err)
		}
		if s.hi > len(s.buf)/2 {
			s.drop()
		}
		m, err := s.r.Read(s.buf[s.hi:])
		s.hi += m
		s.err = err
		if m > 0 {
			empty = 0
		} else if empty++; err == nil && empty >= maxEmptyReads {
			s.err = io.ErrNoProgress
		}
	}
	return nil
}

// drop makes room in the buffer.
func (s *source) drop() {
	n := min(s.lo, s.hi-keepSize)
	if n <= 0 {
		return
	}
	s.crc = updateCRC(s.crc, s.buf[:n])
	copy(s.buf, s.buf[n:s.hi])
	s.base += int64(n)
	s.lo -= n
	s.hi -= n
}

// drain consumes the rest.
func (s *source) drain() error {
	for {
		s.lo = s.hi
		err := s.need(1)
		if s.lo == s.hi && s.atEOF() {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// checksums returns, at the end of the file, the sum over all but its last size
// bytes, and those bytes as a number (size is 8 or 0).
func (s *source) checksums(size int) (computed, stored uint64) {
	at := s.hi - size
	if size > 0 {
		stored = binary.LittleEndian.Uint64(s.buf[at:])
	}
	return updateCRC(s.crc, s.buf[:at]), stored
}

// endsIn reports whether op stands before the checksum at the end of the file.
func (s *source) endsIn(op byte) bool { return s.buf[s.hi-keepSize] == op }

// damaged returns an error about the bytes that begin at offset.
func (s *source) damaged(offset int64, format string, args ...any) error {
	return &Error{Offset: offset, What: fmt.Sprintf(format, args...), In: s.part}
}

// byte consumes one byte.
func (s *source) byte() (byte, error) {
	if s.lo == s.hi {
		if err := s.need(1); err != nil {
			return 0, err
		}
	}
	b := s.buf[s.lo]
	s.lo++
	return b, nil
}

// bytes consumes n bytes; n is small. They are valid until the next call.
func (s *source) bytes(n int) ([]byte, error) {
	if err := s.need(n); err != nil {
		return nil, err
	}
	p := s.buf[s.lo : s.lo+n]
	s.lo += n
	return p, nil
}

// skip consumes n bytes, however many.
func (s *source) skip(n uint64) error {
	for n > uint64(s.hi-s.lo) {
		n -= uint64(s.hi - s.lo)
		s.lo = s.hi
		if err := s.need(1); err != nil {
			return err
		}
	}
	s.lo += int(n)
	return nil
}

// The encodings a string can have instead of a length.
const (
	encInt8  = 0
	encInt16 = 1
	encInt32 = 2
	encLZF   = 3
)

// length consumes a length. When special is set, n is the encoding of the string
// that follows, not a length.
func (s *source) length() (n uint64, special bool, err error) {
	b, err := s.byte()
	if err != nil {
		return 0, false, err
	}
	switch b >> 6 {
	case 0:
		return uint64(b), false, nil
	case 1:
		low, err := s.byte()
		return uint64(b&0x3f)<<8 | uint64(low), false, err
	case 3:
		return uint64(b & 0x3f), true, nil
	}
	switch b {
	case 0x80:
		p, err := s.bytes(4)
		if err != nil {
			return 0, false, err
		}
		return uint64(binary.BigEndian.Uint32(p)), false, nil
	case 0x81:
		p, err := s.bytes(8)
		if err != nil {
			return 0, false, err
		}
		return binary.BigEndian.Uint64(p), false, nil
	}
	return 0, false, s.damaged(s.offset()-1, "invalid length byte 0x%02x", b)
}

// number consumes a length that must be a number.
func (s *source) number() (uint64, error) {
	at := s.offset()
	n, special, err := s.length()
	if err == nil && special {
		return 0, s.damaged(at, "string encoding %d where a number belongs", n)
	}
	return n, err
}

// string consumes a string of any size.
func (s *source) string() error {
	at := s.offset()
	n, special, err := s.length()
	switch {
	case err != nil:
		return err
	case !special:
		return s.skip(n)
	case n <= encInt32:
		return s.skip(1 << n)
	case n == encLZF:
		return s.lzf()
	}
	return s.damaged(at, "unknown string encoding %d", n)
}

// lzf consumes the rest of a compressed string.
func (s *source) lzf() error {
	compressed, err := s.number()
	if err != nil {
		return err
	}
	if _, err := s.number(); err != nil { // the length it will have
		return err
	}
	return s.skip(compressed)
}
