package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
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

// Verify downloads one snapshot and checks what its manifest says: size and SHA-256
// of the stored bytes and, see Level, size, structure and CRC64 of the RDB, versions
// and key counts; the SHA-256 of the RDB follows, see readVerified. progress may be
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
	if c.Level(m) == LevelStored {
		err = c.readStored(ctx, m, func(stored int64) { seen(stored, 0) })
	} else {
		err = c.readVerified(ctx, m, nil, seen)
	}
	if err != nil {
		return m, fmt.Errorf("verify: %w", err)
	}
	return m, nil
}

// readVerified writes the plain RDB of a snapshot to w, which may be nil, and
// checks all of it against the manifest on the way. What was written is to be
// trusted only once it has returned nil. seen is told the stored and plain bytes
// so far; it may be nil.
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

// readStored checks the stored bytes of a snapshot against the manifest, like
// readVerified.
func (c *Catalogue) readStored(ctx context.Context, m Manifest, seen func(stored int64)) error {
	body, err := c.openWhole(ctx, m)
	if err != nil {
		return err
	}
	defer body.Close()
	n, sum, err := hashAll(body, seen)
	switch {
	case ctx.Err() != nil:
		return status.WithReason(status.ReasonCanceled, fmt.Errorf("snapshot %s: %w", m.ID, context.Cause(ctx)))
	case err != nil:
		return fmt.Errorf("snapshot %s: %w", m.ID, err)
	}
	return damaged(m.ID, sameObject(m.Object, n, sum))
}

// hashAll reads r to its end and returns how many bytes it had and their SHA-256
// in hex. seen is told the bytes so far.
func hashAll(r io.Reader, seen func(n int64)) (int64, string, error) {
	sum := sha256.New()
	from := lenderOf(r)
	for n := int64(0); ; {
		piece, giveBack, err := from.Lend()
		if len(piece) > 0 {
			sum.Write(piece)
			giveBack()
			n += int64(len(piece))
			seen(n)
		}
		switch {
		case err == io.EOF: //nolint:errorlint // as it is of an io.Reader
			return n, hexSum(sum), nil
		case err != nil:
			return n, "", err
		}
	}
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// readVerified is the method of that name on an open object. cancel ends what
// body may wait for.
//
// Several goroutines share the work, beside those of w and of the store: one reads
// and hashes what is stored, others decompress it, which takes the longest, and
// this one walks over what comes out.
//
// That is not hashed: the SHA-256 of the stored bytes proves that they are those
// that were put there, which decompress to what was compressed then. That it did,
// here, is what the CRC64 of the RDB is for, which the manifest has also where the
// file does not; the checksum of a frame, of fewer bits, would add nothing. The
// object of a manifest that is neither compressed nor encrypted has one SHA-256, see validate.
func readVerified(m Manifest, ids identities, body io.Reader, cancel func(), w io.Writer, seen func(stored, plain int64)) error {
	sum := sha256.New()
	stored := newFlow(lenderOf(body), nil, sum)
	var plain *flow
	var writers []io.Writer
	if w != nil {
		writers = append(writers, w)
	}
	tell := func() {
		if seen != nil {
			seen(stored.n.Load(), plain.n.Load())
		}
	}
	var summary rdb.Summary
	decoded, closer, err := decode(m.Object, ids, stored)
	if err == nil {
		plain = newFlow(decoded, func() { tell() }, writers...)
		if summary, err = rdb.Scan(plain); err == nil { // to the end of plain, and so of stored
			err = plain.wait()
		}
	}
	storeErr := stored.failure()
	var plainErr error
	if plain != nil {
		plainErr = plain.failure()
	}
	if err != nil {
		cancel() // after this there are failures that say nothing
		if plain != nil {
			plain.stop()
		}
	}
	if closer != nil {
		closer() // it may still read stored
	}
	stored.stop()
	switch {
	case storeErr != nil:
		return fmt.Errorf("snapshot %s: %w", m.ID, storeErr)
	case plainErr != nil && !errors.Is(plainErr, errDecode):
		return plainErr // of w
	case err != nil && stored.n.Load() < m.Object.Size:
		return damaged(m.ID, err)
	case err != nil: // all of it was hashed: was it the store that altered it?
		return damaged(m.ID, joined(sameObject(m.Object, stored.n.Load(), hexSum(sum)), err))
	}
	tell()
	return damaged(m.ID, joined(
		sameObject(m.Object, stored.n.Load(), hexSum(sum)),
		differs("bytes of the RDB", m.RDB.Size, plain.n.Load()),
		sameRDB(m.RDB, summary),
	))
}

// sameObject compares what is stored with what the manifest says.
func sameObject(want Object, size int64, sha256 string) error {
	return joined(
		differs("stored bytes", want.Size, size),
		differs("sha256 of the stored bytes", want.SHA256, sha256),
	)
}

// sameRDB compares what the walk over the RDB found with what the manifest says.
// An RDB that either side could not walk has no counts to compare.
func sameRDB(want RDB, s rdb.Summary) error {
	got := describeRDB(s)
	err := joined(
		differs("RDB version", want.Version, got.Version),
		differs("magic", want.Magic, got.Magic),
		differs("crc64", want.CRC64, got.CRC64),
		differs("whether the RDB ends in its crc64", want.Checksummed, got.Checksummed),
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
func decode(o Object, ids identities, r io.Reader) (lender, func(), error) {
	switch o.Encryption {
	case EncryptionNone:
	case EncryptionAge:
		var err error
		if r, err = ids.open(r); err != nil {
			return nil, nil, decodeError("decrypt", err)
		}
		r = decoder{r, "decrypt"}
	default:
		return nil, nil, fmt.Errorf("%w: encryption %q is not known", errDecode, o.Encryption)
	}
	switch o.Compression {
	case CompressionNone:
		return lenderOf(r), func() {}, nil
	case CompressionZstd:
		if o.FrameSize > 0 && o.FrameSize <= maxFrameSize {
			f, err := newFrameReader(lenderOf(r), o.FrameSize)
			if err != nil {
				return nil, nil, decodeError("decompress", err)
			}
			return f, f.close, nil
		}
		// In one goroutine: its own cost 40 % more, and are no faster beside the flow's.
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, decodeError("decompress", err)
		}
		return newBuffered(decoder{d, "decompress"}), d.Close, nil
	}
	return nil, nil, fmt.Errorf("%w: compression %q is not known", errDecode, o.Compression)
}

// decoder marks the errors of a reader, and fills what is to be filled: each block
// of zstd handed on by itself would wake others twice as often.
type decoder struct {
	r    io.Reader
	what string
}

func (d decoder) Read(p []byte) (n int, err error) {
	n, err = d.r.Read(p)
	for m := n; n < len(p) && m > 0 && err == nil; n += m {
		m, err = d.r.Read(p[n:])
	}
	if err != nil && err != io.EOF { //nolint:errorlint // an io.Reader returns io.EOF itself
		err = decodeError(d.what, err)
	}
	return n, err
}

// decodeError marks err as one that happened while doing what; one that is marked stays as it is.
func decodeError(what string, err error) error {
	if errors.Is(err, errDecode) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", errDecode, what, err)
}
