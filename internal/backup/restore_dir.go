package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// DataNames are the names that the server gives to its files, as its redis.conf
// says. Data restored under other names is ignored by the server, which then
// starts empty.
type DataNames struct {
	DBFilename     string // dbfilename; "" is "dump.rdb"
	AppendDirname  string // appenddirname; "" is "appendonlydir"
	AppendFilename string // appendfilename; "" is "appendonly.aof"

	ClusterConfigFile string // cluster-config-file; "" is "nodes.conf"
}

func (n DataNames) withDefaults() DataNames {
	if n.DBFilename == "" {
		n.DBFilename = "dump.rdb"
	}
	if n.AppendDirname == "" {
		n.AppendDirname = "appendonlydir"
	}
	if n.AppendFilename == "" {
		n.AppendFilename = "appendonly.aof"
	}
	if n.ClusterConfigFile == "" {
		n.ClusterConfigFile = "nodes.conf"
	}
	return n
}

// validate holds the names to what Redis itself takes, and to what needs no
// quoting in the manifest of the append-only files.
func (n DataNames) validate() error {
	for _, f := range []struct{ setting, name string }{
		{"dbfilename", n.DBFilename}, {"appenddirname", n.AppendDirname}, {"appendfilename", n.AppendFilename},
		{"cluster-config-file", n.ClusterConfigFile},
	} {
		ok := f.name != "." && f.name != ".." && f.name != stagingName && len(f.name) < 128
		for _, c := range []byte(f.name) {
			ok = ok && c > ' ' && c < 0x7f && c != '/' && c != '"' && c != '\'' && c != '\\'
		}
		if !ok {
			return status.WithHint(status.ReasonFile, "it must be a plain file name without spaces, quotes and slashes",
				fmt.Errorf("%s %.130q cannot be restored to", f.setting, f.name))
		}
	}
	if n.DBFilename == n.AppendDirname || n.DBFilename == n.AppendFilename {
		return status.WithReason(status.ReasonFile, fmt.Errorf("dbfilename and the append-only name are both %q", n.DBFilename))
	}
	for _, name := range []string{n.DBFilename, n.AppendDirname, n.AppendFilename} {
		if name == n.ClusterConfigFile {
			return status.WithReason(status.ReasonFile, fmt.Errorf("cluster-config-file and the name of the data are both %q", name))
		}
	}
	return nil
}

// base is the name of the first base file of a multi-part append-only file.
func (n DataNames) base() string { return n.AppendFilename + ".1.base.rdb" }

// manifest is the name of the file that lists the parts.
func (n DataNames) manifest() string { return n.AppendFilename + ".manifest" }

// manifestText names the base alone. The server adds the incremental files, so a
// manifest that still reads like this was never used by a server with
// appendonly yes.
func (n DataNames) manifestText() string { return "file " + n.base() + " seq 1 type b\n" }

// dataDir is what stands in a data directory.
type dataDir struct {
	info        fs.FileInfo
	data        []string   // what the server would load
	cluster     []string   // a cluster node's configuration: it has lived here
	strange     []string   // looks like such data, under other names than the configured ones
	unclear     error      // a directory that may hold data could not be read
	leftovers   []leftover // temporary files of a server that was killed: no data
	placeholder bool       // the dump, or the cluster configuration, is this program's own placeholder, see restore_place.go
	staleSeed   bool       // append-only files as restored, never used since, beside a newer dump
}

// leftover is a temporary file that nobody finishes any more.
type leftover struct {
	name string
	size int64
}

// found returns all that must not be overwritten.
func (d dataDir) found() []string { return slices.Concat(d.data, d.cluster, d.strange) }

// inspectDir looks at a data directory without changing it. Files that are none
// of Redis' own kinds are ignored, lost+found among them.
func inspectDir(dir string, names DataNames) (dataDir, error) {
	info, err := statDir(dir)
	if err != nil {
		return dataDir{}, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return dataDir{}, diskError("read data directory", err)
	}
	d := dataDir{info: info}
	for _, e := range entries {
		if err := d.add(dir, names, e); err != nil {
			return dataDir{}, err
		}
	}
	d.staleSeed = isStaleSeed(dir, names)
	return d, nil
}

func (d *dataDir) add(dir string, names DataNames, e fs.DirEntry) error {
	name, path := e.Name(), filepath.Join(dir, e.Name())
	lower := strings.ToLower(name)
	switch {
	case name == stagingName || name == "lost+found":
	case name == names.DBFilename, name == names.ClusterConfigFile, isClusterConfig(lower):
		own, err := isPlaceholder(path)
		switch {
		case err != nil:
			return err
		case own:
			d.placeholder = true
		case name == names.DBFilename:
			d.data = append(d.data, name)
		default:
			d.cluster = append(d.cluster, name)
		}
	case name == names.AppendFilename:
		d.data = append(d.data, name)
	case name == names.AppendDirname:
		inside, err := os.ReadDir(path)
		if err != nil {
			d.unclear = diskError("look for data", err)
		}
		if len(inside) > 0 {
			d.data = append(d.data, fmt.Sprintf("%s (%d files)", name, len(inside)))
		}
	case isServerTemp(lower):
		l := leftover{name: name}
		if info, err := e.Info(); err == nil {
			l.size = info.Size()
		}
		d.leftovers = append(d.leftovers, l)
	case strings.HasSuffix(lower, ".rdb"), strings.HasSuffix(lower, ".aof"), strings.HasSuffix(lower, ".aof.manifest"):
		d.strange = append(d.strange, name)
	case e.IsDir():
		inside, err := os.ReadDir(path)
		if err != nil {
			d.unclear = diskError("look for data", err)
		}
		for _, f := range inside {
			if isAppendOnlyPart(f.Name()) {
				d.strange = append(d.strange, filepath.Join(name, f.Name()))
				break
			}
		}
	}
	return nil
}

// isClusterConfig matches nodes.conf and nodes-6379.conf, which hold a node's
// place in its cluster. What such a node should hold is for the cluster to say:
// an old snapshot could claim slots from their rightful owner.
func isClusterConfig(lower string) bool {
	return strings.HasPrefix(lower, "nodes") && strings.HasSuffix(lower, ".conf")
}

// isAppendOnlyPart matches the parts of an append-only file of any name.
func isAppendOnlyPart(name string) bool {
	return strings.HasSuffix(name, ".base.rdb") || strings.HasSuffix(name, ".base.aof") || strings.HasSuffix(name, ".incr.aof")
}

// isServerTemp matches temp-<pid>.rdb, temp-<time>.<pid>.rdb and
// temp-rewriteaof-<pid>.aof, which a killed server never removes.
func isServerTemp(lower string) bool {
	return strings.HasPrefix(lower, "temp-") && (strings.HasSuffix(lower, ".rdb") || strings.HasSuffix(lower, ".aof"))
}

// isStaleSeed reports whether the append-only files are exactly what a restore
// put there while the dump has been replaced by the server since.
func isStaleSeed(dir string, names DataNames) bool {
	text, err := os.ReadFile(filepath.Join(dir, names.AppendDirname, names.manifest()))
	if err != nil || string(text) != names.manifestText() {
		return false
	}
	base, err := os.Stat(filepath.Join(dir, names.AppendDirname, names.base()))
	if err != nil {
		return false
	}
	dump, err := os.Stat(filepath.Join(dir, names.DBFilename))
	return err == nil && !os.SameFile(base, dump) && dump.ModTime().After(base.ModTime())
}

// statDir returns the FileInfo of a data directory that must exist: making it
// would restore beside a volume that was not mounted.
func statDir(dir string) (fs.FileInfo, error) {
	const hint = "mount the server's data volume there, or correct restore.dir"
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, status.WithHint(status.ReasonFile, hint, fmt.Errorf("data directory %s does not exist", dir))
	}
	if err != nil {
		return nil, diskError("data directory", err)
	}
	if !info.IsDir() {
		return nil, status.WithHint(status.ReasonFile, hint, fmt.Errorf("data directory %s is not a directory", dir))
	}
	return info, nil
}

// isPlaceholder reports whether path is a placeholder of ours. A file that this
// process may not read is none.
func isPlaceholder(path string) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, diskError("look at the dump", err)
	}
	if !info.Mode().IsRegular() || info.Size() > 1024 {
		return false, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	if err != nil {
		return false, diskError("look at the dump", err)
	}
	defer func() { _ = f.Close() }() // only read
	head := make([]byte, len(placeholderMagic))
	if _, err := io.ReadFull(f, head); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, diskError("look at the dump", err)
	}
	return bytes.Equal(head, []byte(placeholderMagic)), nil
}
