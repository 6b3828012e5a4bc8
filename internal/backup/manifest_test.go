package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func goldenManifest(tb testing.TB) []byte {
	tb.Helper()
	b, err := os.ReadFile("testdata/manifest.json")
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// The format on the store does not change by accident.
func TestManifestGolden(t *testing.T) {
	want := goldenManifest(t)
	m, err := ReadManifest(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("read and written again (-want +got):\n%s", diff)
	}
}

func TestManifestNewerFormat(t *testing.T) {
	// Every other field may have become anything.
	_, err := ParseManifest([]byte(`{"format_version": 2, "id": 17, "rdb": "gone"}`))
	wantError(t, err, status.ReasonCorrupt, "manifest: format_version 2, this program knows up to 1: written by a newer redis-sidecar")
	if !errors.Is(err, ErrNewerFormat) {
		t.Error("the error does not wrap ErrNewerFormat")
	}
	if got, want := status.HintOf(err), "the snapshot was made by a newer redis-sidecar: upgrade this one"; got != want {
		t.Errorf("hint %q, want %q", got, want)
	}
}

// A field that a later program adds within the version does not matter.
func TestManifestUnknownField(t *testing.T) {
	b := sealedAgain(bytes.Replace(goldenManifest(t), []byte(`"tool"`), []byte(`"labels": {"a": 1}, "tool"`), 1))
	if _, err := ParseManifest(b); err != nil {
		t.Error(err)
	}
}

func TestManifestBad(t *testing.T) {
	tests := []struct {
		name, old, new string // replaced in the golden manifest
		want           string
		newer          bool
	}{
		{name: "empty", old: "*", new: "", want: "not a manifest: unexpected end of JSON input"},
		{name: "no JSON", old: "*", new: "<html>", want: "not a manifest: invalid character '<' looking for beginning of value"},
		{name: "array", old: "*", new: "[]", want: "not a manifest: json: cannot unmarshal array"},
		{name: "empty object", old: "*", new: "{}", want: "format_version is missing"},
		{name: "only the version", old: "*", new: `{"format_version":1}`, want: "server.run_id is missing"},
		{name: "version 0", old: `"format_version": 1`, new: `"format_version": 0`, want: "format_version 0 is not valid"},
		{name: "version text", old: `"format_version": 1`, new: `"format_version": "1"`, want: "not a manifest: json: cannot unmarshal string"},
		{name: "trailing bytes", old: "*", new: "{}}", want: "not a manifest: invalid character '}' after top-level value"},
		{name: "too large", old: "*", new: strings.Repeat(" ", maxManifest+1), want: "larger than 1048576 bytes"},
		{name: "wrong type", old: `"size": 7177840`, new: `"size": "7177840"`, want: "cannot unmarshal string into Go struct field RDB.rdb.size"},
		{name: "id", old: `"id": "20261123T064514Z-redis-0-q4evec"`, new: `"id": "../../x"`, want: `id: "../../x" is not a snapshot id`},
		{name: "time and id", old: `"created_at": "2026-11-23T06:45:14.283389099Z"`, new: `"created_at": "2026-11-23T06:45:15Z"`, want: "created_at 2026-11-23T06:45:15Z contradicts the id 20261123T064514Z-redis-0-q4evec"},
		{name: "no time", old: `"created_at"`, new: `"created"`, want: "created_at is missing"},
		{name: "no instance", old: `"instance": "prod/cache"`, new: `"instance": ""`, want: `instance "" is not valid`},
		{name: "no source", old: `"source": "bgsave"`, new: `"source": ""`, want: "source is missing"},
		{name: "no role", old: `"role"`, new: `"roll"`, want: "server.role is missing"},
		{name: "no server version", old: `"redis_version"`, new: `"x"`, want: "server.redis_version is missing"},
		{name: "no RDB version", old: `"version": 10`, new: `"version": 0`, want: "rdb.version is missing"},
		{name: "no magic", old: `"magic": "REDIS"`, new: `"magic": ""`, want: "rdb.magic is missing"},
		{name: "no size", old: `"size": 7177840`, new: `"size": 0`, want: "rdb.size is missing"},
		{name: "short sum", old: `"sha256": "f9231b`, new: `"sha256": "f9`, want: "rdb.sha256 is missing or not 64 hex digits"},
		{name: "upper-case sum", old: `"sha256": "f9231b`, new: `"sha256": "F9231B`, want: "rdb.sha256 is missing or not 64 hex digits"},
		{name: "no crc", old: `"crc64": "6a18a88ea3fd3a4a"`, new: `"crc64": ""`, want: "rdb.crc64 is missing or not 16 hex digits"},
		{name: "keys", old: `"keys": 200003`, new: `"keys": 200004`, want: "rdb.keys is 200004, but rdb.databases add up to 200003"},
		{name: "expires", old: `"expires": 17,
    "databases"`, new: `"expires": 16,
    "databases"`, want: "rdb.expires is 16, but rdb.databases add up to 17"},
		{name: "database twice", old: `"index": 9`, new: `"index": 0`, want: "rdb.databases: index 0 is not valid or not in order"},
		{name: "expiry adds up to less", old: `"functions": 1`, new: `"expiry": [{"until": "2027-01-01T00:00:00Z", "keys": 16}], "functions": 1`, want: "rdb.expires is 17, but rdb.expiry adds up to 16"},
		{name: "expiry out of order", old: `"functions": 1`, new: `"expiry": [{"until": "2027-01-01T00:00:00Z", "keys": 17}, {"until": "2026-01-01T00:00:00Z", "keys": 0}], "functions": 1`, want: "rdb.expiry is not in order at number 1"},
		{name: "more expire than are there", old: `"keys": 3,
        "expires": 0`, new: `"keys": 3,
        "expires": 4`, want: "rdb.databases: 4 expiring keys of 3 in database 9"},
		{name: "counted without a walk", old: `"walked": true`, new: `"walked": false`, want: "rdb.databases are given, but rdb.walked is false"},
		{name: "no object size", old: `"size": 1298186`, new: `"size": -1`, want: "object.size is missing"},
		{name: "no object sum", old: `"sha256": "61f1875b`, new: `"sha256": "xxxxxxxx`, want: "object.sha256 is missing or not 64 hex digits"},
		{name: "no compression", old: `"compression": "zstd"`, new: `"compression": ""`, want: "object.compression is missing"},
		{name: "new compression", old: `"compression": "zstd"`, new: `"compression": "brotli"`, want: `object.compression "brotli" is not known: written by a newer redis-sidecar`, newer: true},
		{name: "no encryption", old: `"encryption": "none"`, new: `"encryption": ""`, want: "object.encryption is missing"},
		{name: "new encryption", old: `"encryption": "none"`, new: `"encryption": "other"`, want: `object.encryption "other" is not known: written by a newer redis-sidecar`, newer: true},
		{name: "no recipients", old: `"encryption": "none"`, new: `"encryption": "age"`, want: `object.recipients are missing, but object.encryption is "age"`},
		{name: "recipients in plain", old: `"encryption": "none"`, new: `"encryption": "none", "recipients": ["a"]`, want: `object.recipients are given, but object.encryption is "none"`},
		{name: "name", old: `"name": "dump.rdb.zst"`, new: `"name": "../../other/dump.rdb.zst"`, want: `object.name is "../../other/dump.rdb.zst", want "dump.rdb.zst" with object.compression "zstd"`},
		{name: "name and compression", old: `"compression": "zstd"`, new: `"compression": "none"`, want: `object.name is "dump.rdb.zst", want "dump.rdb" with object.compression "none"`},
		{name: "size and compression", old: `"compression": "zstd"`, new: `"compression": "none"`, want: "object.size 1298186 contradicts rdb.size 7177840"},
		{name: "sha256 and compression", old: `"compression": "zstd"`, new: `"compression": "none"`, want: "object.sha256 contradicts rdb.sha256"},
		{name: "slots", old: `"last": 5460`, new: `"last": 16384`, want: "slots: range 0-16384 is not valid or not in order"},
		{name: "slot order", old: `"first": 9000`, new: `"first": 5000`, want: "slots: range 5000-9000 is not valid or not in order"},
		{name: "durations", old: `"save_seconds": 2.052`, new: `"save_seconds": -1`, want: "durations: negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := []byte(tt.new)
			if tt.old != "*" {
				golden := goldenManifest(t)
				b = bytes.Replace(golden, []byte(tt.old), []byte(tt.new), 1)
				if bytes.Equal(b, golden) {
					t.Fatalf("%q is not in the golden manifest", tt.old)
				}
				b = sealedAgain(b)
			}
			_, err := ReadManifest(bytes.NewReader(b))
			wantError(t, err, status.ReasonCorrupt, tt.want)
			want := hintByHand
			if tt.newer {
				want = hintUpgrade
			}
			if got := status.HintOf(err); got != want {
				t.Errorf("hint %q, want %q", got, want)
			}
			if got := errors.Is(err, ErrNewerFormat); got != tt.newer {
				t.Errorf("errors.Is(err, ErrNewerFormat) = %v", got)
			}
		})
	}
}

// All problems are named at once.
func TestManifestNamesEveryProblem(t *testing.T) {
	_, err := Manifest{FormatVersion: FormatVersion}.Encode()
	if err == nil {
		t.Fatal("an empty manifest is encoded")
	}
	for _, want := range []string{"id:", "instance", "created_at", "source", "server.run_id", "rdb.sha256", "object.compression", "object.encryption"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line:\n%v", err)
	}
}

// What is wrong with a manifest goes to the log and the status page: it must not
// be as large as the manifest.
func TestManifestProblemsAreBounded(t *testing.T) {
	m := testManifest(noon, 1)
	m.Slots = make([]SlotRange, 1000)
	_, err := m.Encode()
	if err == nil || len(err.Error()) > 2000 || !strings.HasSuffix(err.Error(), "; and 979 more") {
		t.Errorf("%d bytes: %.300v", len(err.Error()), err)
	}
}

func FuzzManifest(f *testing.F) {
	golden := goldenManifest(f)
	f.Add(golden)
	f.Add(bytes.Replace(golden, []byte(`"zstd"`), []byte(`"none"`), 1))
	f.Add([]byte(`{"format_version":1}`))
	f.Add([]byte(`{"format_version":2}`))
	f.Add(bytes.Replace(golden, []byte("2026-11-23T06:45:14.283389099Z"), []byte("2026-11-23T08:45:14.5+02:00"), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			if status.ReasonOf(err) != status.ReasonCorrupt {
				t.Errorf("reason %s of %v", status.ReasonOf(err), err)
			}
			return
		}
		out, err := m.Encode()
		if err != nil {
			if json.Valid(b) && len(b) < maxManifest/16 {
				t.Errorf("read but not written again: %v", err)
			}
			return // indented it may be too large
		}
		again, err := ParseManifest(out)
		if err != nil {
			t.Fatalf("written but not read again: %v", err)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Errorf("changed by writing and reading (-first +second):\n%s", diff)
		}
	})
}

// What a manifest says of expiry is what the server will do.
func TestExpiredBy(t *testing.T) {
	r := testenv.StartRedis(t)
	for i, seconds := range []string{"100", "100", "1000", "5000", "5000", "5000", "86400"} {
		r.Do(t, "SET", "key"+strconv.Itoa(i), "v", "EX", seconds)
	}
	r.Do(t, "SET", "stays", "v")
	r.Do(t, "RPUSH", "soon", "v")
	r.Do(t, "PEXPIRE", "soon", "50500")
	s, _ := dirStore(t)
	m := mustSnapshot(t, newTestSnapshotter(t, r, s))
	if m.RDB.Keys != 9 || m.RDB.Expires != 8 {
		t.Fatalf("%+v", m.RDB)
	}
	for seconds, want := range map[int]uint64{-3: 0, 40: 0, 60: 1, 90: 1, 110: 3, 1100: 4, 4800: 4, 5200: 7, 80000: 7, 90000: 8, 1e9: 8} {
		least, most := m.ExpiredBy(m.CreatedAt.Add(time.Duration(seconds) * time.Second))
		if least != want || most != want {
			t.Errorf("after %d s: %d to %d, want %d; %+v", seconds, least, most, want, m.RDB.Expiry)
		}
	}
	// Within the time of a heavy one, nobody knows.
	if least, most := m.ExpiredBy(m.CreatedAt.Add(5000 * time.Second)); least > 4 || most < 7 {
		t.Errorf("%d to %d", least, most)
	}
	m.RDB.Expiry = nil // an older manifest
	if least, most := m.ExpiredBy(m.CreatedAt); least != 0 || most != 8 {
		t.Errorf("%d to %d", least, most)
	}
}
