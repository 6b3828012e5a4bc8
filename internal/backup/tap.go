package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
)

// tap is a reader that counts and hashes what passes through it and remembers
// why it ended. What lies above it may wrap or replace errors: when a reader
// stack fails, the taps tell at which level.
type tap struct {
	r    io.Reader
	also io.Writer // gets everything that is read; may be nil
	seen func()    // called after every read; may be nil

	sum hash.Hash
	n   int64 // bytes
	err error // first error of r or also other than io.EOF
}

func newTap(r io.Reader, also io.Writer, seen func()) *tap {
	return &tap{r: r, also: also, seen: seen, sum: sha256.New()}
}

func (t *tap) Read(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	n, err := t.r.Read(p)
	if n > 0 {
		t.n += int64(n)
		t.sum.Write(p[:n])
		if t.also != nil {
			if _, werr := t.also.Write(p[:n]); werr != nil {
				err = werr
			}
		}
		if t.seen != nil {
			t.seen()
		}
	}
	if err != nil && err != io.EOF { //nolint:errorlint // an io.Reader returns io.EOF itself
		t.err = err
	}
	return n, err
}

// sha256 returns the hex sum of what was read so far.
func (t *tap) sha256() string { return hex.EncodeToString(t.sum.Sum(nil)) }
