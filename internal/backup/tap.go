package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"sync"
	"sync/atomic"
)

// tap is a reader that counts and hashes what passes through it and remembers
// why it ended. What lies above it may wrap or replace errors: when a reader
// stack fails, the tap at its bottom tells whether it was the store. One goroutine
// reads, any may ask.
type tap struct {
	r    io.Reader
	seen func() // called after every read; may be nil
	sum  hash.Hash
	n    atomic.Int64 // bytes

	mu  sync.Mutex
	err error // first error of r other than io.EOF
}

func newTap(r io.Reader, seen func()) *tap {
	return &tap{r: r, seen: seen, sum: sha256.New()}
}

func (t *tap) Read(p []byte) (int, error) {
	if err := t.failure(); err != nil {
		return 0, err
	}
	n, err := t.r.Read(p)
	if n > 0 {
		t.n.Add(int64(n))
		t.sum.Write(p[:n])
		if t.seen != nil {
			t.seen()
		}
	}
	if err != nil && err != io.EOF {
		t.mu.Lock()
		t.err = err
		t.mu.Unlock()
	}
	return n, err
}

// failure returns the first error that was not io.EOF.
func (t *tap) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// sha256 returns the hex sum of what was read, when nobody reads any more.
func (t *tap) sha256() string { return hex.EncodeToString(t.sum.Sum(nil)) }
