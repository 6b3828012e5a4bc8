package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// Get implements Store. Up to a few MiB are one request, whose body is handed
// on. More is fetched in ranges, several at once and ahead of the reader, into
// buffers whose number bounds the memory; the reader gets them in order. What
// breaks in the middle goes on where it was, on a new connection, provided the
// object is still the same.
func (s *S3) Get(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	if err := checkKey(key); err != nil {
		return nil, 0, s.error(ctx, "get", key, err)
	}
	ctx, cancel := context.WithCancel(ctx) // by Close
	o := object{s3: s, key: key, size: -1}
	var first io.ReadCloser
	var got int64
	err := s.try(ctx, s.call, func() (err error) {
		first, got, err = o.open(ctx)
		return err
	})
	if err != nil {
		err = s.error(ctx, "get", key, err)
		cancel()
		return nil, 0, err
	}
	if got == o.size {
		return &plainReader{ctx: ctx, cancel: cancel, object: o, body: first}, o.size, nil
	}
	return newRangeReader(ctx, cancel, o, first), o.size, nil
}

// object is one that is being read.
type object struct {
	s3   *S3
	key  string
	etag string // "" where the server has none
	size int64
}

// open asks for the first range, from which it learns size and ETag. It returns
// how many bytes the body has.
func (o *object) open(ctx context.Context) (io.ReadCloser, int64, error) {
	opts := o.s3.readOptions()
	if err := opts.SetRange(0, o.s3.rangeSize-1); err != nil {
		return nil, 0, err
	}
	body, info, header, err := o.s3.core.GetObject(ctx, o.s3.url.Bucket, o.s3.object(o.key), opts)
	if r, ok := response(err); ok && r.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		// No byte of an empty object can be asked for.
		body, info, header, err = o.s3.core.GetObject(ctx, o.s3.url.Bucket, o.s3.object(o.key), o.s3.readOptions())
	}
	if err != nil {
		return nil, 0, err
	}
	o.etag, o.size = info.ETag, info.Size
	if r := header.Get("Content-Range"); r != "" {
		_, total, _ := strings.Cut(r, "/")
		if o.size, err = strconv.ParseInt(total, 10, 64); err != nil {
			_ = body.Close()
			return nil, 0, fmt.Errorf("the server answers with the range %q", r)
		}
	}
	if o.size < 0 || info.Size != o.size && info.Size != o.s3.rangeSize {
		_ = body.Close()
		return nil, 0, errors.New("the server does not tell the object's size")
	}
	return body, info.Size, nil
}

// from asks for the bytes from offset up to, but without, end.
func (o *object) from(ctx context.Context, offset, end int64) (io.ReadCloser, error) {
	opts := o.s3.readOptions()
	if o.etag != "" {
		if err := opts.SetMatchETag(o.etag); err != nil {
			return nil, err
		}
	}
	if offset > 0 || end < o.size {
		if err := opts.SetRange(offset, end-1); err != nil {
			return nil, err
		}
	}
	body, info, _, err := o.s3.core.GetObject(ctx, o.s3.url.Bucket, o.s3.object(o.key), opts)
	if err != nil {
		return nil, err
	}
	if info.Size != end-offset {
		_ = body.Close()
		return nil, fmt.Errorf("the server sends %d bytes instead of the %d that were asked for", info.Size, end-offset)
	}
	return body, nil
}

// broken says where in the object a transfer ended.
func (o *object) broken(offset int64, err error) error {
	return fmt.Errorf("at byte %d of %d: %w", offset, o.size, err)
}

// maxStalls is how many attempts at one range may end with a connection on which
// nothing moves any more, and still count as progress for the bytes before that. A
// way that lets the start of every answer pass would otherwise take hours.
const maxStalls = 2

// stalled tells whether nothing moved on a connection for Options.Stall.
func stalled(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// plainReader reads an object from one body, and from others when that breaks.
type plainReader struct {
	ctx    context.Context //nolint:containedctx // an io.Reader has nowhere else to get it from
	cancel context.CancelFunc
	object

	body   io.ReadCloser // nil when the last one broke
	offset int64         // of the next byte
	stalls int
	err    error
}

func (r *plainReader) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.err != nil {
		return 0, r.err
	}
	if r.offset == r.size {
		return 0, io.EOF
	}
	var over error // too many attempts that ended in silence
	// An attempt that yields a byte is none that failed, whatever comes next.
	err = r.s3.try(r.ctx, r.s3.carry, func() error {
		if r.body == nil {
			if r.body, err = r.from(r.ctx, r.offset, r.size); err != nil {
				r.body = nil
				return err
			}
		}
		n, err = r.body.Read(p[:min(int64(len(p)), r.size-r.offset)])
		r.offset += int64(n)
		if err == nil || r.offset == r.size {
			return nil
		}
		if err == io.EOF { //nolint:errorlint // of the body itself
			err = io.ErrUnexpectedEOF
		}
		_ = r.body.Close()
		r.body = nil
		if stalled(err) {
			if r.stalls++; r.stalls > maxStalls {
				over = r.broken(r.offset, err)
			}
		}
		if n > 0 || over != nil {
			return nil //nolint:nilerr // what came is handed on first
		}
		return r.broken(r.offset, err)
	})
	if err == nil {
		err = over
	}
	if err != nil {
		r.err = r.s3.error(r.ctx, "get", r.key, err)
	}
	return n, r.err
}

// Close ends the transfer.
func (r *plainReader) Close() error {
	r.cancel()
	if r.body == nil {
		return nil
	}
	return r.body.Close()
}
