// Package store keeps objects (snapshots and their manifests) in an S3 bucket or
// in a directory. Open takes the URL from the settings; docs/store.md says what
// it may hold and which rights the credentials need.
//
// Both kinds behave alike, which one conformance suite checks against a real S3
// server and a real directory. Every error says operation, key and store, never
// a secret, and carries a status.Reason, mostly with a hint.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Lender is a reader that hands out the buffers it has, without a copy of them.
// Like Read of an io.Reader, Lend may return a piece with an error, and is not called
// after one. A piece is valid until giveBack is called, once, in whatever goroutine.
// There are only so many: Lend waits for one that is given back.
type Lender interface {
	Lend() (piece []byte, giveBack func(), err error)
}

// Store holds objects under keys such as "cache-0/snapshots/x/dump.rdb.zst":
// slash-separated elements, none of them empty, "." or "..", relative to the
// prefix in the store's URL. Its methods may be called from any goroutine.
type Store interface {
	// Put stores all of r and returns how many bytes that was. The object is
	// visible, and replaces an older one, only when it is complete; after an
	// error (of r, of the store, of ctx) nothing new is visible and what was
	// sent is removed. An error of r is wrapped and keeps its own reason. A
	// Read of r that blocks is not interrupted by ctx.
	//
	// When r has a method SizeHint() int64, it is asked once for the number of
	// bytes that r is likely to yield, so that large uploads are cut into parts
	// that are large enough. Twice as many fit.
	Put(ctx context.Context, key string, r io.Reader) (size int64, err error)

	// Get opens an object and returns its size. The error satisfies
	// errors.Is(err, fs.ErrNotExist) when there is none. ctx governs the reader
	// too. A reader yields exactly size bytes before io.EOF, or an error. It may be
	// a Lender, too.
	Get(ctx context.Context, key string) (r io.ReadCloser, size int64, err error)

	// Stat returns an object's size; its error is like that of Get.
	Stat(ctx context.Context, key string) (size int64, err error)

	// List calls fn for every object whose key starts with prefix, in no
	// particular order, and stops at fn's first error, which it returns as it
	// is. fn may delete the object it was called with.
	List(ctx context.Context, prefix string, fn func(key string, size int64, modified time.Time) error) error

	// Delete removes an object, with all its versions where the store keeps such;
	// removing what is absent is no error. The error for one that is locked has a
	// method LockedUntil() time.Time, see errors.AsType, of which the zero time
	// means without an end; then the object is as it was.
	Delete(ctx context.Context, key string) error

	// GetVersioned reads a small object, of at most 1 MiB, and tells its version,
	// which is opaque: two that are equal stand for the same bytes. Its error is
	// like that of Get.
	GetVersioned(ctx context.Context, key string) (data []byte, version string, err error)

	// PutIf writes a small object, of at most 1 MiB, if its present version is
	// version; "" means that there must be none. It returns the new version.
	//
	// The error satisfies errors.Is(err, fs.ErrExist) when the object has another
	// version, or none any more: somebody else was faster. It satisfies
	// errors.Is(err, errors.ErrUnsupported) when the store cannot decide that,
	// which it is put to the test for; then nothing was written. After any other
	// error it is not known whether data was written.
	//
	// Objects of PutIf are never under an object lock of their own, and only
	// PutIf and Delete may change them.
	PutIf(ctx context.Context, key string, data []byte, version string) (newVersion string, err error)

	// Sweep removes what Puts that never ended left behind more than olderThan
	// ago (parts of unfinished uploads, temporary files) and returns how many
	// such remains it removed. Put cleans up after itself; only a killed
	// process or a store that went away in the middle leaves something. own tells
	// which keys are the caller's: others may upload to the same place.
	Sweep(ctx context.Context, olderThan time.Duration, own func(key string) bool) (removed int, err error)

	// String names the store for people, without secrets.
	String() string

	// Close ends idle connections. Readers of Get must be closed before.
	Close() error
}

// Options are what Open needs besides the URL. The zero value is enough for a
// directory.
type Options struct {
	// Getenv reads the environment: credentials, AWS_REGION and the like. nil
	// is an empty one. HTTPS_PROXY and its kin, and the container credential
	// variables of ECS and EKS, are always read from the process environment.
	Getenv func(string) string

	// Version of the program, for the User-Agent header.
	Version string

	// Stall is how long a connection may pass no byte in either direction
	// before it is given up: 60 s when zero.
	Stall time.Duration

	// Patience is how long a transfer that has begun is retried without any
	// progress: 2 min when zero. Short calls are given up much earlier.
	Patience time.Duration
}

// Open returns the store of a URL, see ParseURL. It reads the CA file if one is
// named, but does not connect: a store that cannot be reached shows itself in
// the errors of the methods, so that a program can start before its store does.
func Open(_ context.Context, rawURL string, opts Options) (Store, error) {
	u, err := ParseURL(rawURL)
	if err != nil {
		return nil, err
	}
	if opts.Getenv == nil {
		opts.Getenv = func(string) string { return "" }
	}
	if opts.Stall <= 0 {
		opts.Stall = time.Minute
	}
	if opts.Patience <= 0 {
		opts.Patience = 2 * time.Minute
	}
	if u.Dir != "" {
		return newDir(u.Dir), nil
	}
	return newS3(u, opts)
}

// checkKey refuses keys that are not plain relative paths.
func checkKey(key string) error {
	if key == "." || !fs.ValidPath(key) || strings.ContainsRune(key, 0) || len(key) > maxKeyLength {
		return fmt.Errorf("key %q is not a relative path of at most %d bytes", key, maxKeyLength)
	}
	if isTemporary(key) {
		return fmt.Errorf("key %q is kept for temporary files", key)
	}
	return nil
}

// checkPrefix is checkKey for the prefix of List, which may be empty, and may
// end with a slash.
func checkPrefix(prefix string) error {
	if p := strings.TrimSuffix(prefix, "/"); p != "" && (p == "." || !fs.ValidPath(p)) || prefix == "/" || !utf8.ValidString(prefix) {
		return fmt.Errorf("prefix %q is not the start of a key", prefix)
	}
	return nil
}

// maxKeyLength leaves room for a prefix in the 1024 bytes that S3 allows.
const maxKeyLength = 800

// opError says what was done to what, where; the cause follows.
func opError(op, key string, store fmt.Stringer, cause error) error {
	if key != "" {
		op += " " + key
	}
	return fmt.Errorf("%s in %s: %w", op, store, cause)
}

// readError is the error of a Put whose source failed: it keeps the reason of
// the source, the store is not to blame.
func readError(key string, err error) error {
	return fmt.Errorf("put %s: read what to store: %w", key, err)
}

// absent is the cause when there is no such object.
type absent struct{}

func (absent) Error() string        { return "no such object" }
func (absent) Is(target error) bool { return target == fs.ErrNotExist }

// contextError classifies err when ctx has ended; nil means that it has not.
func contextError(ctx context.Context) error {
	err := ctx.Err()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return status.WithReason(status.ReasonStoreUnreachable, context.Cause(ctx))
	}
	return status.WithReason(status.ReasonCanceled, context.Cause(ctx))
}
