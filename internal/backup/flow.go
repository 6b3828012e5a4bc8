package backup

import (
	"io"
	"sync"
	"sync/atomic"
)

// A flow holds so many chunks of so many bytes, however long it is.
const (
	flowChunk  = 256 << 10
	flowChunks = 6
)

// flow carries bytes from a reader to those who check and store them, on as many
// cores as there are: it reads ahead in a goroutine of its own, and hands every
// chunk to each of its writers, in theirs, and to whoever reads from the flow. The
// slowest sets the pace. Exactly one of wait and stop ends it.
type flow struct {
	r    io.Reader
	seen func()       // called after every Read and Next, in their goroutine; may be nil
	n    atomic.Int64 // bytes that they have returned

	free    chan *chunk
	read    chan *chunk   // for Read and Next
	failed  chan struct{} // closed when a writer has failed, or by stop
	running sync.WaitGroup

	current *chunk // what they are at
	rest    []byte

	mu  sync.Mutex
	err error // the first of r or a writer, other than io.EOF
}

// chunk is a piece of a flow; it is free again when everybody is done with it.
type chunk struct {
	buf  []byte
	data []byte
	left atomic.Int32
	free chan<- *chunk
}

func (c *chunk) release() {
	if c.left.Add(-1) == 0 {
		c.free <- c // there is room for all
	}
}

// newFlow begins to read r. Each of the writers gets everything.
func newFlow(r io.Reader, seen func(), writers ...io.Writer) *flow {
	f := &flow{
		r: r, seen: seen, failed: make(chan struct{}),
		free: make(chan *chunk, flowChunks), read: make(chan *chunk, flowChunks),
	}
	for range flowChunks {
		f.free <- &chunk{buf: make([]byte, flowChunk), free: f.free}
	}
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

// pump reads r to its end.
func (f *flow) pump(to []chan *chunk) {
	defer func() {
		for _, ch := range to {
			close(ch)
		}
	}()
	for empty := 0; ; {
		var c *chunk
		select {
		case c = <-f.free:
		case <-f.failed:
			return
		}
		n, err := f.r.Read(c.buf)
		switch {
		case n > 0:
			empty = 0
			c.data = c.buf[:n]
			c.left.Store(int32(len(to)))
			for _, ch := range to {
				ch <- c // there is room for all
			}
		default:
			f.free <- c
			if empty++; err == nil && empty == 100 {
				err = io.ErrNoProgress
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
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

// Read returns what was read from r, and then its error; that of a writer comes
// as soon as it is known.
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

// wait waits, after Read or Next has returned io.EOF, until the writers have got
// everything, and returns their error.
func (f *flow) wait() error {
	f.running.Wait()
	return f.failure()
}

// stop ends the flow wherever it is. What r waits for must have been ended. The
// writers have then got what Read and Next have returned, at least.
func (f *flow) stop() {
	f.fail(io.ErrClosedPipe)
	if f.current != nil {
		f.current.release()
		f.current, f.rest = nil, nil
	}
	f.running.Wait()
}
