package exporter

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// filesInterval is how old sizes may be before a scrape has them read again.
	filesInterval = 10 * time.Second
	// filesPatience is how long the scrape that has them read waits for them: a
	// disk answers in microseconds, a network volume that hangs never.
	filesPatience = 50 * time.Millisecond
	// filesExpiry is how old sizes may be to be shown.
	filesExpiry = time.Minute
	// aofLimit is how many entries of the directory of the append-only file are
	// looked at. Redis has a handful there.
	aofLimit = 1000
)

// files is the collector of the sizes of the server's files, when its directory
// is visible to this process.
type files struct {
	infoOnly
	opts                 FileOptions
	rdb, aof, free, size *family
	measure              func(place) sizes // in tests another

	mu      sync.Mutex
	running bool
	at      time.Time // of last
	place   place     // likewise
	last    sizes
}

// place is where a server's files are.
type place struct {
	dir      string
	rdb, aof string // names in dir
	aofDir   string // since 7.0 those of the append-only file are in this directory of dir
	trusted  bool   // dir is the server's beyond doubt
}

// sizes are bytes; -1 is not known.
type sizes struct{ rdb, aof, free, total float64 }

func unknownSizes() sizes { return sizes{-1, -1, -1, -1} }

func newFiles(c *catalog, opts FileOptions) *files {
	return &files{
		opts: opts,
		rdb: c.add(typeGauge, "rdb_current_size_bytes", "file system",
			"Bytes of the RDB file on disk; 0 while there is none. Only there when the server's directory is visible to the sidecar."),
		aof: c.add(typeGauge, "aof_files_size_bytes", "file system",
			"Bytes of all files of the append-only file on disk. Only there when the server's directory is visible to the sidecar."),
		free: c.add(typeGauge, "data_dir_free_bytes", "file system",
			"Bytes that can still be written to the volume of the server's directory. Only there when that is visible to the sidecar."),
		size: c.add(typeGauge, "data_dir_size_bytes", "file system",
			"Bytes of the volume of the server's directory. Only there when that is visible to the sidecar."),
		measure: measure,
	}
}

// fileParameters are the parameters of the configuration that name the files.
func fileParameters(server traits) []string {
	if server.since(7, 0) {
		return []string{"dir", "dbfilename", "appendfilename", "appenddirname"}
	}
	return []string{"dir", "dbfilename", "appendfilename"}
}

func (c *files) name() string { return "files" }

func (c *files) collect(r *reading, _ []any, out *sink) error {
	if r.server.sentinel {
		return nil
	}
	where, ok := c.where(r.config)
	if !ok {
		return nil
	}
	s := c.current(where, r.at)
	for f, v := range map[*family]float64{c.rdb: s.rdb, c.aof: s.aof, c.free: s.free, c.size: s.total} {
		if v >= 0 {
			out.set(f, v)
		}
	}
	return nil
}

// where returns where the files of a server with such a configuration are.
func (c *files) where(config map[string]string) (place, bool) {
	name := func(parameter, fallback string) string {
		v, ok := config[parameter]
		switch {
		case !ok:
			return fallback
		case v != filepath.Base(v) || v == "." || v == "..":
			return "" // the server says something strange: not to be followed
		}
		return v
	}
	p := place{
		dir: c.opts.DataDir, rdb: name("dbfilename", "dump.rdb"), aof: name("appendfilename", "appendonly.aof"), aofDir: name("appenddirname", ""),
		trusted: c.opts.DataDir != "" || c.opts.Assume,
	}
	if p.dir == "" {
		p.dir = config["dir"]
	}
	return p, filepath.IsAbs(p.dir)
}

// current returns the sizes of a place. It has them read when they are too old,
// by a goroutine of which there is only ever one.
func (c *files) current(where place, now time.Time) sizes {
	c.mu.Lock()
	var done chan struct{}
	if !c.running && (c.place != where || now.Sub(c.at) >= filesInterval) {
		c.running, done = true, make(chan struct{})
		go func() {
			defer close(done)
			s := c.measure(where)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.running, c.at, c.place, c.last = false, time.Now(), where, s
		}()
	}
	c.mu.Unlock()
	if done != nil {
		patience := time.NewTimer(filesPatience)
		defer patience.Stop()
		select {
		case <-done:
		case <-patience.C:
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.place != where || now.Sub(c.at) >= filesExpiry {
		return unknownSizes()
	}
	return c.last
}

// measure looks at a place. What cannot be seen is not known: the server's
// directory need not be this process's.
func measure(p place) sizes {
	s := unknownSizes()
	if st, err := os.Stat(p.dir); err != nil || !st.IsDir() {
		return s
	}
	if p.rdb != "" {
		s.rdb = size(filepath.Join(p.dir, p.rdb))
	}
	if p.aof != "" {
		s.aof = aofSize(p)
	}
	if !p.trusted && s.rdb < 0 && s.aof < 0 {
		return unknownSizes() // a directory of that name, and none of the server's files in it
	}
	if p.rdb != "" && s.rdb < 0 && absent(filepath.Join(p.dir, p.rdb)) {
		s.rdb = 0
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(p.dir, &fs); err == nil {
		s.free = float64(fs.Bavail) * float64(fs.Bsize)
		s.total = float64(fs.Blocks) * float64(fs.Bsize)
	}
	return s
}

// size returns the bytes of a regular file, or -1.
func size(path string) float64 {
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() {
		return -1
	}
	return float64(st.Size())
}

func absent(path string) bool {
	_, err := os.Lstat(path)
	return os.IsNotExist(err)
}

// aofSize returns the bytes of the files of the append-only file, or -1 when
// there are none: name.1.base.rdb, name.1.incr.aof, name.manifest in a directory
// of their own since Redis 7.0, one file before.
func aofSize(p place) float64 {
	if p.aofDir == "" {
		return size(filepath.Join(p.dir, p.aof))
	}
	d, err := os.Open(filepath.Join(p.dir, p.aofDir))
	if err != nil {
		return -1
	}
	defer func() { _ = d.Close() }()  // nothing was written
	entries, _ := d.ReadDir(aofLimit) // what was read before an error counts
	sum := -1.0
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), p.aof+".") || !e.Type().IsRegular() {
			continue
		}
		if st, err := e.Info(); err == nil {
			sum = max(sum, 0) + float64(st.Size())
		}
	}
	return sum
}
