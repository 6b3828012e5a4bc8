package exporter

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// write makes a file of n bytes.
func write(tb testing.TB, dir, name string, n int) {
	tb.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, n), 0o644); err != nil {
		tb.Fatal(err)
	}
}

func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "dump.rdb", 100)
	write(t, dir, "aof/a.aof.1.base.rdb", 10)
	write(t, dir, "aof/a.aof.1.incr.aof", 20)
	write(t, dir, "aof/a.aof.manifest", 3)
	write(t, dir, "aof/other", 1000)
	write(t, dir, "aof/a.aof.directory/x", 1000)
	write(t, dir, "old.aof", 7)
	if err := os.Symlink(filepath.Join(dir, "dump.rdb"), filepath.Join(dir, "link.rdb")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		place    place
		rdb, aof float64
		volume   bool
	}{
		{"all", place{dir: dir, rdb: "dump.rdb", aof: "a.aof", aofDir: "aof"}, 100, 33, true},
		{"before 7.0", place{dir: dir, rdb: "dump.rdb", aof: "old.aof"}, 100, 7, true},
		{"no AOF", place{dir: dir, rdb: "dump.rdb", aof: "b.aof", aofDir: "aof"}, 100, -1, true},
		{"AOF only, not yet an RDB file", place{dir: dir, rdb: "none.rdb", aof: "a.aof", aofDir: "aof"}, 0, 33, true},
		{"another's directory of that name", place{dir: dir, rdb: "none.rdb", aof: "b.aof", aofDir: "none"}, -1, -1, false},
		{"the server's beyond doubt", place{dir: dir, rdb: "none.rdb", aof: "b.aof", aofDir: "none", trusted: true}, 0, -1, true},
		{"a link is not followed", place{dir: dir, rdb: "link.rdb", trusted: true}, -1, -1, true},
		{"a directory is no file", place{dir: dir, rdb: "aof", trusted: true}, -1, -1, true},
		{"a strange name", place{dir: dir, aof: "a.aof", aofDir: "aof", trusted: true}, -1, 33, true},
		{"not here", place{dir: filepath.Join(dir, "none"), rdb: "dump.rdb", trusted: true}, -1, -1, false},
		{"not a directory", place{dir: filepath.Join(dir, "dump.rdb"), rdb: "dump.rdb", trusted: true}, -1, -1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := measure(c.place)
			if got.rdb != c.rdb || got.aof != c.aof {
				t.Errorf("RDB %v, AOF %v; want %v, %v", got.rdb, got.aof, c.rdb, c.aof)
			}
			if c.volume != (got.free >= 0 && got.total > 0 && got.free <= got.total) {
				t.Errorf("%v of %v free", got.free, got.total)
			}
		})
	}
}

// A directory with more entries than are looked at.
func TestAofListIsBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range aofLimit + 50 {
		write(t, dir, "aof/a.aof."+string(rune('a'+i%26))+time.Duration(i).String(), 1)
	}
	if got := aofSize(place{dir: dir, aof: "a.aof", aofDir: "aof"}); got != aofLimit {
		t.Errorf("%v files", got)
	}
}

// What the configuration says decides where is looked, but not outside of the
// directory.
func TestWhere(t *testing.T) {
	for _, c := range []struct {
		name   string
		opts   FileOptions
		config map[string]string
		want   place
		ok     bool
	}{
		{"CONFIG GET", FileOptions{Local: true}, map[string]string{"dir": "/data", "dbfilename": "d.rdb", "appendfilename": "a", "appenddirname": "ad"},
			place{dir: "/data", rdb: "d.rdb", aof: "a", aofDir: "ad"}, true},
		{"assumed", FileOptions{Assume: true}, map[string]string{"dir": "/data"},
			place{dir: "/data", rdb: "dump.rdb", aof: "appendonly.aof", trusted: true}, true},
		{"mounted elsewhere, CONFIG forbidden", FileOptions{DataDir: "/mnt"}, nil,
			place{dir: "/mnt", rdb: "dump.rdb", aof: "appendonly.aof", trusted: true}, true},
		{"a path in a name", FileOptions{DataDir: "/mnt"}, map[string]string{"dbfilename": "../etc/passwd", "appendfilename": "..", "appenddirname": "."},
			place{dir: "/mnt", trusted: true}, true},
		{"nothing known", FileOptions{Local: true}, nil, place{rdb: "dump.rdb", aof: "appendonly.aof"}, false},
		{"a relative directory", FileOptions{Local: true}, map[string]string{"dir": "data"}, place{dir: "data", rdb: "dump.rdb", aof: "appendonly.aof"}, false},
	} {
		got, ok := newFiles(newCatalog(Options{}.withDefaults()), c.opts).where(c.config)
		if got != c.want || ok != c.ok {
			t.Errorf("%s: %+v %v, want %+v %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

// A volume that hangs costs the scrape that noticed 50 ms, the others nothing,
// one goroutine, and after a minute the sizes.
func TestHungVolume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFiles(newCatalog(Options{}.withDefaults()), FileOptions{DataDir: "/data"})
		hang := make(chan struct{})
		var calls atomic.Int64
		var hung atomic.Bool
		c.measure = func(place) sizes {
			n := calls.Add(1)
			if hung.Load() {
				<-hang
			}
			return sizes{float64(n), 2, 3, 4}
		}
		where := place{dir: "/data"}
		look := func(wait time.Duration, rdb float64, takes time.Duration) {
			t.Helper()
			if wait > 0 {
				<-time.After(wait)
			}
			start := time.Now()
			if got := c.current(where, start); got.rdb != rdb {
				t.Errorf("size %v, want %v", got.rdb, rdb)
			}
			if took := time.Since(start); took != takes {
				t.Errorf("took %s, want %s", took, takes)
			}
		}
		look(0, 1, 0)
		look(9*time.Second, 1, 0) // young enough
		look(time.Second, 2, 0)
		hung.Store(true)
		look(15*time.Second, 2, filesPatience)
		look(15*time.Second, 2, 0)
		look(15*time.Second, 2, 0)
		look(15*time.Second, -1, 0)
		if calls.Load() != 3 {
			t.Errorf("%d looks", calls.Load())
		}
		hung.Store(false)
		close(hang)
		synctest.Wait()
		look(0, 3, 0)

		where = place{dir: "/other"} // another server
		look(0, 4, 0)
	})
}
