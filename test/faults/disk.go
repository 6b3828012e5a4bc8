package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func diskRows() []row {
	rows := []row{
		{group: groupDisk, step: "the server's volume, while the child writes", runs: 3, quick: true, do: serverDiskFillsUp},
		{group: groupDisk, step: "the server's volume, before", runs: 1, quick: true, do: serverDiskIsFull},
		{group: groupDisk, step: "the store's directory", runs: 2, do: storeDiskIsFull},
		{group: groupDisk, step: "the target of a restore, before", runs: 1, do: targetIsFull},
		{group: groupDisk, step: "the target of a restore, in the middle of the download", runs: 2, quick: true, do: targetFillsUp},
	}
	// Without inodes each thing that is made fails in turn.
	for inodes := 2; inodes <= 10; inodes++ {
		rows = append(rows,
			row{group: groupDisk, step: fmt.Sprintf("the store's directory has %d inodes", inodes), runs: 1, quick: inodes == 5, do: func(t *trial) { storeInodes(t, inodes) }},
			row{group: groupDisk, step: fmt.Sprintf("the target of a restore has %d inodes", inodes), runs: 1, quick: inodes == 6, do: func(t *trial) { targetInodes(t, inodes) }})
	}
	return rows
}

// fillDisk writes until no more goes, and returns the file.
func fillDisk(t *trial, dir string) string {
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for err == nil {
		if _, err = f.Write(block); err != nil && len(block) > 512 {
			block, err = block[:len(block)/2], nil
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return path
}

func serverDiskFillsUp(t *trial) {
	w := newWorld(t, options{data: tmpfs(t, "28m"), redis: []string{"--rdb-key-save-delay", "20000"}})
	before := w.truth.saves()
	filler := make(chan string, 1)
	run := w.arm(step{rule: at(testenv.InUpload, http.MethodPut, "/dump.rdb", "partNumber=1&")}, func(*sidecar) {
		filler <- fillDisk(t, w.redis.Dir)
		w.redis.Do(w, "CONFIG", "SET", "rdb-key-save-delay", "3000") // of the next saves
	})
	code := run.wait(w, time.Minute)
	w.disarm()
	w.judge(run, code, fails)
	w.outcomeOf(before, w.outcome, w.outcome)
	w.intact()
	if err := os.Remove(<-filler); err != nil {
		t.Fatal(err)
	}
	w.backupAgain()
	w.intact()
}

func serverDiskIsFull(t *trial) {
	w := newWorld(t, options{data: tmpfs(t, "28m")})
	w.backupAgain()
	before := w.truth.saves()
	filler := fillDisk(t, w.redis.Dir)
	run := w.start("backup", "now")
	w.judge(run, run.wait(w, time.Minute), fails)
	w.outcomeOf(before, w.outcome, w.outcome)
	if got := w.truth.saves(); got != before {
		w.violated(otherFault, "the server was asked to save, %d times", got-before)
	}
	w.intact()
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	w.backupAgain()
}

func storeDiskIsFull(t *trial) {
	dir := tmpfs(t, "20m") // for one and a half
	w := newWorld(t, options{dir: dir})
	w.backupAgain()
	before := w.truth.saves()
	run := w.start("backup", "now")
	w.judge(run, run.wait(w, time.Minute), fails)
	w.outcomeOf(before, w.outcome, w.outcome)
	w.intact()
	w.must("backup", "delete", "--force", w.ids()[0])
	w.backupAgain()
}

func storeInodes(t *trial, inodes int) {
	dir := tmpfs(t, fmt.Sprintf("60m,nr_inodes=%d", inodes))
	w := newWorld(t, options{dir: dir, keys: 10})
	before := w.truth.saves()
	run := w.start("backup", "now")
	w.judge(run, run.wait(w, time.Minute), either)
	w.outcomeOf(before, w.outcome, w.outcome)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=60m,nr_inodes=1000"); err != nil {
		t.Fatal(err)
	}
	w.backupAgain()
	w.intact()
}

// targetWorld has a snapshot of about 12 MB to restore.
func targetWorld(t *trial) *world {
	w := newWorld(t, options{})
	w.past().must("backup", "now")
	w.checkNew(0)
	return w
}

// target restores into a directory under trouble, mends it and restores again.
func (w *world) target(dir string, want want, mend func()) {
	run := w.start("restore", "--restore.dir="+dir)
	code := run.wait(w, time.Minute)
	w.disarm()
	w.judge(run, code, want)
	mend()
	if code != 0 {
		if got := w.boot(dir, nil); got != loadsNone {
			w.violated(unusableDir, "after a restore that failed, the server %s", got)
		}
		w.past().must("restore", "--restore.dir="+dir)
	}
	for _, appendonly := range []string{"no", "yes"} {
		if got := w.boot(dir, []string{"--appendonly", appendonly}); got != loadsAll {
			w.violated(unusableDir, "after the restore, with appendonly %s, the server %s", appendonly, got)
		}
	}
}

func targetIsFull(t *trial) {
	w := targetWorld(t)
	dir := tmpfs(t, "8m")
	w.target(dir, fails, func() {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=40m"); err != nil {
			t.Fatal(err)
		}
	})
}

func targetFillsUp(t *trial) {
	w := targetWorld(t)
	dir := tmpfs(t, "40m")
	filler := make(chan string, 1)
	w.store.Set(testenv.Rule{At: testenv.InDownload, Method: http.MethodGet, Path: "/dump.rdb", Times: 1, Do: func() { filler <- fillDisk(t, dir) }})
	w.target(dir, fails, func() {
		if err := os.Remove(<-filler); err != nil {
			t.Fatal(err)
		}
	})
}

func targetInodes(t *trial, inodes int) {
	w := targetWorld(t)
	dir := tmpfs(t, fmt.Sprintf("60m,nr_inodes=%d", inodes))
	w.target(dir, either, func() {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=60m,nr_inodes=1000"); err != nil {
			t.Fatal(err)
		}
	})
}
