package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
)

// A server whose container is killed while a child writes leaves the child's
// temporary file behind, and no later server removes it (7.0.15). Each is as
// large as the dump may be, so a pod that is killed during its saves fills its
// volume with them.

// leftovers are temporary files that belong to no process any more.
type leftovers struct {
	files []string // names in the data directory
	bytes int64
}

// leftoverMargin is how much older than the server a file must be: the clock of
// the file system may be another one than the server's.
const leftoverMargin = time.Minute

// findLeftovers returns the temporary files in the data directory that were last
// written to before the server was started, so not by a child of it. in is its
// INFO.
func (f facts) findLeftovers(in info.Info, now time.Time) (leftovers, error) {
	up, ok := in.Int("uptime_in_seconds")
	if !ok || f.dirErr != nil {
		return leftovers{}, f.dirErr
	}
	before := now.Add(-time.Duration(up) * time.Second).Add(-leftoverMargin)
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return leftovers{}, dataDirError(err)
	}
	var found leftovers
	for _, e := range entries {
		if !isTemp(e.Name(), in.Get("process_id")) {
			continue
		}
		st, err := e.Info()
		if err != nil || !st.Mode().IsRegular() || !st.ModTime().Before(before) {
			continue
		}
		found.files = append(found.files, e.Name())
		found.bytes += st.Size()
	}
	return found, nil
}

// isTemp tells whether a file is a temporary one of Redis that is not named for
// the server itself: temp-<pid>.rdb of a save, temp-<time>.<pid>.rdb of the sync
// of a replica, temp-rewriteaof-<pid>.aof and temp-rewriteaof-bg-<pid>.aof of a
// rewrite. A container's server often has the same pid as the one before it:
// what is named for it may be its own.
func isTemp(name, serverPid string) bool {
	if isChildTemp(name, serverPid) {
		return true
	}
	rest, ok := strings.CutPrefix(name, "temp-")
	if !ok {
		return false
	}
	if sync, ok := strings.CutSuffix(rest, ".rdb"); ok {
		at, pid, ok := strings.Cut(sync, ".")
		return ok && isNumber(at) && isNumber(pid) && pid != serverPid
	}
	if rewrite, ok := strings.CutSuffix(rest, ".aof"); ok {
		pid, ok := strings.CutPrefix(rewrite, "rewriteaof-")
		pid = strings.TrimPrefix(pid, "bg-")
		return ok && isNumber(pid) && pid != serverPid
	}
	return false
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 63)
	return err == nil
}

// remove deletes them. Each is looked at once more: one that was written to since
// has an owner.
func (l leftovers) remove(dir string, before time.Time) error {
	var failed error
	for _, name := range l.files {
		path := filepath.Join(dir, name)
		st, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !st.ModTime().Before(before) {
			continue
		}
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, dataDirError(err))
		}
	}
	return failed
}

// sweepLeftovers reports what killed servers have left in the data directory,
// and removes it if the settings say so.
func (r *run) sweepLeftovers() {
	in := r.facts.info
	if busy(in) != "" || r.facts.dirErr != nil {
		return
	}
	now := time.Now()
	found, err := r.facts.findLeftovers(in, now)
	if err == nil && len(found.files) > 0 && r.opts.RemoveLeftovers {
		up, _ := in.Int("uptime_in_seconds")
		err = found.remove(r.facts.dir, now.Add(-time.Duration(up)*time.Second).Add(-leftoverMargin))
		if err == nil {
			r.log.Info("removed temporary files that killed servers have left", "files", found.files, "bytes", found.bytes)
			found = leftovers{}
		}
	}
	if err != nil {
		r.log.Warn("looking for what killed servers have left", "error", err)
	}
	if len(found.files) > 0 && fmt.Sprint(found.files) != fmt.Sprint(r.left.files) {
		r.log.Warn("killed servers have left temporary files, which nobody removes", "dir", r.facts.dir, "files", found.files, "bytes", found.bytes,
			"hint", "delete them, or set backup.remove-leftovers")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left = found
}

// Leftovers returns how many temporary files killed servers have left, and their
// bytes, as of the last snapshot.
func (s *Snapshotter) Leftovers() (files int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.left.files), s.left.bytes
}
