package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// How a save is caught.
//
// INFO and LASTSAVE cannot tell whether one's own BGSAVE succeeded: the status
// stays "ok" when FLUSHALL kills the child, and FLUSHALL or SAVE then write a
// dump.rdb of their own. What can is the file that the child writes,
// temp-<pid of the child>.rdb in the data directory. It is opened as soon as it
// appears and read through that descriptor while it grows. Whatever happens to
// names afterwards, the descriptor shows what that child wrote; a child that is
// killed leaves a file without an end, which fails by itself.
//
// The child's pid is not told by the server, but other temporary files can be
// told apart: SAVE and FLUSHALL write temp-<pid of the server>.rdb, the sync of a
// replica temp-<time>.<pid>.rdb. And while a child runs the server starts no
// other save; rdb_saves, which counts the starts, proves that none came between.
//
// A save of a few keys can be over before its file is opened. Then inotify has
// seen the file being renamed to dump.rdb, and dump.rdb is taken if that was the
// last rename to this name. If that cannot be shown either, another save is
// tried.

// errNotSeen is why a save is tried again: it was too quick to be caught.
var errNotSeen = errors.New("the save was over before its file was seen")

// errBusy is why a save waits: the server refused it, another child came first.
var errBusy = errors.New("another child of the server runs")

// bgsave makes the server save and catches the file.
type bgsave struct {
	redis       Redis
	facts       facts
	busyTimeout time.Duration
	memoryLimit int64
	compression *rdbCompression // nil: as the server is set
	patience    time.Duration   // with a server that does not answer; 0 is defaultPatience
	log         *slog.Logger
}

// save is one accepted BGSAVE. Nothing comes between the two counts of keys in
// its moment, and created is when the server confirmed it.
type save struct {
	*bgsave
	at    moment
	f     *os.File // what the child writes or wrote; nil until found
	saves string   // rdb_saves, this one included; "" before Redis 7.0
	child *child   // nil until opened
}

func (b *bgsave) name() string { return SourceBGSave }

// start has the server save, again when a save was too quick.
func (b *bgsave) start(ctx context.Context) (capture, error) {
	const tries = 3
	for try := 1; ; try++ {
		s, err := b.try(ctx)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, errNotSeen) {
			return nil, err
		}
		if try == tries {
			return nil, status.WithHint(status.ReasonSave, b.facts.hintDir(), fmt.Errorf("%w in %s, %d times", err, b.facts.dir, tries))
		}
		b.log.Debug("saving again", "error", err)
	}
}

func (s *save) moment() *moment { return &s.at }

func (s *save) open(ctx context.Context) io.Reader {
	s.child = watchChild(ctx, s.redis, s)
	return &follower{f: s.f, child: s.child, done: ctx.Done(), cause: func() error { return context.Cause(ctx) }}
}

// cutOff explains a file that ends too early.
func (s *save) cutOff(n int64) error {
	if s.child.ok {
		// The status stays "ok" when the server itself kills its child.
		return status.WithHint(status.ReasonSave, "FLUSHALL and the full resync of a replica do that; the next try will show what is there now",
			fmt.Errorf("the server stopped its save after %s", human.Bytes(n)))
	}
	return s.facts.saveFailed("see the log of redis-server: out of memory, or the disk is full or broken",
		fmt.Errorf("%w after %s", errSaveFailed, human.Bytes(n)))
}

func (s *save) confirm(_ context.Context, summary rdb.Summary) error {
	if !s.child.ok {
		// The descriptor shows all that the child wrote; what failed was to bring
		// it to disk or to rename it.
		err := s.facts.saveFailed("", errors.New("rdb_last_bgsave_status is err"))
		s.log.Warn("the server could not keep its own dump, the snapshot is whole", "error", err, "hint", "see the log of redis-server")
	}
	return s.at.confirm(s.child.runID, summary)
}

func (s *save) ended() time.Time { return s.child.ended }

// close releases the file.
func (s *save) close() {
	if s.child != nil {
		<-s.child.gone
	}
	if s.f != nil {
		_ = s.f.Close() // only read from
	}
}

// try waits until no child of the server runs, has it save, and finds the file
// of that save. The error is errNotSeen when it did not find it; the save may
// then be over or not.
func (b *bgsave) try(ctx context.Context) (*save, error) {
	if b.facts.dirErr != nil {
		return nil, b.facts.dirErr
	}
	deadline := time.Now().Add(b.busyTimeout)
	watch, err := watchDir(b.facts.dir)
	if err != nil {
		b.log.Debug("polling the data directory", "error", err)
	} else {
		defer watch.close()
	}
	for {
		idle, err := waitIdle(ctx, b.redis, deadline, b.busyTimeout)
		if err != nil {
			return nil, err
		}
		if err := b.facts.checkMemory(ctx, b.redis, b.memoryLimit, idle); err != nil {
			return nil, err
		}
		free, err := b.facts.checkSpace()
		if err != nil {
			return nil, err
		}
		old, err := b.tempFiles("")
		if err != nil {
			return nil, err
		}
		// From here on every event is of a save that began after idle was asked.
		if watch != nil && watch.drain() != nil {
			watch = nil
		}
		s, err := b.command(ctx, free)
		if errors.Is(err, errBusy) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if s.at.info.Get("rdb_saves") != idle.Get("rdb_saves") {
			watch = nil // another save came and went in between: its events are there too
		}
		f := finder{bgsave: b, save: s, watch: watch, old: old, serverPid: s.at.info.Get("process_id")}
		if s.f, err = f.find(ctx); err != nil {
			return nil, err
		}
		return s, nil
	}
}

// command sends BGSAVE. What it needs to know of the moment comes in the same
// write, so that the server does nothing for anybody else in between. free is what
// the data directory has room for, in bytes.
func (b *bgsave) command(ctx context.Context, free int64) (*save, error) {
	commands := [][]string{{"INFO"}, {"BGSAVE"}, {"INFO", "persistence"}, {"INFO", "keyspace"}}
	plain := b.unwanted(ctx, free)
	if plain {
		commands = slices.Insert(commands, 2, setRDBCompression("yes"))
		commands = slices.Insert(commands, 1, setRDBCompression("no"))
	}
	replies, err := pipeline(ctx, b.redis, commands...)
	if plain {
		var off, on any
		if err == nil {
			off, on = replies[1], replies[3]
			replies = append(replies[:1:1], replies[2], replies[4], replies[5])
		}
		b.told(ctx, off, on, err)
	}
	if err != nil {
		return nil, err
	}
	s := &save{bgsave: b, at: moment{created: time.Now().UTC()}}
	if s.at.info, err = infoReply(replies[0]); err != nil {
		return nil, err
	}
	persistence, err := infoReply(replies[2])
	if err != nil {
		return nil, err
	}
	keyspace, err := infoReply(replies[3])
	if err != nil {
		return nil, err
	}
	switch reply := replies[1].(type) {
	case error:
		if busy(persistence) != "" {
			return nil, errBusy
		}
		return nil, b.refused(reply)
	case string:
		if reply != "Background saving started" {
			return nil, status.WithReason(status.ReasonSave, fmt.Errorf("BGSAVE: %q", reply))
		}
	default:
		return nil, status.WithReason(status.ReasonProtocol, fmt.Errorf("BGSAVE: unexpected reply of type %T", reply))
	}
	s.at.before, s.at.after = countKeys(s.at.info), countKeys(keyspace)
	s.at.runID = s.at.info.Get("run_id")
	s.at.replicationID = s.at.info.Get("master_replid")
	s.at.replicationOffset, _ = s.at.info.Int("master_repl_offset")
	if s.at.info.Get("role") == "slave" {
		s.at.replicationOffset, _ = s.at.info.Int("slave_repl_offset")
	}
	s.saves = persistence.Get("rdb_saves")
	s.at.began = s.at.created
	if usec, ok := s.at.info.Int("server_time_usec"); ok {
		s.at.began = time.UnixMicro(usec)
	}
	return s, nil
}

// errForkRefused is wrapped by the error of a BGSAVE that the server refused at
// once: no source can do without a fork.
var errForkRefused = errors.New("the server refused to save")

// refused explains an error reply to BGSAVE.
func (b *bgsave) refused(err error) error {
	if reason := status.ReasonOf(err); reason != status.ReasonRedis {
		return err // noperm, loading …: already explained
	}
	return b.facts.saveFailed("see the log of redis-server; most often there is not enough memory for a fork: set vm.overcommit_memory=1 or raise the memory limit",
		fmt.Errorf("%w: %w", errForkRefused, err))
}

var (
	// errSaveFailed is wrapped by the error of a save that the server itself takes
	// for failed.
	errSaveFailed = errors.New("the save failed")
	// errWritesRefused is wrapped by it, too, when the server refuses writes from
	// then on; see mend.go.
	errWritesRefused = errors.New("the server refuses writes until a save succeeds (MISCONF)")
)

// saveFailed adds to the error of a failed save what it means for the server.
func (f facts) saveFailed(hint string, err error) error {
	if !f.savePoints {
		return status.WithHint(status.ReasonSave, hint, err)
	}
	return status.WithHint(status.ReasonMisconf, hint, fmt.Errorf("%w; %w", err, errWritesRefused))
}

// tempFiles returns the temporary files of fork children in the data directory,
// with when they were last written to. Those named for serverPid are left out.
func (b *bgsave) tempFiles(serverPid string) (map[string]time.Time, error) {
	entries, err := os.ReadDir(b.facts.dir)
	if err != nil {
		return nil, dataDirError(err)
	}
	files := map[string]time.Time{}
	for _, entry := range entries {
		if !isChildTemp(entry.Name(), serverPid) {
			continue
		}
		if st, err := entry.Info(); err == nil { // else it is gone by now
			files[entry.Name()] = st.ModTime()
		}
	}
	return files, nil
}

// isChildTemp tells whether name is temp-<pid>.rdb of a process other than the
// server itself.
func isChildTemp(name, serverPid string) bool {
	pid, ok := strings.CutPrefix(name, "temp-")
	if !ok {
		return false
	}
	if pid, ok = strings.CutSuffix(pid, ".rdb"); !ok || pid == serverPid {
		return false
	}
	_, err := strconv.ParseUint(pid, 10, 32)
	return err == nil
}

// running tells from INFO persistence whether the child of this save still runs.
func (s *save) running(in info.Info) bool {
	return in.Get("rdb_bgsave_in_progress") == "1" && in.Get("rdb_saves") == s.saves
}

// finder looks for the file of one save.
type finder struct {
	*bgsave
	save      *save
	watch     *dirWatch            // nil: poll
	old       map[string]time.Time // left there by others: crashed servers do not clean up
	serverPid string

	missed  map[string]bool // temporary files that were gone when they were to be opened
	cookie  uint32          // of the rename of a missed file
	renamed bool            // that rename was the last one to dbfilename
}

// find returns the open file, or errNotSeen.
func (f *finder) find(ctx context.Context) (*os.File, error) {
	file, err := f.wait(ctx)
	if err != nil {
		return nil, err
	}
	// Nobody else's save began up to now, so it is not the file of one.
	in, err := askInfo(ctx, f.redis, "persistence")
	if err == nil && in.Get("rdb_saves") != f.save.saves {
		err = errNotSeen
	}
	if err != nil {
		_ = file.Close() // only read from
		return nil, err
	}
	return file, nil
}

func (f *finder) wait(ctx context.Context) (*os.File, error) {
	const (
		eager    = 30 * time.Millisecond // so long nobody is asked: the child may only be starting
		patience = 10 * time.Second      // for a child that runs and opens no file
	)
	interval := time.Millisecond
	f.missed = map[string]bool{}
	began := time.Now()
	for over := false; ; {
		file, err := f.look(interval)
		if file != nil || err != nil {
			return file, err
		}
		if over {
			return nil, errNotSeen
		}
		if time.Since(began) > patience {
			return nil, status.WithHint(status.ReasonFile, f.facts.hintDir(),
				marked{fmt.Errorf("the server saves, but no file of it appears in %s", f.facts.dir), errDataDir})
		}
		if time.Since(began) > eager {
			interval = 20 * time.Millisecond
			in, err := askInfo(ctx, f.redis, "persistence")
			if err != nil {
				return nil, err
			}
			over = !f.save.running(in) // one more look then: it may have come and gone since the last
		}
		if f.watch == nil {
			if err := sleep(ctx, interval); err != nil {
				return nil, err
			}
		} else if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// look takes what the directory shows now, waiting up to d for a first event.
func (f *finder) look(d time.Duration) (*os.File, error) {
	if f.watch != nil {
		events, err := f.watch.next(d)
		if err != nil {
			f.log.Debug("polling the data directory", "error", err)
			f.watch = nil
		}
		if file, err := f.follow(events); file != nil || err != nil {
			return file, err
		}
		if f.renamed {
			return f.openRenamed()
		}
	}
	files, err := f.tempFiles(f.serverPid)
	if err != nil {
		return nil, err
	}
	for name, written := range files {
		if before, ok := f.old[name]; ok && before.Equal(written) {
			continue
		}
		if file, err := f.open(name); file != nil || err != nil {
			return file, err
		}
	}
	return nil, nil
}

// follow opens the first temporary file that was created. For one that is gone
// already it learns whether it has become dbfilename.
func (f *finder) follow(events []dirEvent) (*os.File, error) {
	for _, e := range events {
		switch {
		case e.kind == created && isChildTemp(e.name, f.serverPid):
			file, err := f.open(e.name)
			if file != nil || err != nil {
				return file, err
			}
			f.missed[e.name] = true
		case e.kind == movedFrom && f.missed[e.name]:
			f.cookie = e.cookie
		case e.kind == movedTo && e.name == f.facts.dbfilename:
			f.renamed = f.cookie != 0 && e.cookie == f.cookie
		}
	}
	return nil, nil
}

// openRenamed opens dbfilename and returns it if nothing else was renamed to it
// meanwhile.
func (f *finder) openRenamed() (*os.File, error) {
	file, err := f.open(f.facts.dbfilename)
	if file == nil || err != nil {
		return nil, err
	}
	events, err := f.watch.next(time.Millisecond)
	if err == nil {
		for _, e := range events {
			if e.kind == movedTo && e.name == f.facts.dbfilename {
				err = errNotSeen
			}
		}
	}
	if err != nil {
		_ = file.Close() // only read from
		return nil, errNotSeen
	}
	return file, nil
}

// open returns nil for a file that is not there.
func (f *finder) open(name string) (*os.File, error) {
	file, err := os.Open(filepath.Join(f.facts.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, dataDirError(err)
	}
	return file, nil
}

// dataDirError classifies an error of the server's data directory.
func dataDirError(err error) error {
	if err == nil {
		return nil
	}
	hint := ""
	if errors.Is(err, fs.ErrPermission) {
		hint = hintUser
	}
	return status.WithHint(status.ReasonFile, hint, fmt.Errorf("%w: %w", errDataDir, err))
}
