package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Put implements Store. Up to one part is one request; more is a multipart
// upload, of which two parts are on their way while a third is read; how much of
// it is in memory is said in s3_parts.go. A part that fails is sent again, by itself.
func (s *S3) Put(ctx context.Context, key string, r io.Reader) (int64, error) {
	if err := checkKey(key); err != nil {
		return 0, s.error(ctx, "put", key, err)
	}
	size, err := s.put(ctx, key, r)
	if err == nil {
		err = s.confirm(ctx, key)
	}
	if err != nil {
		return 0, err
	}
	return size, nil
}

// put does Put's work. Its error is complete.
func (s *S3) put(ctx context.Context, key string, r io.Reader) (int64, error) {
	plan := s.cut(r)
	first, err := readFirst(ctx, r, plan.at(1))
	if err == nil {
		return s.putParts(ctx, key, plan, first, r)
	}
	if err != io.EOF { //nolint:errorlint // a wrapped EOF is a failure of the source, not its end
		return 0, s.sourceError(ctx, key, err)
	}
	err = s.try(ctx, s.begin, func() error {
		_, err := s.putWhole(ctx, key, first, s.objectOptions())
		return err
	})
	if err != nil {
		return 0, s.error(ctx, "put", key, err)
	}
	return int64(len(first)), nil
}

// confirm asks whether the server has encrypted and locked an object as the URL
// says. There are servers that ignore such headers. What is not as it was ordered
// is removed. Its error is complete.
func (s *S3) confirm(ctx context.Context, key string) error {
	if s.sse == nil && s.url.LockMode == "" {
		return nil
	}
	info, err := s.stat(ctx, key)
	if err != nil {
		return s.error(ctx, "stat", key, err)
	}
	const encryption = "X-Amz-Server-Side-Encryption"
	got := info.Metadata.Get(encryption)
	switch {
	case s.url.SSE == SSES3 && got == "", s.url.SSE == SSEKMS && !strings.HasPrefix(got, "aws:kms"),
		s.url.SSE == SSEC && info.Metadata.Get(encryption+"-Customer-Algorithm") == "":
		err = status.WithHint(status.ReasonStore, "leave sse out of the store's URL, and encrypt before the upload: backup.encryption.recipients",
			fmt.Errorf("the server has not encrypted the object by sse=%s", s.url.SSE))
	case s.url.LockMode != "" && info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date") == "":
		err = status.WithHint(status.ReasonStore, "leave object-lock out of the store's URL; or the credentials lack s3:GetObjectRetention",
			errors.New("the server does not say that it has locked the object"))
	default:
		return nil
	}
	err = s.error(ctx, "put", key, err)
	if deleteErr := s.Delete(ctx, key); deleteErr != nil {
		err = fmt.Errorf("%w (it could not be removed: %w)", err, deleteErr)
	}
	return err
}

// putWhole is one attempt to store an object by one request.
func (s *S3) putWhole(ctx context.Context, key string, data []byte, opts minio.PutObjectOptions) (minio.UploadInfo, error) {
	sum := s.checksum(data)
	sum.addTo(&opts)
	body := newPartBody(data)
	defer body.release()
	return s.core.PutObject(ctx, s.url.Bucket, s.object(key), body, int64(len(data)), "", sum.sha256Hex, opts)
}

// cut returns how r is cut into parts.
func (s *S3) cut(r io.Reader) parts {
	var hint int64
	if h, ok := r.(interface{ SizeHint() int64 }); ok {
		hint = h.SizeHint()
	}
	return cut(s.maxParts, s.url.PartSize, hint)
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

// putParts uploads first, which is full, and the rest of r as parts.
func (s *S3) putParts(ctx context.Context, key string, plan parts, first []byte, r io.Reader) (int64, error) {
	u := &upload{s3: s, plan: plan, key: key, object: s.object(key), mark: rand.Text()}
	err := s.try(ctx, s.begin, func() (err error) {
		opts := s.objectOptions()
		opts.UserMetadata = map[string]string{markName: u.mark}
		s.announceChecksum(&opts)
		u.id, err = s.core.NewMultipartUpload(ctx, s.url.Bucket, u.object, opts)
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

// markName is a metadatum of each object of several parts, by which an upload
// knows its own.
const markName = "Upload"

// upload is one multipart upload.
type upload struct {
	s3     *S3
	plan   parts
	key    string
	object string
	id     string
	mark   string

	mu    sync.Mutex
	parts []minio.CompletePart // by number, from 1; those on their way are empty
	size  int64
}

// partsGrace is how long parts that are on their way have to arrive after an upload
// has failed, or ctx has ended: one that the server has got, and not answered yet,
// may appear after the upload is aborted, and nothing would remove it.
const partsGrace = 3 * time.Second

// send uploads all parts and completes the upload. Its error is complete.
func (u *upload) send(ctx context.Context, part []byte, r io.Reader) error {
	partCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, partCtx := errgroup.WithContext(partCtx)
	sendCtx, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	defer context.AfterFunc(partCtx, func() { time.AfterFunc(partsGrace, giveUp) })()
	size := int64(len(part))
	spare := make(chan []byte, mostBuffers)
	for range buffers(size) - 1 {
		spare <- nil // never needed for an object of one part and a bit
	}
	for last := false; len(part) > 0; {
		if len(u.parts) == u.plan.limit {
			cancel()
			_ = g.Wait()
			return u.s3.error(ctx, "put", u.key, status.WithHint(status.ReasonStore,
				"raise it with part-size in the store's URL; one part has to fit into memory",
				fmt.Errorf("the object needs more than %d parts of %d to %d MiB", u.plan.limit, u.plan.size/mib, u.plan.late()/mib)))
		}
		number := u.begin(int64(len(part)))
		sent := part
		g.Go(func() error {
			defer func() { spare <- sent[:cap(sent)] }()
			return u.sendPart(sendCtx, number, sent)
		})
		if last {
			break
		}
		next := <-spare
		if want := u.plan.at(number + 1); want != size {
			for range buffers(size) - 1 {
				<-spare // each is on its way, or was
			}
			for range buffers(want) - 1 {
				spare <- nil
			}
			next, size = nil, want
			runtime.GC() // once in an upload: the old ones and the new ones together are too much
		}
		if next == nil {
			next = make([]byte, size)
		}
		n, err := readPart(partCtx, r, next)
		last = err == io.EOF //nolint:errorlint // see Put
		if err != nil && !last {
			failed := partCtx.Err() != nil && ctx.Err() == nil // a part, not the source
			cancel()
			if partErr := g.Wait(); failed {
				return u.s3.error(ctx, "put", u.key, partErr)
			}
			return u.s3.sourceError(ctx, u.key, err)
		}
		part = next[:n]
	}
	err := g.Wait()
	if err == nil {
		err = u.complete(ctx)
	}
	if err != nil {
		return u.s3.error(ctx, "put", u.key, err)
	}
	return nil
}

// begin returns the number of a part of size bytes.
func (u *upload) begin(size int64) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.parts = append(u.parts, minio.CompletePart{})
	u.size += size
	return len(u.parts)
}

func (u *upload) sendPart(ctx context.Context, number int, part []byte) error {
	sum := u.s3.checksum(part)
	return u.s3.try(ctx, u.s3.carry, func() error {
		body := newPartBody(part)
		defer body.release()
		done, err := u.s3.core.PutObjectPart(ctx, u.s3.url.Bucket, u.object, u.id, number, body, int64(len(part)),
			minio.PutObjectPartOptions{Sha256Hex: sum.sha256Hex, CustomHeader: sum.header(), SSE: u.s3.sse, DisableContentSha256: true})
		if err != nil {
			return err
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		u.parts[number-1] = sum.part(number, done.ETag)
		return nil
	})
}

// complete makes the object visible. When an answer gets lost, the upload may
// be gone because it was completed: then the object tells by its mark.
func (u *upload) complete(ctx context.Context) error {
	attempts := 0
	opts := minio.PutObjectOptions{}
	if u.s3.url.SSE == SSEC {
		opts.ServerSideEncryption = u.s3.sse
	}
	return u.s3.try(ctx, u.s3.carry, func() error {
		attempts++
		_, err := u.s3.core.CompleteMultipartUpload(ctx, u.s3.url.Bucket, u.object, u.id, u.parts, opts)
		if err == nil || attempts == 1 && !transient(err) {
			return err
		}
		info, statErr := u.s3.core.StatObject(ctx, u.s3.url.Bucket, u.object, u.s3.readOptions())
		if statErr == nil && info.Size == u.size && info.UserMetadata[markName] == u.mark {
			return nil
		}
		return err
	})
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
