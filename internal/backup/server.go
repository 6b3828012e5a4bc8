package backup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Redis is the server that snapshots are taken of. Replies are strings, int64,
// nil and []any of these; every error carries a status reason.
//
// A user with few rights needs what Permissions returns.
type Redis interface {
	// Do sends one command.
	Do(ctx context.Context, args ...string) (any, error)
	// Pipeline sends all commands in one write. An element of the result is an
	// error when the server answered that command with one; the second result
	// is not nil only when the connection failed.
	Pipeline(ctx context.Context, cmds ...[]string) ([]any, error)
}

// Replicator is a Redis that the source stream can be used with.
type Replicator interface {
	// Replicate asks for the data set as a replica does; see redis.Client.
	Replicate(ctx context.Context, port int, began func(id string, offset int64)) (io.ReadCloser, error)
}

// callTimeout bounds one exchange with the server.
const callTimeout = 10 * time.Second

// facts is what a save needs to know of the server before it begins.
type facts struct {
	info       info.Info // default sections
	dir        string    // its data directory, as mounted here
	dbfilename string
	dirErr     error // why dir is not known or cannot be looked into
	savePoints bool  // a failed save makes it refuse writes: it has save points and stop-writes-on-bgsave-error

	// streamNeedsDisk is that the server writes its own dump to stream it.
	streamNeedsDisk bool
}

// learn asks the server for its facts. dataDir, if not empty, is where its data
// directory is mounted here.
func learn(ctx context.Context, redis Redis, dataDir string) (facts, error) {
	// Alone: to a Sentinel CONFIG is an unknown command, which would count in its
	// statistics at every try.
	replies, err := pipeline(ctx, redis, []string{"INFO"})
	if err != nil {
		return facts{}, err
	}
	in, err := infoReply(replies[0])
	if err != nil {
		return facts{}, err
	}
	f := facts{info: in, dir: dataDir, dbfilename: "dump.rdb"}
	if in.Mode() == "sentinel" {
		return facts{}, status.WithHint(status.ReasonRejected, "redis.addr must name the redis-server that holds the data", errors.New("the server is a Sentinel: it holds no data"))
	}
	if in.Get("loading") == "1" {
		return facts{}, status.WithReason(status.ReasonLoading, errors.New("the server is still loading its data"))
	}
	get := func(name string) []string { return []string{"CONFIG", "GET", name} }
	replies, err = pipeline(ctx, redis, get("dir"), get("dbfilename"), get("save"), get("stop-writes-on-bgsave-error"), get("repl-diskless-sync"))
	if err != nil {
		return facts{}, err
	}
	if f.dir == "" {
		if f.dir, err = configReply(replies[0]); err != nil {
			f.dirErr = status.WithHint(status.ReasonOf(err), "allow CONFIG GET to the sidecar's user, or set backup.data-dir to where the server's data directory is mounted",
				fmt.Errorf("where does the server keep its data: %w", err))
		}
	}
	// These are known better than guessed, but a server that does not tell can be
	// backed up all the same.
	if name, err := configReply(replies[1]); err == nil && name == filepath.Base(name) {
		f.dbfilename = name
	}
	if points, err := configReply(replies[2]); err == nil {
		f.savePoints = points != ""
	}
	if stop, err := configReply(replies[3]); err == nil && stop == "no" {
		f.savePoints = false
	}
	if diskless, err := configReply(replies[4]); err == nil {
		f.streamNeedsDisk = diskless == "no"
	}
	if f.dirErr == nil {
		f.dirErr = checkDir(f.dir)
	}
	return f, nil
}

// checkDir makes sure that the server's data directory can be looked into.
func checkDir(dir string) error {
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is not a directory", dir)
	}
	if err == nil {
		_, err = os.ReadDir(dir)
	}
	if err == nil || errors.Is(err, os.ErrPermission) {
		return dataDirError(err)
	}
	return status.WithHint(status.ReasonFile, "mount the volume with the server's data into the sidecar at the same path, or set backup.data-dir to where it is mounted",
		dataDirError(err))
}

func (f facts) hintDir() string {
	return fmt.Sprintf("is %s the data directory of this server? set backup.data-dir to where it is mounted in the sidecar", f.dir)
}

const hintUser = "run the sidecar as the user that redis-server runs as (runAsUser): its files are often readable by itself only"

// lastDump returns the size of the server's dump in bytes, 0 when there is none.
func (f facts) lastDump() int64 {
	if f.dirErr != nil {
		return 0
	}
	st, err := os.Stat(filepath.Join(f.dir, f.dbfilename))
	if err != nil {
		return 0
	}
	return st.Size()
}

// estimate guesses the size of the next RDB in bytes, to draw progress. The last
// one says little when it was written long ago by a server that was empty.
func (f facts) estimate() int64 {
	dataset, _ := f.info.Int("used_memory_dataset")
	return max(f.lastDump(), dataset/2)
}

// An RDB has these bytes more of a key than used_memory_dataset, at most: the server
// counts neither a number as a value, nor the object that holds it (and that less 16
// bytes where it is shared), nor when the key expires. So the RDB of counters that
// expire is several times as large as their data set (Redis 6.2 to 8.0, Valkey 8).
const (
	mostPerKey    = 32
	mostPerExpiry = 9
)

// mostSaved is the size in bytes that no RDB of the data exceeds, compressed or not;
// ok is false when the server does not tell how large its data is.
func (f facts) mostSaved() (most int64, ok bool) {
	dataset, ok := f.info.Int("used_memory_dataset")
	count := countKeys(f.info)
	return dataset + int64(count.keys)*mostPerKey + int64(count.expires)*mostPerExpiry, ok
}

// checkSpace refuses a save that is likely to fill the disk: it would fail, and
// with save points set the server would then refuse writes. It goes by the last
// dump and by what the server's memory has grown since; where there is none, by
// what the RDB can be at most. Either has a margin of a fifth, for what is written
// until the fork. It returns the bytes that are free.
func (f facts) checkSpace() (available int64, err error) {
	expected := f.lastDump()
	if expected == 0 {
		expected, _ = f.mostSaved()
	} else {
		expected += f.growth()
	}
	expected += expected / 5
	if available, err = availableBytes(f.dir); err != nil {
		return 0, status.WithReason(status.ReasonFile, fmt.Errorf("free space of %s: %w", f.dir, err))
	}
	if available < expected {
		return available, status.WithHint(status.ReasonDiskFull, "make room or enlarge the volume: while it saves, the server keeps the old and the new file; backup.source stream needs no room",
			marked{fmt.Errorf("%s has %s free, the save needs about %s", f.dir, human.Bytes(available), human.Bytes(expected)), errNoRoom})
	}
	return available, nil
}

// checkStreamSpace is checkSpace for a stream, which needs room only where the
// server writes its own dump to send that. Where a dump that fails makes it refuse
// writes, it is not let to try its luck.
func (f facts) checkStreamSpace() error {
	const hint = "set repl-diskless-sync to yes: then the server streams without a file"
	switch {
	case !f.streamNeedsDisk:
	case f.dirErr == nil:
		if _, err := f.checkSpace(); err != nil {
			return status.WithHint(status.ReasonDiskFull, "make room or enlarge the volume, or "+hint, err)
		}
	case f.savePoints:
		return status.WithHint(status.ReasonOf(f.dirErr), hint+"; or let the sidecar see the data directory: "+status.HintOf(f.dirErr),
			fmt.Errorf("the server makes a dump to stream it, and refuses all writes if that fails; whether there is room for it is not known: %w", f.dirErr))
	}
	return nil
}

// growth is how much more memory the server uses than when it wrote its last
// dump, in bytes; 0 when the dump does not tell.
func (f facts) growth() int64 {
	used, _ := f.info.Int("used_memory")
	file, err := os.Open(filepath.Join(f.dir, f.dbfilename))
	if err != nil {
		return 0
	}
	var head [512]byte // the fields that come first
	n, err := io.ReadFull(file, head[:])
	_ = file.Close() // only read from
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0
	}
	then := usedMem(head[:n])
	if then == 0 {
		return 0
	}
	return max(used-then, 0)
}

// usedMem reads the auxiliary field used-mem in the begin of an RDB, 0 when it is
// not there.
func usedMem(head []byte) int64 {
	const name = "\xfa\x08used-mem"
	_, value, ok := bytes.Cut(head, []byte(name))
	if !ok || len(value) < 5 {
		return 0
	}
	switch kind, rest := value[0], value[1:]; {
	case kind == 0xc0: // 8 bits
		return int64(int8(rest[0]))
	case kind == 0xc1: // 16 bits
		return int64(int16(binary.LittleEndian.Uint16(rest)))
	case kind == 0xc2: // 32 bits
		return int64(int32(binary.LittleEndian.Uint32(rest)))
	case kind < 1<<6 && int(kind) <= len(rest): // digits
		n, _ := strconv.ParseInt(string(rest[:kind]), 10, 64)
		return n
	}
	return 0
}

// busy names the child process that keeps the server from saving; "" when there
// is none. A diskless sync of a replica counts as a save.
func busy(in info.Info) string {
	for _, child := range []struct{ field, name string }{
		{"rdb_bgsave_in_progress", "a save or the sync of a replica"},
		{"aof_rewrite_in_progress", "a rewrite of the append-only file"},
		{"module_fork_in_progress", "a child of a module"},
	} {
		if in.Get(child.field) == "1" {
			return child.name
		}
	}
	return ""
}

// keyCount is what INFO keyspace adds up to.
type keyCount struct{ keys, expires uint64 }

// countKeys adds up lines such as db0:keys=3,expires=1,avg_ttl=0.
func countKeys(in info.Info) (c keyCount) {
	for name, value := range in.Section("keyspace") {
		if !strings.HasPrefix(name, "db") {
			continue
		}
		for pair := range strings.SplitSeq(value, ",") {
			k, v, _ := strings.Cut(pair, "=")
			n, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				continue
			}
			switch k {
			case "keys":
				c.keys += n
			case "expires":
				c.expires += n
			}
		}
	}
	return c
}

// countCalls reads a line of INFO commandstats such as
// cmdstat_flushall:calls=1,usec=15,usec_per_call=15.00.
func countCalls(in info.Info, command string) int64 {
	calls, _, _ := strings.Cut(strings.TrimPrefix(in.Get("cmdstat_"+command), "calls="), ",")
	n, _ := strconv.ParseInt(calls, 10, 64)
	return n
}

func pipeline(ctx context.Context, redis Redis, cmds ...[]string) ([]any, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return redis.Pipeline(ctx, cmds...)
}

// askInfo sends one INFO.
func askInfo(ctx context.Context, redis Redis, section string) (info.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := redis.Do(ctx, "INFO", section)
	if err != nil {
		return info.Info{}, err
	}
	return infoReply(reply)
}

func infoReply(reply any) (info.Info, error) {
	switch reply := reply.(type) {
	case error:
		return info.Info{}, reply
	case string:
		return info.Parse(reply), nil
	}
	return info.Info{}, status.WithReason(status.ReasonProtocol, fmt.Errorf("INFO: unexpected reply of type %T", reply))
}

// configReply returns the value in the reply to CONFIG GET of one parameter.
func configReply(reply any) (string, error) {
	switch reply := reply.(type) {
	case error:
		return "", reply
	case []any:
		if len(reply) == 2 {
			if value, ok := reply[1].(string); ok {
				return value, nil
			}
		}
	}
	return "", status.WithReason(status.ReasonProtocol, errors.New("CONFIG GET: unexpected reply"))
}
