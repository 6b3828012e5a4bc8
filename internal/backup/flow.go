package backup

import (
	"io"
	"sync"
	"sync/atomic"
)

// lender is a reader that hands out the buffers it has, without a copy of them.
// Like Read of an io.Reader, Lend may return a piece with an error, and is not called
// after one; without one, a piece has a byte at least. It is valid until giveBack is
// called, once, in whatever goroutine. There are only so many: Lend waits for one that
// is given back.
type lender interface {
	Lend() (piece []byte, giveBack func(), err error)
}

// lenderOf lends what r has, or copies what it reads.
func lenderOf(r io.Reader) lender {
	if l, ok := r.(lender); ok {
		return l
	}
	return newBuffered(r)
}

// A buffered reader has so many buffers of so many bytes, at most.
const (
	flowChunk  = 256 << 10
	flowChunks = 6
)

// buffered is the lender of an io.Reader.
type buffered struct {
	r    io.Reader
	free chan []byte
	made int // buffers
}

func newBuffered(r io.Reader) *buffered {
	return &buffered{r: r, free: make(chan []byte, flowChunks)}
}

// buffer returns one that is free, or will be.
func (b *buffered) buffer() []byte {
	if b.made < flowChunks {
		select {
		case buf := <-b.free:
			return buf
		default:
			b.made++
			return make([]byte, flowChunk)
		}
	}
	return <-b.free
}

// Lend implements lender.
func (b *buffered) Lend() (piece []byte, giveBack func(), err error) {
	buf := b.buffer()
	giveBack = func() { b.free <- buf } // there is room for all
	for range 100 {
		n, err := b.r.Read(buf)
		if n > 0 {
			return buf[:n], giveBack, err
		}
		if err != nil {
			giveBack()
			return nil, nil, err
		}
	}
	giveBack()
	return nil, nil, io.ErrNoProgress
}

// flow carries bytes from a lender to those who check and store them, on as many
// cores as there are: it reads ahead in a goroutine of its own, and hands every
// chunk to each of its writers, in theirs, and to whoever reads from the flow, or
// borrows from it: it is a lender. The slowest sets the pace. Exactly one of
// wait and stop ends it.
type flow struct {
	from lender
	seen func()       // called after every Read, Next and Lend, in their goroutine; may be nil
	n    atomic.Int64 // bytes that they have returned

	read    chan *chunk   // for Read, Next and Lend
	failed  chan struct{} // closed when a writer has failed, or by stop
	running sync.WaitGroup

	current *chunk // what they are at
	rest    []byte

	mu  sync.Mutex
	err error // the first of from or a writer, other than io.EOF
}

// chunk is a piece that was lent and several hold; it is given back when all of them
// have released it.
type chunk struct {
	data     []byte
	holders  atomic.Int32
	giveBack func()
}

func newChunk(data []byte, giveBack func(), holders int) *chunk {
	c := &chunk{data: data, giveBack: giveBack}
	c.holders.Store(int32(holders))
	return c
}

// hold adds a holder; whoever calls it is one.
func (c *chunk) hold() { c.holders.Add(1) }

func (c *chunk) release() {
	if c.holders.Add(-1) == 0 {
		c.giveBack()
	}
}

// newFlow begins to read. Each of the writers gets everything.
func newFlow(from lender, seen func(), writers ...io.Writer) *flow {
	f := &flow{from: from, seen: seen, failed: make(chan struct{}), read: make(chan *chunk, flowChunks)}
	to := []chan *chunk{f.read}
	for _, w := range writers {
		to = append(to, f.feed(w))
	}
	f.running.Go(func() { f.pump(to) })
	return f
}

// feed starts a goroutine that writes to w what comes from the returned channel.
func (f *flow) feed(w io.Writer) chan *chunk {
	from := make(chan *chunk, flowChunks)
	f.running.Go(func() {
		var err error
		for c := range from {
			if err == nil {
				if _, err = w.Write(c.data); err != nil {
					f.fail(err)
				}
			}
			c.release()
		}
	})
	return from
}

// pump reads to the end.
func (f *flow) pump(to []chan *chunk) {
	defer func() {
		for _, ch := range to {
			close(ch)
		}
	}()
	for {
		select {
		case <-f.failed:
			return
		default:
		}
		piece, giveBack, err := f.from.Lend()
		if len(piece) > 0 {
			c := newChunk(piece, giveBack, len(to))
			for _, ch := range to {
				ch <- c
			}
		}
		switch {
		case err == io.EOF: //nolint:errorlint // as it is of an io.Reader
			return
		case err != nil:
			f.mu.Lock()
			if f.err == nil {
				f.err = err
			}
			f.mu.Unlock()
			return
		}
	}
}

// fail ends the flow at once because of err.
func (f *flow) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
	select {
	case <-f.failed:
	default:
		close(f.failed)
	}
}

// failure returns why the flow ended or is about to, nil if that is io.EOF.
func (f *flow) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Read returns what was read, and then the error of that; the error of a writer
// comes as soon as it is known.
func (f *flow) Read(p []byte) (int, error) {
	if err := f.fill(); err != nil {
		return 0, err
	}
	n := copy(p, f.rest)
	f.took(n)
	return n, nil
}

// Next is like Read, without a copy: what it returns is valid until the next call.
func (f *flow) Next() ([]byte, error) {
	if err := f.fill(); err != nil {
		return nil, err
	}
	p := f.rest
	f.took(len(p))
	return p, nil
}

// Lend implements lender.
func (f *flow) Lend() (piece []byte, giveBack func(), err error) {
	if err := f.fill(); err != nil {
		return nil, nil, err
	}
	c, p := f.current, f.rest
	f.took(len(p))
	f.current = nil // it is the borrower's to release
	return p, c.release, nil
}

// fill makes sure that there is a rest.
func (f *flow) fill() error {
	for len(f.rest) == 0 {
		if f.current != nil {
			f.current.release()
			f.current = nil
		}
		select {
		case <-f.failed:
			return f.failure()
		default:
		}
		select {
		case c, ok := <-f.read:
			if !ok {
				if err := f.failure(); err != nil {
					return err
				}
				return io.EOF
			}
			f.current, f.rest = c, c.data
		case <-f.failed:
			return f.failure()
		}
	}
	return nil
}

// took notes that n bytes of the rest have been returned.
func (f *flow) took(n int) {
	f.rest = f.rest[n:]
	f.n.Add(int64(n))
	if f.seen != nil {
		f.seen()
	}
}

// wait waits, after Read, Next or Lend has returned io.EOF, until the writers have got
// everything, and returns their error.
func (f *flow) wait() error {
	f.running.Wait()
	return f.failure()
}

// stop ends the flow wherever it is. What its lender reads from must have been
// ended, and what it lends be given back. The writers have then got what Read, Next
// and Lend have returned, at least.
func (f *flow) stop() {
	f.fail(io.ErrClosedPipe)
	if f.current != nil {
		f.current.release()
		f.current, f.rest = nil, nil
	}
	for c := range f.read { // the lender may wait for it
		c.release()
	}
	f.running.Wait()
}
