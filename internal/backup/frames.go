package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// One frame of zstd can only be decompressed from its beginning to its end, by one
// core: about 1 GB/s of an RDB. So what is stored is a sequence of frames, of
// frameSize bytes of the RDB each, which several cores decompress side by side.
// It costs 0.3 % of the stored size, and zstd reads the sequence like one frame.
const (
	frameSize = 1 << 20
	// maxFrameSize is what fits into memory, see newFrameReader. Larger frames are
	// read like one.
	maxFrameSize = 2 << 20

	// frameWorkers is how many cores decompress at most: about 2 GB/s of an RDB, more
	// than a store and a disk give. Each takes 2 MiB and more, with the frames it has in hand.
	frameWorkers = 2
)

// frameWriter compresses into frames.
type frameWriter struct {
	to  io.Writer
	enc *zstd.Encoder
	n   int // bytes in the frame that is open
}

// newFrameWriter returns one that writes to w.
func newFrameWriter(w io.Writer) (*frameWriter, error) {
	// The small window stays in the core's cache: of an RDB, larger ones are slower
	// and gain nothing (0.1 % of it, at 1 MiB). One thread is faster than a save
	// of the server, whose child needs a core, too.
	enc, err := zstd.NewWriter(w,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(256<<10),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	return &frameWriter{enc: enc, to: w}, nil
}

func (w *frameWriter) Write(p []byte) (total int, err error) {
	for len(p) > 0 {
		if w.n == frameSize {
			if err := w.enc.Close(); err != nil {
				return total, err
			}
			w.enc.Reset(w.to)
			w.n = 0
		}
		n, err := w.enc.Write(p[:min(len(p), frameSize-w.n)])
		w.n += n
		total += n
		if err != nil {
			return total, err
		}
		p = p[n:]
	}
	return total, nil
}

// Close ends the last frame.
func (w *frameWriter) Close() error { return w.enc.Close() }

// frameReader is a lender that decompresses a sequence of frames ahead, several
// at the same time, and lends one after the other. It holds a few of them.
type frameReader struct {
	from    cutter
	dec     *zstd.Decoder
	free    chan *frame
	order   chan *frame // as they come in from
	quit    chan struct{}
	running sync.WaitGroup
}

// frame is one on its way; plain and err are valid when done is closed.
type frame struct {
	stored []byte
	in     *chunk // that stored is in; nil: it is in own
	own    []byte
	plain  []byte
	err    error
	done   chan struct{}
}

// newFrameReader begins to read what from lends, whose frames have up to size plain
// bytes each. close must be called.
func newFrameReader(from lender, size int) (*frameReader, error) {
	workers := min(runtime.GOMAXPROCS(0), frameWorkers)
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(workers),
		zstd.WithDecoderLowmem(true),
		zstd.IgnoreChecksum(true),            // that of the RDB, which the manifest has, proves as much
		zstd.WithDecodeAllCapLimit(true),     // that of frame.plain
		zstd.WithDecoderMaxMemory(maxWindow)) // the header of a frame may name a window that is larger than the frame
	if err != nil {
		return nil, err
	}
	frames := workers + 2 // one is filled, and one is with those who get it
	f := &frameReader{
		// What cannot be compressed has three bytes more for each of its blocks.
		from: cutter{from: from, limit: size + size/64 + 64},
		dec:  dec,
		free: make(chan *frame, frames), order: make(chan *frame, frames),
		quit: make(chan struct{}),
	}
	const slack = 132 << 10 // the decoder is faster while a block more has room
	for range frames {
		f.free <- &frame{plain: make([]byte, 0, size+slack)}
	}
	work := make(chan *frame, frames)
	f.running.Go(func() { f.split(work) })
	for range workers {
		f.running.Go(func() {
			for frame := range work {
				frame.plain, frame.err = dec.DecodeAll(frame.stored, frame.plain[:0])
				frame.release() // whoever lent it may wait for it
				close(frame.done)
			}
		})
	}
	return f, nil
}

func (f *frame) release() {
	if f.in != nil {
		f.in.release()
		f.in = nil
	}
}

// split cuts what is lent into frames.
func (r *frameReader) split(work chan<- *frame) {
	defer close(r.order)
	defer close(work)
	defer r.from.release()
	for {
		var f *frame
		select {
		case f = <-r.free:
		case <-r.quit:
			return
		}
		err := r.from.next(f)
		if err == io.EOF { //nolint:errorlint // its own
			return
		}
		f.err, f.done = err, make(chan struct{})
		r.order <- f // this and work have room for all there are
		if err != nil {
			close(f.done)
			return
		}
		work <- f
	}
}

// Lend implements lender.
func (r *frameReader) Lend() (piece []byte, giveBack func(), err error) {
	for f := range r.order {
		<-f.done
		switch {
		case f.err != nil:
			return nil, nil, decodeError("decompress", f.err)
		case len(f.plain) > 0:
			return f.plain, func() { r.free <- f }, nil // there is room for all
		}
		r.free <- f
	}
	return nil, nil, io.EOF
}

// close releases everything. What from waits for must have been ended; Lend is not
// called any more, nor is a piece in use.
func (r *frameReader) close() {
	close(r.quit)
	r.running.Wait()
	r.dec.Close()
}

// cutter cuts what is lent into frames, without a copy of one that lies in one piece.
type cutter struct {
	from  lender
	limit int // bytes of a compressed frame, at most

	piece *chunk // that rest is in
	rest  []byte
	err   error // that comes after it
}

// next makes f the next frame. The error is io.EOF where there is none. Only its
// outline is looked at.
func (c *cutter) next(f *frame) error {
	f.own = f.own[:0]
	var o outline
	for {
		there := c.rest
		if len(f.own) > 0 {
			there = f.own
		}
		whole, err := o.follow(there)
		switch {
		case err != nil:
			return err
		case o.size > c.limit:
			return fmt.Errorf("a frame of more than %d bytes, and object.frame_size of the manifest says otherwise", c.limit)
		case whole && len(f.own) > 0:
			f.stored = f.own
			return nil
		case whole:
			f.stored, c.rest = c.rest[:o.size:o.size], c.rest[o.size:]
			f.in = c.piece
			f.in.hold()
			return nil
		}
		if len(c.rest) == 0 {
			if err = c.more(); err == io.EOF && len(f.own) > 0 { //nolint:errorlint // of a reader
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return err
			}
			continue
		}
		// It goes on in another piece, or began in one.
		if f.own == nil {
			f.own = make([]byte, 0, c.limit)
		}
		n := min(o.size-len(f.own), len(c.rest))
		f.own, c.rest = append(f.own, c.rest[:n]...), c.rest[n:]
	}
}

// more goes on to the next piece.
func (c *cutter) more() error {
	c.release()
	if c.err != nil {
		return c.err
	}
	piece, giveBack, err := c.from.Lend()
	c.err = err
	if len(piece) == 0 {
		return err
	}
	c.piece, c.rest = newChunk(piece, giveBack, 1), piece
	return nil
}

func (c *cutter) release() {
	if c.piece != nil {
		c.piece.release()
		c.piece, c.rest = nil, nil
	}
}

// outline is what is known of a frame of which more and more is there.
// https://www.rfc-editor.org/rfc/rfc8878#name-zstandard-frames
type outline struct {
	size     int  // its bytes, as far as known
	blocks   bool // size is up to and with the header of a block
	last     bool // size is all of it
	checksum int  // bytes after the last block
}

const (
	magicSize       = 4
	blockHeaderSize = 3
)

// follow looks at what is there of the frame, from its start. It reports whether that
// is all of it; if not, it has more bytes, and size at least.
func (o *outline) follow(b []byte) (whole bool, err error) {
	if o.size == 0 {
		o.size = magicSize + 1 // what the rest of the header has
	}
	for !o.last && o.size <= len(b) {
		if !o.blocks {
			if err := o.header(b); err != nil {
				return false, err
			}
			continue
		}
		h := b[o.size-blockHeaderSize:]
		bits := int(h[0]) | int(h[1])<<8 | int(h[2])<<16
		if o.last = bits&1 == 1; o.last {
			o.size += o.checksum
		} else {
			o.size += blockHeaderSize
		}
		if bits>>1&3 == 1 { // one byte, so many times
			o.size++
		} else {
			o.size += bits >> 3
		}
	}
	return o.last && o.size <= len(b), nil
}

// header reads the descriptor of the frame's header.
func (o *outline) header(b []byte) error {
	switch magic := binary.LittleEndian.Uint32(b); {
	case magic>>4 == 0x184d2a5:
		return errors.New("a frame that holds no data")
	case magic != 0xfd2fb528:
		return zstd.ErrMagicMismatch
	}
	d := b[magicSize]
	single := d>>5&1 == 1             // segment: there is no window, and the content's size is known
	o.size += []int{0, 1, 2, 4}[d&3]  // the dictionary
	o.size += []int{0, 2, 4, 8}[d>>6] // the content's size
	if !single || d>>6 == 0 {
		o.size++ // the window, or the content's size
	}
	o.size += blockHeaderSize
	o.blocks = true
	if d>>2&1 == 1 {
		o.checksum = 4
	}
	return nil
}
