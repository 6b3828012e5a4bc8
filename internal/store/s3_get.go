package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/minio/minio-go/v7"
)

// Get implements Store. When the connection breaks in the middle, the reader
// goes on where it was, on a new one, provided the object is still the same.
func (s *S3) Get(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	if err := checkKey(key); err != nil {
		return nil, 0, s.error(ctx, "get", key, err)
	}
	r := &s3Reader{ctx: ctx, s3: s, key: key}
	err := s.try(ctx, s.call, func() error {
		body, info, _, err := s.core.GetObject(ctx, s.url.Bucket, s.object(key), minio.GetObjectOptions{})
		r.body, r.size, r.etag = body, info.Size, info.ETag
		return err
	})
	if err != nil {
		return nil, 0, s.error(ctx, "get", key, err)
	}
	if r.size < 0 {
		_ = r.body.Close()
		return nil, 0, s.error(ctx, "get", key, errors.New("the server does not tell the object's size"))
	}
	return r, r.size, nil
}

// s3Reader reads one object.
type s3Reader struct {
	ctx  context.Context //nolint:containedctx // an io.Reader has nowhere else to get it from
	s3   *S3
	key  string
	etag string

	body   io.ReadCloser // nil when the last one broke
	offset int64         // of the next byte
	size   int64
	breaks int // broken bodies since the last byte
	err    error
}

// maxBreaks bounds how often in a row a body may break before its first byte.
const maxBreaks = 10

func (r *s3Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.err == nil {
		if r.offset == r.size {
			return 0, io.EOF
		}
		if r.body == nil {
			if err := r.reopen(); err != nil {
				r.err = r.s3.error(r.ctx, "get", r.key, err)
				break
			}
		}
		n, err := r.body.Read(p[:min(int64(len(p)), r.size-r.offset)])
		r.offset += int64(n)
		if n > 0 {
			r.breaks = 0
		}
		if err != nil && r.offset < r.size {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			_ = r.body.Close()
			r.body = nil
			r.breaks++
			if r.ctx.Err() != nil || r.breaks > maxBreaks {
				r.err = r.s3.error(r.ctx, "get", r.key, fmt.Errorf("at byte %d of %d: %w", r.offset, r.size, err))
			}
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, r.err
}

// reopen asks for the rest of the object.
func (r *s3Reader) reopen() error {
	opts := minio.GetObjectOptions{}
	if r.etag != "" {
		if err := opts.SetMatchETag(r.etag); err != nil {
			return err
		}
	}
	if r.offset > 0 {
		if err := opts.SetRange(r.offset, 0); err != nil {
			return err
		}
	}
	return r.s3.try(r.ctx, r.s3.carry, func() error {
		body, info, _, err := r.s3.core.GetObject(r.ctx, r.s3.url.Bucket, r.s3.object(r.key), opts)
		if err != nil {
			return err
		}
		if info.Size != r.size-r.offset {
			_ = body.Close()
			return fmt.Errorf("the server sends %d bytes instead of the %d that are missing", info.Size, r.size-r.offset)
		}
		r.body = body
		return nil
	})
}

// Close ends the transfer.
func (r *s3Reader) Close() error {
	if r.body == nil {
		return nil
	}
	return r.body.Close()
}
