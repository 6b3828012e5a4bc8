package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// noisy is how many events about other files a directory may have in about a
// minute before it is left to the clock: a redis.conf may lie beside the data.
const noisy = 2000

// watcher tells when one of a set of files may have changed. It watches their
// directories: kubelet swaps the link ..data, editors rename, and a watch on the
// file itself would be blind after the first of these. It is a hint only; the
// job also reads by the clock.
type watcher struct {
	fs       *fsnotify.Watcher // nil: not to be had
	err      error             // why not, or the last trouble
	names    map[string]bool
	patterns []string
	strange  map[string]int  // events about other files, by directory, and
	since    time.Time       // since when they were counted
	loud     map[string]bool // directories that are left to the clock
}

func newWatcher() *watcher {
	w := &watcher{strange: map[string]int{}, loud: map[string]bool{}}
	w.fs, w.err = fsnotify.NewWatcher()
	if w.err != nil {
		w.fs = nil
	}
	return w
}

func (w *watcher) close() {
	if w.fs != nil {
		_ = w.fs.Close()
	}
}

// events is nil, which blocks for ever, when there is no watcher.
func (w *watcher) events() <-chan fsnotify.Event {
	if w.fs == nil {
		return nil
	}
	return w.fs.Events
}

// errors is nil when there is no watcher. An error means that events were lost.
func (w *watcher) errors() <-chan error {
	if w.fs == nil {
		return nil
	}
	return w.fs.Errors
}

// follow sets what is watched: the directories of the files of a tree, of the
// links that lead to them, and of the patterns of its includes. A directory that
// does not exist yet is tried again with the next call.
func (w *watcher) follow(t *Tree) {
	w.names, w.patterns = map[string]bool{}, t.patterns()
	if now := time.Now(); now.Sub(w.since) > time.Minute {
		clear(w.strange)
		w.since = now
	}
	dirs := map[string]bool{}
	for _, p := range t.paths {
		for _, hop := range hops(p) {
			w.names[hop] = true
			// The directories behind ..data are never written to, and go.
			if dir := filepath.Dir(hop); !strings.Contains(dir+"/", "/..") {
				dirs[dir] = true
			}
		}
	}
	for _, p := range w.patterns {
		dirs[filepath.Dir(p[:strings.IndexAny(p, "*?[")]+"x")] = true
	}
	if w.fs == nil {
		return
	}
	w.err = nil
	now := w.fs.WatchList()
	for _, dir := range now {
		if !dirs[dir] {
			_ = w.fs.Remove(dir)
		}
	}
	for dir := range dirs {
		if slices.Contains(now, dir) || w.loud[dir] {
			continue
		}
		if err := w.fs.Add(dir); err != nil {
			w.err = fmt.Errorf("watch %s: %w", dir, err)
		}
	}
}

// hops returns a path and, when it is a symbolic link, the paths that it leads to.
func hops(path string) []string {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	out := []string{path}
	for len(out) < 32 {
		target, err := os.Readlink(path)
		if err != nil {
			return out
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = filepath.Clean(target)
		out = append(out, path)
	}
	return out
}

// concerns tells whether an event may be about one of the files.
func (w *watcher) concerns(e fsnotify.Event) bool {
	// kubelet: ..data, ..data_tmp and the directories with a time in their name.
	if w.names[e.Name] || strings.HasPrefix(filepath.Base(e.Name), "..") {
		return true
	}
	for _, p := range w.patterns {
		if ok, _ := filepath.Match(strings.ReplaceAll(p, "[!", "[^"), e.Name); ok {
			return true
		}
	}
	dir := filepath.Dir(e.Name)
	if w.strange[dir]++; w.strange[dir] == noisy {
		w.loud[dir] = true
		_ = w.fs.Remove(dir)
	}
	return false
}

// String says how changes are noticed, for the status page.
func (w *watcher) String() string {
	switch {
	case w.fs == nil:
		return fmt.Sprintf("by the clock only: %v", w.err)
	case w.err != nil:
		return fmt.Sprintf("directories, and by the clock: %v", w.err)
	case len(w.loud) > 0:
		return "directories; by the clock where other files change too often"
	}
	return "directories"
}
