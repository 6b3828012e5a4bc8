package store

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Put implements Store. Up to one part is one request; more is a multipart
// upload, of which one part is on its way while the next is read: two parts are
// in memory, however large the object is. Every request carries the SHA-256 of
// its body, which the server checks.
func (s *S3) Put(ctx context.Context, key string, r io.Reader) (int64, error) {
	if err := checkKey(key); err != nil {
		return 0, s.error(ctx, "put", key, err)
	}
	partSize := s.partSize(r)
	first, err := readFirst(ctx, r, partSize)
	if err == nil {
		return s.putParts(ctx, key, first, r)
	}
	if err != io.EOF { //nolint:errorlint // a wrapped EOF is a failure of the source, not its end
		return 0, s.sourceError(ctx, key, err)
	}
	err = s.try(ctx, s.begin, func() error {
		body := newPartBody(first)
		defer body.release()
		_, err := s.core.PutObject(ctx, s.url.Bucket, s.object(key), body, int64(len(first)), "", hexSHA256(first),
			minio.PutObjectOptions{DisableContentSha256: true}) // not again, in chunks
		return err
	})
	if err != nil {
		return 0, s.error(ctx, "put", key, err)
	}
	return int64(len(first)), nil
}

// partSize returns the part size for r: that of the URL, unless r says that it
// may yield more than fits.
func (s *S3) partSize(r io.Reader) int64 {
	size := s.url.PartSize
	if h, ok := r.(interface{ SizeHint() int64 }); ok {
		need := (h.SizeHint()/maxParts/mib + 1) * mib
		size = min(max(size, need), maxPartSize)
	}
	return size
}

// readFirst reads up to one part. It returns io.EOF together with the bytes
// when r ended before the part was full. Most objects are small: a whole part
// is only allocated for one that is not.
func readFirst(ctx context.Context, r io.Reader, partSize int64) ([]byte, error) {
	small := make([]byte, 64<<10)
	n, err := readPart(ctx, r, small)
	if err != nil {
		return small[:n], err
	}
	part := make([]byte, partSize)
	copy(part, small)
	m, err := readPart(ctx, r, part[n:])
	return part[:n+m], err
}

// readPart fills buf. It returns io.EOF when r ended before that, with or
// without bytes.
func readPart(ctx context.Context, r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		m, err := r.Read(buf[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// sourceError is the error of a Put that could not read on.
func (s *S3) sourceError(ctx context.Context, key string, err error) error {
	if ctx.Err() != nil {
		return s.error(ctx, "put", key, err)
	}
	return readError(key, err)
}

func hexSHA256(p []byte) string {
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:])
}

// putParts uploads first, which is full, and the rest of r as parts.
func (s *S3) putParts(ctx context.Context, key string, first []byte, r io.Reader) (int64, error) {
	u := &upload{s3: s, key: key, object: s.object(key)}
	err := s.try(ctx, s.begin, func() (err error) {
		u.id, err = s.core.NewMultipartUpload(ctx, s.url.Bucket, u.object, minio.PutObjectOptions{})
		return err
	})
	if err != nil {
		return 0, s.error(ctx, "put", key, err)
	}
	err = u.send(ctx, first, r)
	if err == nil {
		return u.size, nil
	}
	// Also after ctx has ended, but not for long.
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if abortErr := s.abort(cleanup, u.object, u.id); abortErr != nil {
		err = fmt.Errorf("%w (the parts sent so far could not be removed: %w)", err, abortErr)
	}
	return 0, err
}

// upload is one multipart upload.
type upload struct {
	s3     *S3
	key    string
	object string
	id     string
	parts  []minio.CompletePart
	size   int64
}

// send uploads all parts and completes the upload. Its error is complete.
func (u *upload) send(ctx context.Context, part []byte, r io.Reader) error {
	partCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	spare := make([]byte, len(part))
	for last := false; len(part) > 0; {
		if len(u.parts) == maxParts {
			return u.s3.error(ctx, "put", u.key, status.WithHint(status.ReasonStore,
				fmt.Sprintf("raise it with part-size in the store's URL; uploads take twice as much memory as a part (now %d MiB)", cap(spare)/mib),
				fmt.Errorf("the object needs more than %d parts of %d MiB", maxParts, cap(spare)/mib)))
		}
		sent := make(chan error, 1)
		go func() { sent <- u.sendPart(partCtx, part) }()

		var n int
		var readErr error
		if !last {
			n, readErr = readPart(ctx, r, spare[:cap(spare)])
			last = readErr == io.EOF //nolint:errorlint // see Put
		}
		broken := readErr != nil && !last
		if broken {
			cancel()
		}
		err := <-sent
		if broken {
			return u.s3.sourceError(ctx, u.key, readErr)
		}
		if err != nil {
			return u.s3.error(ctx, "put", u.key, err)
		}
		part, spare = spare[:n], part
	}
	if err := u.complete(ctx); err != nil {
		return u.s3.error(ctx, "put", u.key, err)
	}
	return nil
}

func (u *upload) sendPart(ctx context.Context, part []byte) error {
	sum := hexSHA256(part)
	number := len(u.parts) + 1
	return u.s3.try(ctx, u.s3.carry, func() error {
		body := newPartBody(part)
		defer body.release()
		done, err := u.s3.core.PutObjectPart(ctx, u.s3.url.Bucket, u.object, u.id, number, body, int64(len(part)),
			minio.PutObjectPartOptions{Sha256Hex: sum, DisableContentSha256: true})
		if err != nil {
			return err
		}
		u.parts = append(u.parts, minio.CompletePart{PartNumber: number, ETag: done.ETag})
		u.size += int64(len(part))
		return nil
	})
}

// complete makes the object visible. When an answer gets lost, the upload may
// be gone because it was completed: then the object tells.
func (u *upload) complete(ctx context.Context) error {
	attempts := 0
	return u.s3.try(ctx, u.s3.carry, func() error {
		attempts++
		_, err := u.s3.core.CompleteMultipartUpload(ctx, u.s3.url.Bucket, u.object, u.id, u.parts, minio.PutObjectOptions{})
		if err == nil || attempts == 1 && !transient(err) {
			return err
		}
		info, statErr := u.s3.core.StatObject(ctx, u.s3.url.Bucket, u.object, minio.StatObjectOptions{})
		if statErr == nil && info.Size == u.size && info.ETag == u.etag() {
			return nil
		}
		return err
	})
}

// etag returns the ETag that S3 gives to the completed object: the MD5 of the
// parts' MD5s. It is "" where the server has ETags of another kind.
func (u *upload) etag() string {
	h := md5.New()
	for _, p := range u.parts {
		sum, err := hex.DecodeString(p.ETag)
		if err != nil || len(sum) != md5.Size {
			return ""
		}
		h.Write(sum)
	}
	return fmt.Sprintf("%x-%d", h.Sum(nil), len(u.parts))
}

// partBody is a request body over a buffer that will be used again. net/http
// may read a body even after the request has returned; after release it cannot.
type partBody struct {
	mu   sync.Mutex
	data []byte
	done bool
}

func newPartBody(p []byte) *partBody { return &partBody{data: p} }

func (b *partBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return 0, errReleased
	}
	if len(b.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

func (b *partBody) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done, b.data = true, nil
}

var errReleased = errors.New("the request has ended")
