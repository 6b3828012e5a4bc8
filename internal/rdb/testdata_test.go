package rdb_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
)

// sample is a file in testdata, each written by SAVE of the server named, with
// the counts that server gave in INFO keyspace.
type sample struct {
	name string
	want rdb.Summary // without Aux, CRC64 and Checksum
	aux  string      // a field and its value
}

func samples() []sample {
	// What the oldest files hold: each of string, integer, compressed string,
	// expire time; list, set, sorted set and hash in their small and their large
	// encoding, scores ±inf; a second database.
	old := []rdb.Database{{Index: 0, Keys: 12, Expires: 1}, {Index: 3, Keys: 1}}
	// The same and a stream with a group of two consumers.
	old5 := []rdb.Database{{Index: 0, Keys: 13, Expires: 1}, {Index: 3, Keys: 1}}
	cluster := []rdb.Database{{Index: 0, Keys: 5, Expires: 1}}

	redis := func(version int, bytes int64, dbs []rdb.Database) rdb.Summary {
		return rdb.Summary{Magic: rdb.MagicRedis, Version: version, Bytes: bytes, Databases: dbs, Walked: true}
	}
	valkey := func(bytes int64, functions int, dbs []rdb.Database) rdb.Summary {
		return rdb.Summary{Magic: rdb.MagicValkey, Version: 80, Bytes: bytes, Databases: dbs, Functions: functions, Walked: true}
	}
	with := func(s rdb.Summary, functions int, modules ...string) rdb.Summary {
		s.Functions, s.Modules = functions, modules
		return s
	}
	return []sample{
		// Redis 2.4.18: no checksum; expire times in seconds (253), zipmap.
		{"redis-2.4.rdb", redis(2, 362, old), ""},
		// 2.6.17: checksum, expire times in milliseconds, hash as ziplist.
		{"redis-2.6.rdb", redis(6, 378, old), ""},
		// 3.2.13: auxiliary fields, sizes of databases, quicklist of ziplists.
		{"redis-3.2.rdb", redis(7, 456, old), "redis-ver=3.2.13"},
		// 4.0.14: binary scores.
		{"redis-4.0.rdb", redis(8, 506, old), "redis-ver=4.0.14"},
		// 5.0.14: stream (type 15); with maxmemory-policy allkeys-lru and -lfu.
		{"redis-5.0.rdb", redis(9, 689, old5), "redis-ver=5.0.14"},
		{"redis-5.0-lru.rdb", redis(9, 717, old5), "redis-ver=5.0.14"},
		{"redis-5.0-lfu.rdb", redis(9, 717, old5), "redis-ver=5.0.14"},
		// 7.0-rc1: two function libraries of the old form (246), one described.
		{"redis-7.0-rc1.rdb", with(redis(10, 243, []rdb.Database{{Keys: 1}}), 2), "redis-ver=6.9.240"},
		// 7.4-rc1: hashes with field expiry, types 22 and 23.
		{"redis-7.4-rc1.rdb", redis(12, 198, []rdb.Database{{Keys: 3}}), "redis-ver=7.3.240"},
		// 7.4.1: types 24, 25, 20 and 21, a function (245).
		{"redis-7.4.rdb", with(redis(12, 581, []rdb.Database{{Keys: 9, Expires: 1}, {Index: 5, Keys: 1}}), 1), "redis-ver=7.4.1"},
		// 7.4.1 with cluster-enabled: slot sizes (244).
		{"redis-7.4-cluster.rdb", redis(12, 152, cluster), "redis-ver=7.4.1"},
		// Redis' development tree of June 2026, the format of 8.8: streams with
		// idempotent producers and negative acknowledgements (27), arrays with every
		// kind of element (28).
		{"redis-8.8-dev.rdb", with(redis(14, 1015, []rdb.Database{{Keys: 13, Expires: 1}, {Index: 5, Keys: 1}}), 1), "redis-bits=64"},
		{"redis-8.8-dev-cluster.rdb", redis(14, 177, cluster), "cluster-asm-task="},
		// The same with test modules: values (7) of two types, auxiliary data before
		// and after the keys (247).
		{"redis-8.8-dev-module.rdb", with(redis(14, 205, []rdb.Database{{Keys: 3}}), 0, "test___dt", "test__rdb"), "redis-bits=64"},
		// The same with metadata of one and of two classes on keys (243).
		{"redis-8.8-dev-keymeta.rdb", redis(14, 246, []rdb.Database{{Keys: 3, Expires: 1}}), "redis-bits=64"},
		// Valkey 9.1.0: its own magic and its own type 22.
		{"valkey-9.1.rdb", valkey(582, 1, []rdb.Database{{Keys: 9, Expires: 1}, {Index: 5, Keys: 1}}), "valkey-ver=9.1.0"},
		{"valkey-9.1-cluster.rdb", valkey(241, 0, cluster), "slot-info=3300,1,0,0"},
	}
}

func (s sample) read(tb testing.TB) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", s.name))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func TestFilesOfRealServers(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			got := scan(t, s.read(t))
			if s.want.Version >= 5 && got.Checksum == 0 {
				t.Error("no checksum was found")
			}
			if got.Checksum != 0 && got.Checksum != got.CRC64 {
				t.Errorf("checksum %016x, computed %016x", got.Checksum, got.CRC64)
			}
			if name, value, ok := strings.Cut(s.aux, "="); ok {
				if text, ok := got.Aux[name]; !ok || text != value {
					t.Errorf("auxiliary field %s is %q, want %q; all: %v", name, text, value, got.Aux)
				}
			}
			if want := expires(got); got.Aux["ctime"] != "" && inSpans(got) != want {
				t.Errorf("%d keys expire, by time %d", want, inSpans(got))
			}
			got.Aux, got.CRC64, got.Checksum, got.Expiry = nil, 0, 0, nil
			if diff := cmp.Diff(got, s.want); diff != "" {
				t.Errorf("-got +want:\n%s", diff)
			}
		})
	}
}

func expires(s rdb.Summary) (n uint64) {
	for _, db := range s.Databases {
		n += db.Expires
	}
	return n
}

func inSpans(s rdb.Summary) (n uint64) {
	for _, e := range s.Expiry {
		n += e.Keys
	}
	return n
}

// Whatever is cut off, and whatever byte changes, must be noticed.
func TestEveryCutFails(t *testing.T) {
	for _, s := range samples() {
		data := s.read(t)
		for n := range data {
			if _, err := rdb.Scan(bytes.NewReader(data[:n])); err == nil {
				t.Errorf("%s: the first %d of %d bytes passed as whole", s.name, n, len(data))
			} else {
				mustBeDamage(t, err, n)
			}
		}
	}
}

func TestEveryChangedByteFails(t *testing.T) {
	for _, s := range samples() {
		data := s.read(t)
		if s.want.Version < 5 {
			continue // no checksum: a change inside a value cannot be seen
		}
		for i := range data {
			for _, change := range []byte{0x01, 0x80, 0xff} {
				data[i] ^= change
				if got, err := rdb.Scan(bytes.NewReader(data)); err == nil {
					t.Errorf("%s: byte %d changed by %#x passed as intact: %+v", s.name, i, change, got)
				} else {
					mustBeDamage(t, err, len(data))
				}
				data[i] ^= change
			}
		}
	}
}
