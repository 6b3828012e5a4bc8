package web

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
)

// reloader holds the configuration in force and replaces it when one of its
// files changed on disk.
type reloader struct {
	load func() (*state, []stamp, error)
	name string // of the file, or what else it comes from
	log  *slog.Logger
	auth *authenticator
	rate *limiter

	bearer []string // see Options.BearerPaths

	cur     atomic.Pointer[state]
	tried   atomic.Pointer[[]stamp] // of the files as they were when last read
	reading atomic.Bool
}

// stamp is what tells one version of a file from another.
type stamp struct {
	name string
	info os.FileInfo // nil when it could not be looked at
}

func stampOf(name string) stamp {
	info, err := os.Stat(name)
	if err != nil {
		return stamp{name, nil}
	}
	return stamp{name, info}
}

func (s stamp) same(o stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == nil && o.info == nil
	}
	return os.SameFile(s.info, o.info) && s.info.ModTime().Equal(o.info.ModTime()) && s.info.Size() == o.info.Size()
}

// newReloader reads the configuration for the first time. load is load of a file,
// or another source with its promises.
func newReloader(name string, load func() (*state, []stamp, error), log *slog.Logger) (*reloader, error) {
	r := &reloader{load: load, name: name, log: log, auth: newAuthenticator(), rate: &limiter{}}
	st, stamps, err := load()
	if err != nil {
		return nil, err
	}
	r.cur.Store(st)
	r.tried.Store(&stamps)
	return r, nil
}

// get returns the configuration in force. It costs one stat per file; whoever
// finds a change reads the files, others go on with what is in force meanwhile.
func (r *reloader) get() *state {
	changed := slices.ContainsFunc(*r.tried.Load(), func(s stamp) bool { return !s.same(stampOf(s.name)) })
	if changed && r.reading.CompareAndSwap(false, true) {
		r.reload()
		r.reading.Store(false)
	}
	return r.cur.Load()
}

func (r *reloader) reload() {
	old := r.cur.Load()
	st, stamps, err := r.load()
	r.tried.Store(&stamps)
	if err == nil && (st.tls == nil) != (old.tls == nil) {
		err = errors.New("TLS is switched on or off: that needs a restart of the sidecar")
	}
	if err != nil {
		r.log.Error("web configuration is not good, the one before stays in force", "file", r.name, "error", err)
		return
	}
	r.cur.Store(st)
	r.log.Info("web configuration was read again", "file", r.name)
}
