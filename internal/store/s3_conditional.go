package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"

	"github.com/minio/minio-go/v7"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// maxRecord is the largest object of GetVersioned and PutIf.
const maxRecord = 1 << 20

// conditions is what is known of how the server takes conditional writes. What
// was found stays true: a server does not lose or gain them while it runs.
type conditions struct {
	mu    sync.Mutex
	match bool // If-Match is obeyed
	none  bool // If-None-Match is
	not   bool // one of them is not
}

// errIgnores is the cause when a server does not obey conditions.
var errIgnores = fmt.Errorf("the server does not obey conditional writes: %w", errors.ErrUnsupported)

// otherVersionError is the cause when there is another version of an object than the
// one that was to be replaced.
type otherVersionError struct{}

func (otherVersionError) Error() string        { return "there is another version of it" }
func (otherVersionError) Is(target error) bool { return target == fs.ErrExist }

// GetVersioned implements Store. The version is the ETag.
func (s *S3) GetVersioned(ctx context.Context, key string) ([]byte, string, error) {
	if err := checkKey(key); err != nil {
		return nil, "", s.error(ctx, "get", key, err)
	}
	data, version, err := s.getVersioned(ctx, key)
	if err != nil {
		return nil, "", s.error(ctx, "get", key, err)
	}
	return data, version, nil
}

func (s *S3) getVersioned(ctx context.Context, key string) (data []byte, version string, err error) {
	err = s.try(ctx, s.call, func() error {
		body, info, _, err := s.core.GetObject(ctx, s.url.Bucket, s.object(key), s.readOptions())
		if err != nil {
			return err
		}
		defer func() { _ = body.Close() }()
		if info.Size > maxRecord {
			return tooLarge(info.Size)
		}
		data, err = io.ReadAll(io.LimitReader(body, maxRecord+1))
		if err == nil && int64(len(data)) != info.Size {
			err = io.ErrUnexpectedEOF
		}
		version = info.ETag
		return err
	})
	if err == nil && version == "" {
		err = fmt.Errorf("the server does not tell the object's ETag: %w", errors.ErrUnsupported)
	}
	return data, version, err
}

func tooLarge(size int64) error {
	return fmt.Errorf("the object has %d bytes, more than the %d of a record", size, maxRecord)
}

// PutIf implements Store, with a single-part PUT under If-Match or
// If-None-Match.
func (s *S3) PutIf(ctx context.Context, key string, data []byte, version string) (string, error) {
	if err := checkKey(key); err != nil {
		return "", s.error(ctx, "put", key, err)
	}
	if len(data) > maxRecord {
		return "", s.error(ctx, "put", key, tooLarge(int64(len(data))))
	}
	var now string
	var err error
	if version == "" {
		now, err = s.create(ctx, key, data)
	} else {
		now, err = s.replace(ctx, key, data, version)
	}
	if err != nil {
		return "", s.error(ctx, "put", key, err)
	}
	return now, nil
}

// create writes an object that must not exist. Whether the server obeys
// If-None-Match is learnt from the first object that was made: it must refuse to
// make it again. A server that takes it again has only got the same bytes twice.
func (s *S3) create(ctx context.Context, key string, data []byte) (string, error) {
	s.conditions.mu.Lock()
	none, not := s.conditions.none, s.conditions.not
	s.conditions.mu.Unlock()
	if not {
		return "", errIgnores
	}
	if !none {
		// Not to rely yet on what is not known to work.
		switch _, err := s.stat(ctx, key); {
		case err == nil:
			return "", otherVersionError{}
		case !isCode(err, minio.NoSuchKey):
			return "", err
		}
	}
	now, err := s.putIf(ctx, key, data, "")
	if err != nil || none {
		return now, err
	}
	switch _, err := s.putOnce(ctx, key, data, ""); {
	case err == nil:
		s.conditions.learn(func(c *conditions) { c.not = true })
		if err := s.remove(ctx, key); err != nil {
			return "", err
		}
		return "", errIgnores
	case isCode(err, minio.PreconditionFailed):
		s.conditions.learn(func(c *conditions) { c.none = true })
	}
	return now, nil // not learnt yet: the next one will tell
}

// replace writes the next version of an object. Whether the server obeys
// If-Match is asked of an object that does not exist: an honest server refuses
// to replace it, and nothing is left of the question.
func (s *S3) replace(ctx context.Context, key string, data []byte, version string) (string, error) {
	s.conditions.mu.Lock()
	match, not := s.conditions.match, s.conditions.not
	s.conditions.mu.Unlock()
	if not {
		return "", errIgnores
	}
	if !match {
		probe := tempPrefix + rand.Text()
		switch _, err := s.putIf(ctx, probe, nil, "00000000000000000000000000000000"); {
		case err == nil:
			s.conditions.learn(func(c *conditions) { c.not = true })
			if err := s.remove(ctx, probe); err != nil {
				return "", err
			}
			return "", errIgnores
		case errors.Is(err, fs.ErrExist):
			s.conditions.learn(func(c *conditions) { c.match = true })
		default:
			return "", err
		}
	}
	return s.putIf(ctx, key, data, version)
}

func (c *conditions) learn(fn func(*conditions)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn(c)
}

// putIf is one conditional write, with retries. When the answer to an attempt
// was lost, the next is refused because of it: then the object tells who won.
func (s *S3) putIf(ctx context.Context, key string, data []byte, version string) (now string, err error) {
	lost := false
	err = s.try(ctx, s.call, func() error {
		now, err = s.putOnce(ctx, key, data, version)
		r, answered := response(err)
		switch {
		case err == nil:
			return nil
		case answered && noEncryption(r):
			return err
		case answered && (r.StatusCode == http.StatusNotImplemented || r.Code == "NotImplemented"):
			return errIgnores
		case !answered || r.StatusCode >= http.StatusInternalServerError:
			lost = true
			return err
		case r.Code == minio.NoSuchKey && version != "":
			return otherVersionError{} // it is gone
		case r.Code != minio.PreconditionFailed:
			return err
		case !lost:
			return otherVersionError{}
		}
		there, v, err := s.getVersioned(ctx, key)
		if err == nil && bytes.Equal(there, data) {
			now = v
			return nil
		}
		if err == nil || isCode(err, minio.NoSuchKey) {
			return otherVersionError{}
		}
		return err
	})
	if errors.Is(err, errIgnores) {
		s.conditions.learn(func(c *conditions) { c.not = true })
	}
	return now, err
}

// noEncryption tells an answer that is about sse from one about conditions, for
// which servers have the same code (MinIO without a KMS).
func noEncryption(r minio.ErrorResponse) bool {
	return strings.Contains(strings.ToLower(r.Message), "encryption")
}

// putOnce is one attempt of putIf.
func (s *S3) putOnce(ctx context.Context, key string, data []byte, version string) (now string, err error) {
	opts := s.recordOptions()
	if version == "" {
		opts.SetMatchETagExcept("*")
	} else {
		opts.SetMatchETag(version)
	}
	info, err := s.putWhole(ctx, key, data, opts)
	if err == nil && info.ETag == "" {
		err = status.WithReason(status.ReasonStore, fmt.Errorf("the server does not tell the object's ETag: %w", errors.ErrUnsupported))
	}
	return info.ETag, err
}
