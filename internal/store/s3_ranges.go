package store

import (
	"context"
	"io"
	"sync"
)

const (
	// rangeSize is how much of a large object one request asks for, and
	// rangeBuffers how many ranges are in memory at most: those that are read or
	// lent, and those that are fetched ahead of them.
	rangeSize    = 5 * mib
	rangeBuffers = 4
)

// rangeReader reads a large object in order while ranges of it are fetched in
// parallel. It is a Lender of them.
type rangeReader struct {
	ctx    context.Context //nolint:containedctx // an io.Reader has nowhere else to get it from
	cancel context.CancelFunc
	object

	fetches sync.WaitGroup
	ranges  chan *fetched // in order
	spare   chan []byte   // buffers that are not in use; nil stands for one that was never needed

	now    *fetched
	rest   []byte // of now
	offset int64  // of the next byte
	err    error
}

// fetched is a range, complete when done is closed.
type fetched struct {
	buf  []byte
	err  error
	done chan struct{}
}

// newRangeReader goes on with an object of whose first range the body is there.
func newRangeReader(ctx context.Context, cancel context.CancelFunc, o object, first io.ReadCloser) *rangeReader {
	n := o.s3.rangeBuffers
	r := &rangeReader{ctx: ctx, cancel: cancel, object: o, ranges: make(chan *fetched, n), spare: make(chan []byte, n)}
	for range n {
		r.spare <- nil
	}
	r.fetches.Go(func() { r.dispatch(first) })
	return r
}

// dispatch begins a fetch for each range as soon as there is a buffer for it.
func (r *rangeReader) dispatch(first io.ReadCloser) {
	defer close(r.ranges)
	for offset := int64(0); offset < r.size; offset += r.s3.rangeSize {
		var buf []byte
		select {
		case buf = <-r.spare:
		case <-r.ctx.Done():
			if offset == 0 {
				_ = first.Close()
			}
			return
		}
		if buf == nil {
			buf = make([]byte, r.s3.rangeSize)
		}
		f := &fetched{buf: buf[:min(r.s3.rangeSize, r.size-offset)], done: make(chan struct{})}
		r.ranges <- f // has room for all buffers
		var body io.ReadCloser
		if offset == 0 {
			body = first
		}
		r.fetches.Go(func() {
			defer close(f.done)
			f.err = r.fetch(f.buf, offset, body)
		})
	}
}

// fetch fills buf with the bytes from offset, the first of them from body if
// there is one. An attempt that yields bytes is none that failed, unless it ends in
// silence again and again: see maxStalls.
func (r *rangeReader) fetch(buf []byte, offset int64, body io.ReadCloser) error {
	stalls := 0
	var over error // too many of them
	for len(buf) > 0 {
		err := r.s3.try(r.ctx, r.s3.carry, func() (err error) {
			if body == nil {
				if body, err = r.from(r.ctx, offset, offset+int64(len(buf))); err != nil {
					body = nil
					return err
				}
			}
			n, err := io.ReadFull(body, buf)
			_ = body.Close()
			body = nil
			buf, offset = buf[n:], offset+int64(n)
			if stalled(err) {
				if stalls++; stalls > maxStalls {
					over = r.broken(offset, err)
				}
			}
			if err == nil || n > 0 || over != nil {
				return nil //nolint:nilerr // what came is kept; over says the rest
			}
			if err == io.EOF { //nolint:errorlint // of the body itself
				err = io.ErrUnexpectedEOF
			}
			return r.broken(offset, err)
		})
		if err == nil {
			err = over
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *rangeReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.err == nil && len(r.rest) == 0 {
		r.err = r.next()
	}
	if r.err != nil {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.offset += int64(n)
	return n, nil
}

// Lend implements Lender.
func (r *rangeReader) Lend() (piece []byte, giveBack func(), err error) {
	if r.err == nil && len(r.rest) == 0 {
		r.err = r.next()
	}
	if r.err != nil {
		return nil, nil, r.err
	}
	f, piece := r.now, r.rest
	r.now, r.rest = nil, nil
	r.offset += int64(len(piece))
	return piece, func() { r.giveBack(f) }, nil
}

func (r *rangeReader) giveBack(f *fetched) {
	r.spare <- f.buf[:cap(f.buf)] // has room for all there are
}

// next waits for the next range.
func (r *rangeReader) next() error {
	if r.now != nil {
		r.giveBack(r.now)
		r.now = nil
	}
	if r.offset == r.size {
		return io.EOF
	}
	// What was fetched already is not handed out any more once ctx has ended.
	f := <-r.ranges
	if f != nil { // nil: closed, because ctx has ended
		<-f.done
	}
	switch {
	case r.ctx.Err() != nil:
		return r.s3.error(r.ctx, "get", r.key, r.ctx.Err())
	case f.err != nil:
		return r.s3.error(r.ctx, "get", r.key, f.err)
	}
	r.now, r.rest = f, f.buf
	return nil
}

// Close ends the transfer.
func (r *rangeReader) Close() error {
	r.cancel()
	r.fetches.Wait()
	return nil
}
