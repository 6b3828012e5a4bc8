package backup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
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

// frameReader is a lender that decompresses a sequence of frames ahead, several at
// the same time, and lends one after the other. It holds a few of them, compressed
// and not.
type frameReader struct {
	from    *bufio.Reader
	limit   int // bytes of a compressed frame, at most
	dec     *zstd.Decoder
	free    chan *frame
	order   chan *frame // as they come in from
	quit    chan struct{}
	running sync.WaitGroup
}

// frame is one on its way; plain and err are valid when done is closed.
type frame struct {
	stored, plain []byte
	err           error
	done          chan struct{}
}

// newFrameReader begins to read r, whose frames have up to size plain bytes each.
// close must be called.
func newFrameReader(r io.Reader, size int) (*frameReader, error) {
	workers := min(runtime.GOMAXPROCS(0), frameWorkers)
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(workers),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecodeAllCapLimit(true),     // that of frame.plain
		zstd.WithDecoderMaxMemory(maxWindow)) // the header of a frame may name a window that is larger than the frame
	if err != nil {
		return nil, err
	}
	frames := workers + 2 // one is filled, and one is with those who get it
	f := &frameReader{
		from:  bufio.NewReaderSize(r, 64<<10),
		limit: size + size/64 + 64, // what cannot be compressed has three bytes more for each of its blocks
		dec:   dec,
		free:  make(chan *frame, frames), order: make(chan *frame, frames),
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
				close(frame.done)
			}
		})
	}
	return f, nil
}

// split cuts what is read into frames.
func (r *frameReader) split(work chan<- *frame) {
	defer close(r.order)
	defer close(work)
	for {
		var f *frame
		select {
		case f = <-r.free:
		case <-r.quit:
			return
		}
		var err error
		if f.stored, err = readFrame(r.from, f.stored[:0], r.limit); err == io.EOF { //nolint:errorlint // its own
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

func (r *frameReader) lend() (piece []byte, giveBack func(), err error) {
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

// close releases everything. What from waits for must have been ended; lend is not
// called any more, nor is a piece in use.
func (r *frameReader) close() {
	close(r.quit)
	r.running.Wait()
	r.dec.Close()
}

// readFrame appends one frame, of limit bytes at most, to buf. The error is io.EOF
// where there is none. Only its outline is looked at.
func readFrame(r *bufio.Reader, buf []byte, limit int) ([]byte, error) {
	head, err := r.Peek(zstd.HeaderMaxSize)
	if len(head) == 0 || err != nil && err != io.EOF {
		return buf, err
	}
	var h zstd.Header
	if err := h.Decode(head); err != nil {
		return buf, err
	}
	if h.Skippable {
		return buf, errors.New("a frame that holds no data")
	}
	take := func(n int) error {
		if len(buf)+n > limit {
			return fmt.Errorf("a frame of more than %d bytes, and object.frame_size of the manifest says otherwise", limit)
		}
		at := len(buf)
		buf = slices.Grow(buf, n)[:at+n]
		_, err := io.ReadFull(r, buf[at:])
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if err := take(h.HeaderSize); err != nil {
		return buf, err
	}
	// https://www.rfc-editor.org/rfc/rfc8878#name-blocks
	const blockHeader = 3
	for last := false; !last; {
		if err := take(blockHeader); err != nil {
			return buf, err
		}
		b := buf[len(buf)-blockHeader:]
		bits := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
		size := bits >> 3
		if bits>>1&3 == 1 { // one byte, so many times
			size = 1
		}
		if err := take(size); err != nil {
			return buf, err
		}
		last = bits&1 == 1
	}
	if h.HasCheckSum {
		if err := take(4); err != nil {
			return buf, err
		}
	}
	return buf, nil
}
