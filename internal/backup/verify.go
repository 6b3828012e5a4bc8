package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// maxWindow bounds the memory that decompression takes, whatever the stored
// object asks for. What this program writes needs a fraction of it.
const maxWindow = 8 << 20

// Level is how much of a snapshot was verified.
type Level string

// The levels that Verify reaches.
const (
	LevelStored Level = "stored" // the bytes in the store are those that were put there
	LevelFull   Level = "full"   // and they hold the RDB that the manifest describes
)

// Level returns the level that Verify of a snapshot reaches: without an identity,
// what is encrypted can only be compared as it is stored.
func (c *Catalogue) Level(m Manifest) Level {
	if m.Object.Encryption != EncryptionNone && c.identityFile == "" {
		return LevelStored
	}
	return LevelFull
}

// Verify downloads one snapshot and checks everything its manifest says: size
// and SHA-256 of the stored bytes and, see Level, size and SHA-256 of the RDB,
// the RDB's own structure and checksum, versions and key counts. progress may be
// nil; it is called from this goroutine, often.
//
// The error carries status.ReasonCorrupt when the snapshot is damaged, the
// store's reason when it could not be read, status.ReasonKey when the identities
// of the catalogue do not open it.
func (c *Catalogue) Verify(ctx context.Context, id string, progress func(Progress)) (Manifest, error) {
	m, err := c.Get(ctx, id)
	if err != nil {
		return Manifest{}, fmt.Errorf("verify: %w", err)
	}
	seen := func(stored, plain int64) {
		if progress != nil {
			progress(Progress{Phase: PhaseVerify, Stored: stored, Plain: plain, Total: m.Object.Size, Keys: m.RDB.Keys})
		}
	}
	check := c.readVerified
	if c.Level(m) == LevelStored {
		check = c.readStored
	}
	if err := check(ctx, m, io.Discard, seen); err != nil {
		return m, fmt.Errorf("verify: %w", err)
	}
	return m, nil
}

// readVerified writes the plain RDB of a snapshot to w and checks all of it
// against the manifest on the way. What was written is to be trusted only once
// it has returned nil. seen is told the stored and plain bytes so far; it may be
// nil.
//
// An error of w or of the store is returned with its own reason; for data that
// is not what the manifest says it carries status.ReasonCorrupt.
func (c *Catalogue) readVerified(ctx context.Context, m Manifest, w io.Writer, seen func(stored, plain int64)) error {
	ids, err := c.checkKey(m)
	if err != nil {
		return err
	}
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	body, err := c.openWhole(reading, m)
	if err != nil {
		return err
	}
	defer body.Close()
	err = readVerified(m, ids, body, cancel, w, seen)
	if ctx.Err() != nil {
		return status.WithReason(status.ReasonCanceled, fmt.Errorf("snapshot %s: %w", m.ID, context.Cause(ctx)))
	}
	return err
}

// openWhole opens the object of a snapshot, which has the size that it should.
func (c *Catalogue) openWhole(ctx context.Context, m Manifest) (io.ReadCloser, error) {
	body, size, err := c.Open(ctx, m)
	if err != nil {
		return nil, err
	}
	if size != m.Object.Size {
		_ = body.Close()
		return nil, damaged(m.ID, fmt.Errorf("the stored object has %d bytes, its manifest says %d", size, m.Object.Size))
	}
	return body, nil
}

// readStored writes the stored bytes of a snapshot to w and checks them against
// the manifest, like readVerified.
func (c *Catalogue) readStored(ctx context.Context, m Manifest, w io.Writer, seen func(stored, plain int64)) error {
	body, err := c.openWhole(ctx, m)
	if err != nil {
		return err
	}
	defer body.Close()
	var stored *tap
	stored = newTap(body, func() { seen(stored.n.Load(), 0) })
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, stored, make([]byte, 64<<10))
	switch {
	case ctx.Err() != nil:
		return status.WithReason(status.ReasonCanceled, fmt.Errorf("snapshot %s: %w", m.ID, context.Cause(ctx)))
	case err != nil:
		return fmt.Errorf("snapshot %s: %w", m.ID, err)
	}
	return damaged(m.ID, joined(
		differs("stored bytes", m.Object.Size, stored.n.Load()),
		differs("sha256 of the stored bytes", m.Object.SHA256, stored.sha256()),
	))
}

// readVerified is the method of that name on an open object. cancel ends what
// body may wait for.
func readVerified(m Manifest, ids identities, body io.Reader, cancel func(), w io.Writer, seen func(stored, plain int64)) error {
	stored := newTap(body, nil)
	decoded, closer, err := decode(m.Object, ids, stored)
	if storeErr := stored.failure(); storeErr != nil {
		return fmt.Errorf("snapshot %s: %w", m.ID, storeErr)
	}
	if err != nil {
		return damaged(m.ID, err)
	}
	var plain *flow
	tell := func() {
		if seen != nil {
			seen(stored.n.Load(), plain.n)
		}
	}
	plain = newFlow(decoded, w, func() { tell() })
	summary, err := rdb.Scan(plain) // to the end of plain, and so of stored
	if err == nil {
		err = plain.wait()
	}
	storeErr, plainErr := stored.failure(), plain.failure()
	if err != nil {
		cancel()
		plain.stop()
	}
	closer()
	switch {
	case storeErr != nil:
		return fmt.Errorf("snapshot %s: %w", m.ID, storeErr)
	case plainErr != nil && !errors.Is(plainErr, errDecode):
		return plainErr // of w
	case err != nil:
		return damaged(m.ID, err)
	}
	tell()
	return damaged(m.ID, joined(
		differs("stored bytes", m.Object.Size, stored.n.Load()),
		differs("sha256 of the stored bytes", m.Object.SHA256, stored.sha256()),
		differs("bytes of the RDB", m.RDB.Size, plain.n),
		differs("sha256 of the RDB", m.RDB.SHA256, plain.sha256()),
		sameRDB(m.RDB, summary),
	))
}

// sameRDB compares what the walk over the RDB found with what the manifest says.
// An RDB that either side could not walk has no counts to compare.
func sameRDB(want RDB, s rdb.Summary) error {
	got := describeRDB(s)
	err := joined(
		differs("RDB version", want.Version, got.Version),
		differs("magic", want.Magic, got.Magic),
		differs("crc64", want.CRC64, got.CRC64),
	)
	if !want.Walked || !got.Walked {
		return err
	}
	err = joined(err,
		differs("keys", want.Keys, got.Keys),
		differs("keys with a time to live", want.Expires, got.Expires),
		differs("function libraries", want.Functions, got.Functions),
	)
	if !slices.Equal(want.Databases, got.Databases) {
		err = joined(err, errors.New("keys per database are not as in the manifest"))
	}
	return err
}

// describeRDB is the manifest's form of a walk; size and sum are for the caller.
func describeRDB(s rdb.Summary) RDB {
	r := RDB{
		Version:     s.Version,
		Magic:       s.Magic,
		CRC64:       hexUint64(s.CRC64),
		Checksummed: s.Checksum != 0,
		Walked:      s.Walked,
		Functions:   s.Functions,
		Modules:     s.Modules,
	}
	if !s.Walked {
		return r
	}
	for _, db := range s.Databases {
		r.Databases = append(r.Databases, Database{Index: db.Index, Keys: db.Keys, Expires: db.Expires})
		r.Keys += db.Keys
		r.Expires += db.Expires
	}
	for _, e := range s.Expiry {
		r.Expiry = append(r.Expiry, Expiry(e))
	}
	return r
}

func differs[T comparable](what string, want, got T) error {
	if want == got {
		return nil
	}
	return fmt.Errorf("%s: %v, the manifest says %v", what, got, want)
}

// damaged marks err as damage of a snapshot; nil stays nil.
func damaged(id string, err error) error {
	if err == nil {
		return nil
	}
	return status.WithHint(status.ReasonCorrupt, "this snapshot cannot be restored: take another one, and look for what altered the store",
		fmt.Errorf("snapshot %s is damaged: %w", id, err))
}

// errDecode marks the errors of what turns stored bytes into plain ones.
var errDecode = errors.New("decode")

// decode returns the plain bytes of what r holds of an object. Its errors and
// those of the reader wrap errDecode. The returned function releases what it
// holds.
func decode(o Object, ids identities, r io.Reader) (io.Reader, func(), error) {
	switch o.Encryption {
	case EncryptionNone:
	case EncryptionAge:
		var err error
		if r, err = ids.open(r); err != nil {
			return nil, nil, fmt.Errorf("%w: decrypt: %w", errDecode, err)
		}
		r = decoder{r, "decrypt"}
	default:
		return nil, nil, fmt.Errorf("%w: encryption %q is not known", errDecode, o.Encryption)
	}
	switch o.Compression {
	case CompressionNone:
		return r, func() {}, nil
	case CompressionZstd:
		// In one goroutine: its own cost 40 % more, and are no faster beside the flow's.
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, fmt.Errorf("%w: decompress: %w", errDecode, err)
		}
		return decoder{d, "decompress"}, d.Close, nil
	}
	return nil, nil, fmt.Errorf("%w: compression %q is not known", errDecode, o.Compression)
}

// decoder marks the errors of a reader.
type decoder struct {
	r    io.Reader
	what string
}

func (d decoder) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF && !errors.Is(err, errDecode) { //nolint:errorlint // an io.Reader returns io.EOF itself
		err = fmt.Errorf("%w: %s: %w", errDecode, d.what, err)
	}
	return n, err
}
