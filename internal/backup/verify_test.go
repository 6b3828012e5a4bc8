package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/klauspost/compress/zstd"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func TestVerify(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 200, 5000)
	s, root := dirStore(t)
	c := newTestCatalogue(t, s)
	m := mustSnapshot(t, newTestSnapshotter(t, r, s))
	path := filepath.Join(root, c.ObjectKey(m))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	var last Progress
	if _, err := c.Verify(testContext(t), m.ID, func(p Progress) { last = p }); err != nil {
		t.Fatal(err)
	}
	if last.Phase != PhaseVerify || last.Stored != m.Object.Size || last.Total != m.Object.Size || last.Plain != m.RDB.Size || last.Keys != 200 {
		t.Errorf("last progress %+v", last)
	}

	// Any byte, anywhere.
	for _, at := range []int{0, 5, 200, len(good) / 2, len(good) - 1} {
		bad := bytes.Clone(good)
		bad[at] ^= 0x40
		put(t, s, c.ObjectKey(m), string(bad))
		_, err := c.Verify(testContext(t), m.ID, nil)
		wantError(t, err, status.ReasonCorrupt, "verify: snapshot "+m.ID+" is damaged: ")
		if at == len(good)/2 { // inside of a value, so all of it was read: that the store holds other bytes is said, too
			wantError(t, err, status.ReasonCorrupt, "sha256 of the stored bytes: ")
			wantError(t, err, status.ReasonCorrupt, "rdb: wrong checksum")
		}
	}
	put(t, s, c.ObjectKey(m), string(good[:len(good)-10]))
	_, err = c.Verify(testContext(t), m.ID, nil)
	wantError(t, err, status.ReasonCorrupt, "the stored object has ")
	put(t, s, c.ObjectKey(m), string(good))

	// Any fact of the manifest.
	for name, change := range map[string]func(*Manifest){
		"sha256 of the stored bytes":        func(m *Manifest) { m.Object.SHA256 = m.RDB.SHA256 },
		"bytes of the RDB":                  func(m *Manifest) { m.RDB.Size++ },
		"crc64":                             func(m *Manifest) { m.RDB.CRC64 = hexUint64(1) },
		"whether the RDB ends in its crc64": func(m *Manifest) { m.RDB.Checksummed = false },
		"RDB version":                       func(m *Manifest) { m.RDB.Version++ },
		"function libraries":                func(m *Manifest) { m.RDB.Functions++ },
		"keys: 200, the manifest says 201": func(m *Manifest) {
			m.RDB.Keys = 201
			m.RDB.Databases = []Database{{Index: 0, Keys: 201}}
		},
		"keys per database": func(m *Manifest) { m.RDB.Databases = []Database{{Index: 1, Keys: 200}} },
	} {
		changed := m
		change(&changed)
		if err := c.publish(testContext(t), changed); err != nil {
			t.Fatal(err)
		}
		_, err := c.Verify(testContext(t), m.ID, nil)
		wantError(t, err, status.ReasonCorrupt, name)
	}
	if err := c.publish(testContext(t), m); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(testContext(t))
	_, err = c.Verify(ctx, m.ID, func(Progress) { cancel() })
	wantError(t, err, status.ReasonCanceled, "context canceled")

	if err := s.Delete(testContext(t), c.ObjectKey(m)); err != nil {
		t.Fatal(err)
	}
	_, err = c.Verify(testContext(t), m.ID, nil)
	wantError(t, err, status.ReasonCorrupt, "no such object")
	_, err = c.Verify(testContext(t), NewID(noon, "x"), nil)
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("Verify of an unknown id: %v", err)
	}
}

// What decompresses to something else than was compressed is damage, though every
// stored byte is as the manifest says.
func TestVerifyDecompression(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 250, 5000) // two frames
	s, root := dirStore(t)
	c := newTestCatalogue(t, s)
	m := mustSnapshot(t, newTestSnapshotter(t, r, s))
	stored, err := os.ReadFile(filepath.Join(root, c.ObjectKey(m)))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := os.ReadFile(plainRDB(t, c, m))
	if err != nil {
		t.Fatal(err)
	}
	var header zstd.Header
	if err := header.Decode(stored); err != nil || !header.HasCheckSum {
		t.Fatalf("a frame with its checksum: %t, %v", header.HasCheckSum, err)
	}
	flipped := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	for _, tt := range []struct {
		name, want string
		stored     []byte
	}{
		{"a byte of a value", "is damaged: rdb: wrong checksum", compressed(t, flipped(plain, len(plain)/2))},
		{"no checksum in the file", "whether the RDB ends in its crc64: false, the manifest says true",
			compressed(t, append(bytes.Clone(plain[:len(plain)-8]), make([]byte, 8)...))},
		{"nothing wrong", "", compressed(t, plain)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changed := m
			changed.Object.Size, changed.Object.SHA256 = int64(len(tt.stored)), hexSHA256(tt.stored)
			put(t, s, c.ObjectKey(m), string(tt.stored))
			if err := c.publish(testContext(t), changed); err != nil {
				t.Fatal(err)
			}
			_, err := c.Verify(testContext(t), m.ID, nil)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, status.ReasonCorrupt, tt.want)
		})
	}
	t.Run("flipped", func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(5, 6))
		refused := 0
		for range 100 {
			at := rnd.IntN(len(stored))
			damaged := flipped(stored, at)
			changed := m
			changed.Object.SHA256 = hexSHA256(damaged)
			var got bytes.Buffer
			// Some bits mean nothing for what is in the frame, such as its checksum.
			err := readVerified(changed, identities{}, bytes.NewReader(damaged), func() {}, &got, nil)
			switch {
			case err == nil && !bytes.Equal(got.Bytes(), plain):
				t.Errorf("byte %d: %d bytes that are not those that were stored", at, got.Len())
			case err != nil && status.ReasonOf(err) != status.ReasonCorrupt:
				t.Errorf("byte %d: %v", at, err)
			case err != nil:
				refused++
			}
		}
		if refused < 80 {
			t.Errorf("%d of 100 refused", refused)
		}
	})
}

// The writer's own error is not blamed on the snapshot.
func TestReadVerifiedWriteError(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 20, 5000)
	s, _ := dirStore(t)
	c := newTestCatalogue(t, s)
	m := mustSnapshot(t, newTestSnapshotter(t, r, s))
	full := status.WithReason(status.ReasonDiskFull, errors.New("no space left"))
	err := c.readVerified(testContext(t), m, failingWriter{full}, nil)
	wantError(t, err, status.ReasonDiskFull, "no space left")
}

// Damage of what is stored as it is stays damage when the read that goes on is ended.
func TestReadVerifiedDamageOfPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := testManifest(noon, 0)
		m.Object.Compression = CompressionNone
		ended := make(chan struct{})
		body := io.MultiReader(strings.NewReader("REDIS0010\xef"), readerFunc(func([]byte) (int, error) { // no such record, and more to come
			<-ended
			return 0, context.Canceled
		}))
		cancel := func() {
			close(ended)
			synctest.Wait() // all have noticed
		}
		wantError(t, readVerified(m, identities{}, body, cancel, nil, nil), status.ReasonCorrupt, "unknown type of record 0xef")
	})
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// Whatever the store returns: it is the snapshot, or damage is reported.
func FuzzReadVerified(f *testing.F) {
	plain, err := os.ReadFile("testdata/dump.rdb") // of redis-server 7.0.15
	if err != nil {
		f.Fatal(err)
	}
	summary, err := rdb.Scan(bytes.NewReader(plain))
	if err != nil {
		f.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	stored := enc.EncodeAll(plain, nil)
	m := testManifest(noon, 0)
	m.RDB = describeRDB(summary)
	m.RDB.Size, m.RDB.SHA256 = int64(len(plain)), hexSHA256(plain)
	m.Object.Size, m.Object.SHA256 = int64(len(stored)), hexSHA256(stored)
	if err := readVerified(m, identities{}, bytes.NewReader(stored), func() {}, io.Discard, nil); err != nil {
		f.Fatal(err)
	}

	f.Add(stored)
	f.Add(stored[:len(stored)/2])
	f.Add(plain)
	f.Add([]byte{})
	f.Add(enc.EncodeAll(make([]byte, 1<<20), nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := readVerified(m, identities{}, bytes.NewReader(b), func() {}, io.Discard, nil)
		if (err == nil) != bytes.Equal(b, stored) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
		if err != nil && status.ReasonOf(err) != status.ReasonCorrupt {
			t.Errorf("reason %s: %v", status.ReasonOf(err), err)
		}
	})
}
