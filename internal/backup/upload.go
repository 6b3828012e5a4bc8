package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// upload compresses what is written to it, encrypts that if asked to, and stores
// it as one object. Exactly one of commit and abort ends it.
type upload struct {
	enc    *frameWriter
	seal   io.WriteCloser // what enc writes to; nil: a sink
	names  []string       // of the recipients
	pipe   *io.PipeWriter
	sum    hash.Hash    // of the stored bytes
	n      atomic.Int64 // stored bytes
	timer  *stallTimer
	cancel context.CancelFunc // ends Put
	stored chan putResult     // one value, when Put has returned

	limit       limiter
	quit        chan struct{} // what limit waits for beside the time
	halt        func()        // closes it
	interrupted error         // see interrupt
}

type putResult struct {
	size int64
	err  error
}

// hintedReader tells a store how much is likely to come; S3 wants it cut into a
// limited number of parts.
type hintedReader struct {
	*io.PipeReader
	hint int64 // bytes
}

// SizeHint is what internal/store asks for.
func (r hintedReader) SizeHint() int64 { return r.hint }

// likelyStored guesses how many bytes an RDB of about plain bytes takes in the
// store, by a snapshot of before, if there is one: data changes, so not less than
// a quarter.
func likelyStored(plain int64, before Manifest) int64 {
	const telling = 1 << 20 // bytes; how less compresses says nothing
	ratio := 0.5
	if before.RDB.Size >= telling && before.Object.Size > 0 {
		ratio = min(max(float64(before.Object.Size)/float64(before.RDB.Size), 0.25), 1)
	}
	return int64(float64(plain) * ratio)
}

// startUpload begins to store an object of likely about size bytes. Put runs in a goroutine of its own, which ends with commit or
// abort.
func startUpload(ctx context.Context, store Store, key string, size int64, seal recipients, rate int64, timer *stallTimer) (*upload, error) {
	r, w := io.Pipe()
	u := &upload{
		pipe: w, names: seal.names, sum: sha256.New(), limit: limiter{rate: rate}, timer: timer,
		quit: make(chan struct{}), stored: make(chan putResult, 1),
	}
	u.halt = sync.OnceFunc(func() { close(u.quit) })
	ctx, u.cancel = context.WithCancel(ctx)
	context.AfterFunc(ctx, u.halt)
	go func() {
		defer u.cancel()
		stored, err := store.Put(ctx, key, hintedReader{r, size})
		u.stored <- putResult{stored, err}
		if err == nil {
			err = errors.New("the store did not read to the end")
		}
		r.CloseWithError(err) // whoever still writes learns it
	}()
	if err := u.encode(seal); err != nil {
		if storeErr := u.abort(err); storeErr != nil {
			err = storeErr
		}
		return nil, err
	}
	return u, nil
}

// encode puts compression and encryption before the store.
func (u *upload) encode(seal recipients) (err error) {
	var to io.Writer = sink{u}
	if len(seal.keys) > 0 {
		if u.seal, err = age.Encrypt(to, seal.keys...); err != nil { // it writes its header
			return fmt.Errorf("encrypt: %w", err)
		}
		to = u.seal
	}
	if u.enc, err = newFrameWriter(to); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	return nil
}

// sink is where the compressor writes to.
type sink struct{ *upload }

func (s sink) Write(p []byte) (int, error) {
	if err := s.limit.wait(len(p), s.quit, s.timer.touch); err != nil {
		return 0, err
	}
	s.timer.enterStore()
	n, err := s.pipe.Write(p)
	s.timer.leaveStore()
	s.sum.Write(p[:n])
	s.n.Add(int64(n))
	return n, err
}

// Write compresses p and hands what comes out to the store, as fast as it takes
// it.
func (u *upload) Write(p []byte) (int, error) { return u.enc.Write(p) }

// commit completes the object and describes it. After an error there is, as far
// as can be known, no object.
func (u *upload) commit() (Object, error) {
	err := u.enc.Close()
	if err == nil && u.seal != nil {
		err = u.seal.Close() // the last chunk, without which the object does not decrypt
	}
	u.timer.enterStore()
	defer u.timer.leaveStore()
	u.pipe.CloseWithError(err) // nil is io.EOF
	put := <-u.stored
	switch {
	case put.err != nil:
		return Object{}, put.err
	case err != nil:
		return Object{}, fmt.Errorf("compress and encrypt: %w", err)
	case put.size != u.n.Load():
		return Object{}, status.WithReason(status.ReasonVerify, fmt.Errorf("the store took %d bytes of %d", put.size, u.n.Load()))
	}
	encryption := EncryptionNone
	if u.seal != nil {
		encryption = EncryptionAge
	}
	return Object{
		Name:        objectName(CompressionZstd, encryption),
		Size:        u.n.Load(),
		SHA256:      hex.EncodeToString(u.sum.Sum(nil)),
		Compression: CompressionZstd,
		FrameSize:   frameSize,
		Encryption:  encryption,
		Recipients:  u.names,
	}, nil
}

// interrupt makes a Write that waits for the store return, and all that follow
// fail. abort has to come after it.
func (u *upload) interrupt(why error) {
	u.interrupted = why
	u.halt()
	u.pipe.CloseWithError(why)
}

// abort ends the upload because of why, so that no object comes to be. It
// returns the store's own error if that came first and so is the cause.
func (u *upload) abort(why error) error {
	const patience = 5 * time.Second // for the store to take its parts back
	select {
	case put := <-u.stored:
		if u.interrupted != nil && errors.Is(put.err, u.interrupted) {
			return nil
		}
		return put.err
	default:
	}
	u.pipe.CloseWithError(why)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-u.stored:
	case <-timer.C:
		u.cancel()
		<-u.stored
	}
	return nil
}
