package backup

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/store"
)

// testManifest returns a valid manifest for a snapshot created at that time.
func testManifest(at time.Time, keys uint64) Manifest {
	at = at.UTC().Round(0)
	m := Manifest{
		FormatVersion: FormatVersion,
		ID:            NewID(at, "redis-0"),
		Instance:      "test",
		CreatedAt:     at,
		Tool:          "redis-sidecar test",
		Source:        SourceBGSave,
		Server:        Server{Pod: "redis-0", RunID: strings.Repeat("a", 40), Role: "master", Version: "7.0.15"},
		RDB: RDB{
			Version: 10, Magic: "REDIS", Size: 200, SHA256: strings.Repeat("0", 64), CRC64: strings.Repeat("1", 16),
			Checksummed: true, Walked: true, Keys: keys,
		},
		Object: Object{Name: "dump.rdb.zst", Size: 100, SHA256: strings.Repeat("2", 64), Compression: CompressionZstd, Encryption: EncryptionNone},
	}
	if keys > 0 {
		m.RDB.Databases = []Database{{Index: 0, Keys: keys}}
	}
	return m
}

// putSnapshot stores a snapshot whose data is no RDB: enough for whatever goes
// by manifests.
func putSnapshot(tb testing.TB, c *Catalogue, m Manifest) {
	tb.Helper()
	put(tb, c.store, c.ObjectKey(m), strings.Repeat("x", 100))
	if err := c.publish(context.Background(), m); err != nil {
		tb.Fatal(err)
	}
}

func put(tb testing.TB, s Store, key, text string) {
	tb.Helper()
	if _, err := s.Put(context.Background(), key, strings.NewReader(text)); err != nil {
		tb.Fatal(err)
	}
}

func newTestCatalogue(tb testing.TB, s Store) *Catalogue {
	tb.Helper()
	c, err := NewCatalogue(s, "test")
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// hookedStore is a real store with something added to its calls.
type hookedStore struct {
	store.Store
	before   func(op, key string) error // an error is returned instead of making the call
	afterPut func(key string)
}

func (s *hookedStore) hook(op, key string) error {
	if s.before == nil {
		return nil
	}
	return s.before(op, key)
}

func (s *hookedStore) Put(ctx context.Context, key string, r io.Reader) (int64, error) {
	if err := s.hook("put", key); err != nil {
		return 0, err
	}
	n, err := s.Store.Put(ctx, key, r)
	if err == nil && s.afterPut != nil {
		s.afterPut(key)
	}
	return n, err
}

func (s *hookedStore) Get(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	if err := s.hook("get", key); err != nil {
		return nil, 0, err
	}
	return s.Store.Get(ctx, key)
}

func (s *hookedStore) List(ctx context.Context, prefix string, fn func(string, int64, time.Time) error) error {
	if err := s.hook("list", prefix); err != nil {
		return err
	}
	return s.Store.List(ctx, prefix, fn)
}

func (s *hookedStore) Delete(ctx context.Context, key string) error {
	if err := s.hook("delete", key); err != nil {
		return err
	}
	return s.Store.Delete(ctx, key)
}

func (s *hookedStore) GetVersioned(ctx context.Context, key string) ([]byte, string, error) {
	if err := s.hook("get-versioned", key); err != nil {
		return nil, "", err
	}
	return s.Store.GetVersioned(ctx, key)
}

func (s *hookedStore) PutIf(ctx context.Context, key string, data []byte, version string) (string, error) {
	if err := s.hook("put-if", key); err != nil {
		return "", err
	}
	return s.Store.PutIf(ctx, key, data, version)
}
