package rdb

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	bufferSize  = 128 << 10
	trailerSize = 8
	// keepSize bytes at the end are kept: the end record and the checksum. So the
	// sum over everything but the checksum is known at the end of the file.
	keepSize = 1 + trailerSize
	// maxEmptyReads is how often r may return no byte and no error in a row.
	maxEmptyReads = 100
)

// nexter hands out a stream piece by piece, without a copy. A piece is valid until
// the next call. Like Read of an io.Reader, Next may return a piece with an error.
type nexter interface {
	Next() ([]byte, error)
}

// reader is the nexter of an io.Reader.
type reader struct {
	r   io.Reader
	buf []byte
}

func (r *reader) Next() ([]byte, error) {
	n, err := r.r.Read(r.buf)
	return r.buf[:n], err
}

// source reads a stream piece by piece. It knows the offset of every byte and
// keeps the checksum of what was read.
type source struct {
	r      nexter
	buf    []byte // a piece, or joint
	lo, hi int    // buf[lo:hi] is not consumed
	more   []byte // the rest of the piece, while buf is joint
	joint  []byte // the end of a piece and the start of the next, when they are needed in one
	read   int64  // bytes from r
	crc    uint64 // of everything but the last bytes
	last   [keepSize]byte
	err    error  // of r, kept
	part   string // what is being read, for errors
}

func newSource(r io.Reader) source {
	if n, ok := r.(nexter); ok {
		return source{r: n}
	}
	return source{r: &reader{r, make([]byte, bufferSize)}}
}

// offset returns the position of the next byte.
func (s *source) offset() int64 { return s.read - int64(len(s.more)) - int64(s.hi-s.lo) }

// end returns how much was read from r.
func (s *source) end() int64 { return s.read }

// atEOF reports whether r said that this is the end.
func (s *source) atEOF() bool {
	return s.err == io.EOF //nolint:errorlint // wrapped, it is some failure of r's, not the end
}

// need makes n unread bytes available; n is small.
func (s *source) need(n int) error {
	for s.hi-s.lo < n {
		if s.lo < s.hi { // before the piece that it is in goes
			s.joint = append(s.joint[:0], s.buf[s.lo:s.hi]...)
			s.use(s.joint)
		}
		if len(s.more) == 0 {
			if err := s.next(); err != nil {
				return err
			}
		}
		if s.lo == s.hi {
			s.use(s.more)
			s.more = nil
			continue
		}
		k := min(n-s.hi, len(s.more))
		s.joint = append(s.joint, s.more[:k]...)
		s.more = s.more[k:]
		s.use(s.joint)
	}
	return nil
}

// use makes all of p what is read next.
func (s *source) use(p []byte) { s.buf, s.lo, s.hi = p, 0, len(p) }

// next reads more.
func (s *source) next() error {
	for range maxEmptyReads {
		switch {
		case s.atEOF():
			return &Error{Offset: s.end(), What: "unexpected end of file", In: s.part}
		case s.err != nil:
			return fmt.Errorf("rdb: read at offset %d: %w", s.end(), s.err)
		}
		if s.more, s.err = s.r.Next(); len(s.more) > 0 {
			s.sum(s.more)
			return nil
		}
	}
	if s.err == nil {
		s.err = io.ErrNoProgress
	}
	return s.next()
}

// sum adds p to the checksum, but for what may be the end.
func (s *source) sum(p []byte) {
	kept := int(min(s.read, keepSize)) // at the end of last
	s.read += int64(len(p))
	if len(p) >= keepSize {
		s.crc = updateCRC(s.crc, s.last[keepSize-kept:])
		s.crc = updateCRC(s.crc, p[:len(p)-keepSize])
		copy(s.last[:], p[len(p)-keepSize:])
		return
	}
	if over := kept + len(p) - keepSize; over > 0 {
		s.crc = updateCRC(s.crc, s.last[keepSize-kept:keepSize-kept+over])
	}
	copy(s.last[:], s.last[len(p):])
	copy(s.last[keepSize-len(p):], p)
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

// checksums returns, at the end of a file of at least keepSize bytes, the sum over
// all but its last size bytes, and those bytes as a number (size is 8 or 0).
func (s *source) checksums(size int) (computed, stored uint64) {
	if size > 0 {
		stored = binary.LittleEndian.Uint64(s.last[keepSize-size:])
	}
	return updateCRC(s.crc, s.last[:keepSize-size]), stored
}

// endsIn reports whether op stands before the checksum at the end of the file.
func (s *source) endsIn(op byte) bool { return s.last[0] == op }

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
