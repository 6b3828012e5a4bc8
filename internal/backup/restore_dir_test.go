package backup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// TestRestoreJudgesTheDirectory is the decision table of docs/restore.md.
func TestRestoreJudgesTheDirectory(t *testing.T) {
	r := newRestorable(t)
	for _, test := range []struct {
		name  string
		files []string // with their text after "=", directories end in "/"
		skip  string   // why it is skipped
		fail  string   // the error
	}{
		{name: "empty"},
		{name: "what does not count", files: []string{"lost+found/", "users.acl=x", "redis.conf=x", "temp-42.rdb=x", "temp-1700000000.42.rdb=x", "temp-rewriteaof-bg-42.aof=x", "appendonlydir/", "other/file=x"}},

		{name: "dump", files: []string{"dump.rdb=REDIS"}, skip: "the directory holds data: dump.rdb"},
		{name: "empty dump", files: []string{"dump.rdb="}, skip: "the directory holds data: dump.rdb"},
		{name: "append-only directory", files: []string{"appendonlydir/appendonly.aof.1.incr.aof=x"}, skip: "the directory holds data: appendonlydir (1 files)"},
		{name: "anything in it", files: []string{"appendonlydir/x=x"}, skip: "the directory holds data: appendonlydir (1 files)"},
		{name: "append-only file of before Redis 7", files: []string{"appendonly.aof=x"}, skip: "the directory holds data: appendonly.aof"},
		{name: "dump beside a copy", files: []string{"dump.rdb=REDIS", "old.rdb=REDIS"}, skip: "the directory holds data: dump.rdb"},
		{name: "cluster node without data", files: []string{"nodes.conf=x"}, skip: "the directory belongs to a cluster node: nodes.conf"},
		{name: "cluster node with data", files: []string{"nodes-6379.conf=x", "dump.rdb=REDIS"}, skip: "the directory holds data: dump.rdb, nodes-6379.conf"},

		{name: "a dump by another name", files: []string{"cache.rdb=REDIS"}, fail: "the directory holds data under another name: cache.rdb in DIR, expected dump.rdb or appendonlydir"},
		{name: "in capitals", files: []string{"DUMP.RDB=REDIS"}, fail: "the directory holds data under another name: DUMP.RDB in DIR, expected dump.rdb or appendonlydir"},
		{name: "an append-only directory by another name", files: []string{"aof/log.1.base.rdb=x", "aof/log.manifest=x"}, fail: "the directory holds data under another name: aof/log.1.base.rdb in DIR, expected dump.rdb or appendonlydir"},
		{name: "an old append-only file by another name", files: []string{"cache.aof=x"}, fail: "the directory holds data under another name: cache.aof in DIR, expected dump.rdb or appendonlydir"},
		{name: "a placeholder beside data", files: []string{"dump.rdb=" + placeholderMagic, "appendonlydir/x=x"}, fail: "the directory holds data, but dump.rdb is the placeholder of an interrupted restore whose working directory is gone"},
		{name: "a working directory with a strange state", files: []string{stagingName + "/state.json={}"}, fail: "state.json: version 0 is not known"},

		{name: "a placeholder alone", files: []string{"dump.rdb=" + placeholderMagic}},
		{name: "a working directory without state", files: []string{stagingName + "/dump=x"}},
		{name: "a working directory without state, beside data", files: []string{stagingName + "/dump=x", "dump.rdb=REDIS"}, skip: "the directory holds data: dump.rdb"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range test.files {
				name, text, _ := strings.Cut(f, "=")
				if strings.HasSuffix(name, "/") {
					if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
						t.Fatal(err)
					}
					continue
				}
				write(t, text, dir, name)
			}
			before := tree(t, dir)
			result, _, err := r.restore(t, RestoreOptions{Dir: dir})
			switch {
			case test.fail != "":
				if err == nil || status.HintOf(err) == "" || !strings.HasSuffix(strings.ReplaceAll(err.Error(), dir, "DIR"), test.fail) {
					t.Errorf("error %v, hint %q\nwant %s", err, status.HintOf(err), test.fail)
				}
			case err != nil || result.Skipped != test.skip:
				t.Errorf("%v, skipped %q, want %q", err, result.Skipped, test.skip)
			case test.skip == "":
				r.loads(t, dir, "--appendonly", "yes")
				r.loads(t, dir, "--appendonly", "no")
				return
			}
			if exists(filepath.Join(dir, stagingName)) && test.fail == "" {
				t.Error("the working directory is still there")
			} else if diff := cmp.Diff(before, tree(t, dir)); diff != "" && !strings.HasPrefix(test.name, "a working directory without state") {
				t.Errorf("the files changed (-before +after):\n%s", diff)
			}
			if test.skip == "" {
				return
			}
			_, _, err = r.restore(t, RestoreOptions{Dir: dir, IfData: IfDataError})
			checkError(t, err, status.ReasonFile, "restore: the directory holds data: ", "or set restore.if-data to skip")
			if !errors.Is(err, ErrHasData) {
				t.Errorf("%v is not ErrHasData", err)
			}
		})
	}
}

// A server that starts while a restore runs makes files: they are not replaced.
func TestRestoreStopsWhenDataAppears(t *testing.T) {
	r := newRestorable(t)
	dir := t.TempDir()
	_, _, err := r.restore(t, RestoreOptions{Dir: dir, step: func(step string) {
		if step == "downloaded" {
			write(t, "REDIS0010 of somebody else", dir, "dump.rdb")
		}
	}})
	checkError(t, err, status.ReasonFile, "the directory holds data: dump.rdb appeared in "+dir+" meanwhile", "a redis-server must not run")
	if diff := cmp.Diff([]string{"dump.rdb"}, tree(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestRestoredFilesHaveTheAccessOfTheDirectory(t *testing.T) {
	r := newRestorable(t)
	for _, test := range []struct {
		dir, file, sub fs.FileMode
		mode           fs.FileMode // option
	}{
		{dir: 0o700, file: 0o600, sub: 0o700},
		{dir: 0o750, file: 0o640, sub: 0o750},
		{dir: 0o755, file: 0o640, sub: 0o750},
		{dir: 0o775 | fs.ModeSetgid, file: 0o660, sub: 0o770 | fs.ModeSetgid},
		{dir: 0o777, file: 0o666, sub: 0o777},
		{dir: 0o755, mode: 0o600, file: 0o600, sub: 0o700},
		{dir: 0o700, mode: 0o644, file: 0o644, sub: 0o755},
	} {
		dir := t.TempDir()
		if err := os.Chmod(dir, test.dir); err != nil {
			t.Fatal(err)
		}
		r.mustRestore(t, RestoreOptions{Dir: dir, Mode: test.mode})
		for name, want := range map[string]fs.FileMode{
			"dump.rdb": test.file, "appendonlydir/appendonly.aof.manifest": test.file, "appendonlydir": test.sub | fs.ModeDir,
		} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != want {
				t.Errorf("directory %v, option %v: %s is %v, want %v", test.dir, test.mode, name, info.Mode(), want)
			}
		}
	}
}
