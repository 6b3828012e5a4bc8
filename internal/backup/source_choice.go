package backup

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// Where snapshots come from.

// SourceAuto is a setting, not a source: bgsave where the server's data directory
// is there, can be read and has room, otherwise stream.
const SourceAuto = "auto"

// Sources returns the settings there are.
func Sources() []string { return []string{SourceAuto, SourceBGSave, SourceStream} }

// choice is a source, and why it was chosen.
type choice struct {
	source
	reason string
}

// distrust is why auto does not use bgsave for a while although all looks well:
// what was seen by trying. It costs the server a fork each time.
type distrust struct {
	why   error
	until time.Time
}

// distrustFor is how long a failure that only trying shows is remembered.
const distrustFor = 6 * time.Hour

// choose returns the source to use now.
func (r *run) choose() choice {
	switch r.opts.Source {
	case SourceStream:
		return choice{r.stream(), "backup.source is stream"}
	case SourceAuto:
	default:
		return choice{r.bgsave(), "backup.source is bgsave"}
	}
	if err := r.facts.bgsaveWorks(); err != nil {
		return choice{r.stream(), err.Error()}
	}
	if d := r.distrust; d.why != nil && time.Now().Before(d.until) {
		return choice{r.stream(), "BGSAVE failed before: " + d.why.Error()}
	}
	return choice{r.bgsave(), "the server's data directory can be read and has room"}
}

func (r *run) bgsave() source {
	return &bgsave{redis: r.redis, facts: r.facts, busyTimeout: r.opts.BusyTimeout, memoryLimit: r.opts.MemoryLimit, compression: &r.compression, patience: r.patience, log: r.log}
}

func (r *run) stream() source {
	return &stream{redis: r.redis, facts: r.facts, busyTimeout: r.opts.BusyTimeout, memoryLimit: r.opts.MemoryLimit, log: r.log}
}

// bgsaveWorks says what is in the way of BGSAVE, as far as can be known without
// trying.
func (f facts) bgsaveWorks() error {
	if f.dirErr != nil {
		return f.dirErr
	}
	// The child's file will have the mode and the owner that the last one has.
	dump, err := os.Open(filepath.Join(f.dir, f.dbfilename))
	switch {
	case err == nil:
		_ = dump.Close() // only opened
	case !errors.Is(err, os.ErrNotExist):
		return dataDirError(err)
	}
	_, err = f.checkSpace()
	return err
}

// instead returns the stream in place of a source that has failed with err, if
// it is likely to do better and the settings leave the choice.
func (r *run) instead(of choice, err error) (choice, bool) {
	if r.opts.Source != SourceAuto || of.name() != SourceBGSave {
		return choice{}, false
	}
	switch {
	case errors.Is(err, errForkRefused):
		return choice{}, false // the stream forks, too
	case errors.Is(err, errNoRoom):
	case errors.Is(err, errSaveFailed): // the disk, or memory: not soon again
		r.distrust = distrust{err, time.Now().Add(distrustFor / 12)}
	case errors.Is(err, errDataDir), errors.Is(err, errNotSeen):
		r.distrust = distrust{err, time.Now().Add(distrustFor)}
	default:
		return choice{}, false // FLUSHALL, a restart, the store: it would fare no better
	}
	return choice{r.stream(), "BGSAVE failed: " + err.Error()}, true
}

// Marks of errors after which another source may do better.
var (
	errDataDir = errors.New("data directory of the server")
	errNoRoom  = errors.New("no room")
)

// marked is an error that errors.Is finds a mark in, which the text does not show.
type marked struct {
	error
	mark error
}

func (m marked) Unwrap() []error { return []error{m.error, m.mark} }
