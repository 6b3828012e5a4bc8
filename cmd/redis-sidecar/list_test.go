package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
)

// The ratio is the one of redis_sidecar_backup_last_compression_ratio.
func TestListRatio(t *testing.T) {
	var out strings.Builder
	m := backup.Manifest{RDB: backup.RDB{Size: 300}, Object: backup.Object{Size: 120}}
	if err := printEntries(&out, []backup.Entry{{ID: "x", Manifest: m}}); err != nil || !strings.Contains(out.String(), "  300 B  120 B   2.50 ") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// A later verification that was not as deep stands after the deeper one.
func TestListVerified(t *testing.T) {
	at := func(hours int, level backup.Level) *backup.Verification {
		return &backup.Verification{Level: level, VerifiedAt: time.Now().Add(-time.Duration(hours) * time.Hour)}
	}
	lesser, damaged := at(72, backup.LevelFull), at(72, backup.LevelFull)
	lesser.Later, damaged.Later, damaged.Damage = at(5, backup.LevelStored), at(5, backup.LevelStored), "x"
	for want, v := range map[string]*backup.Verification{"-": nil, "full 3d ago": at(72, backup.LevelFull), "full 3d ago, stored 5h ago": lesser, "DAMAGED 3d ago": damaged} {
		if got := verifiedText(v); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Whether there is one to go back to stands below the table.
func TestListSaysWhatIsSafe(t *testing.T) {
	full := backup.Manifest{RDB: backup.RDB{Size: 300, Walked: true, Keys: 1}, Object: backup.Object{Size: 120}}
	empty := backup.Manifest{RDB: backup.RDB{Size: 300, Walked: true}, Object: backup.Object{Size: 120}}
	passed, damaged := &backup.Verification{Level: backup.LevelFull}, &backup.Verification{Damage: "x"}
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	for _, test := range []struct {
		name    string
		entries []backup.Entry
		want    string
	}{
		{"the newest", []backup.Entry{{ID: "a", Manifest: full, Time: ago(3 * time.Hour)}, {ID: "b", Manifest: full, Time: ago(50 * time.Hour), Verified: passed}},
			"newest good snapshot: a, 3h old\nnewest verified snapshot: b, 2d old\n"},
		{"an older one", []backup.Entry{{ID: "a", Err: errors.New("x")}, {ID: "b", Manifest: full, Verified: damaged}, {ID: "c", Manifest: full, Time: ago(5 * time.Minute)}},
			"newest good snapshot: c, 5m old\nnewest verified snapshot: NONE of these\n"},
		{"an empty one", []backup.Entry{{ID: "a", Manifest: empty, Time: ago(3 * time.Hour), Verified: passed}},
			"newest good snapshot: a, 3h old, EMPTY\nnewest verified snapshot: a, 3h old, EMPTY\n"},
		{"one of the future", []backup.Entry{{ID: "a", Manifest: full, Time: ago(-time.Hour), Verified: passed}, {ID: "b", Manifest: full, Time: ago(3 * time.Hour)}},
			"newest good snapshot: b, 3h old\nnewest verified snapshot: NONE of these\ndated in the future: a: a clock was wrong, and restore takes it for the latest\n"},
		{"none", []backup.Entry{{ID: "a", Manifest: full, Verified: damaged}}, "newest good snapshot: NONE of these\nnewest verified snapshot: NONE of these\n"},
	} {
		var out strings.Builder
		if err := printEntries(&out, test.entries); err != nil || !strings.HasSuffix(out.String(), "\n"+test.want) {
			t.Errorf("%s: %v, want at the end\n%sgot\n%s", test.name, err, test.want, out.String())
		}
	}
}

// A mistaken name of the instance is seen by those that there are.
func TestListNamesInstances(t *testing.T) {
	url := "file://" + t.TempDir()
	list := func() string {
		t.Helper()
		return mustRun(t, nil, "backup", "list", "--instance=rediss", "--backup.store="+url)
	}
	if got := list(); !strings.HasPrefix(got, "no snapshots of rediss in file://") || strings.Contains(got, ";") {
		t.Errorf("of an empty store: %s", got)
	}
	const id = "20261123T060000Z-redis-0-aaaaaa"
	for _, instance := range []string{"redis", "prod/redis"} {
		putManifests(t, url, func(string) string { return "" }, instance, id)
	}
	if got := list(); !strings.HasPrefix(got, "no snapshots of rediss in file://") || !strings.HasSuffix(got, "; there are some of prod/redis, redis\n") {
		t.Errorf("of another instance: %s", got)
	}
	if got := mustRun(t, nil, "backup", "prune", "--dry-run", "--instance=rediss", "--backup.store="+url); !strings.HasSuffix(got, "; there are some of prod/redis, redis\n") {
		t.Errorf("prune: %s", got)
	}
	if got := mustRun(t, nil, "backup", "list", "--shard=00000", "--instance=rediss", "--backup.store="+url); !strings.HasPrefix(got, "no snapshots of rediss/shards/00000 in ") || strings.Contains(got, ";") {
		t.Errorf("of a shard: %s", got)
	}
	if got := mustRun(t, nil, "backup", "list", "--json", "--instance=rediss", "--backup.store="+url); got != "[]\n" {
		t.Errorf("as JSON: %s", got)
	}
}
