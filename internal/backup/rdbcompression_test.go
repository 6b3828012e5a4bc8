package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func compressing(setting string) func(*SnapshotOptions) {
	return func(o *SnapshotOptions) { o.RDBCompression = setting }
}

// fillText writes keys with values of so many random bytes and as many again that
// LZF makes nothing of.
func fillText(tb testing.TB, r *testenv.Redis, keys, random, same int) {
	tb.Helper()
	rnd := rand.NewChaCha8([32]byte{7})
	value := make([]byte, random)
	for i := range keys {
		_, _ = rnd.Read(value)
		r.Do(tb, "SET", "key:"+strconv.Itoa(i), string(value)+strings.Repeat("a", same))
	}
}

// commandCalls is how often the server has executed a command.
func commandCalls(tb testing.TB, r *testenv.Redis, command string) string {
	tb.Helper()
	in := info.Parse(r.Do(tb, "INFO", "commandstats").(string))
	_, calls, _ := strings.Cut(in.Get("cmdstat_"+command), "calls=")
	calls, _, _ = strings.Cut(calls, ",")
	return calls
}

func wantRDBCompression(tb testing.TB, r *testenv.Redis, want string) {
	tb.Helper()
	if got := r.Do(tb, "CONFIG", "GET", "rdbcompression").([]any)[1]; got != want {
		tb.Errorf("rdbcompression is %v, want %s", got, want)
	}
}

func TestRDBCompression(t *testing.T) {
	const keys, random, same = 2000, 600, 100
	const plain = keys * (random + same)
	for _, tc := range []struct {
		name    string
		setting string
		server  string
		dump    bool // there is one, compressed, of the same data
		repeat  int  // so many more bytes that LZF makes nothing of
		plain   bool
		sets    string // how often CONFIG SET was sent
	}{
		{name: "auto", setting: RDBCompressionAuto, server: "yes", dump: true, plain: true, sets: "2"},
		{name: "auto, nothing is known of the size", setting: RDBCompressionAuto, server: "yes"},
		{name: "auto, much larger without", setting: RDBCompressionAuto, server: "yes", dump: true, repeat: 600},
		{name: "off", setting: RDBCompressionOff, server: "yes", plain: true, sets: "2"},
		{name: "off, much larger without", setting: RDBCompressionOff, server: "yes", dump: true, repeat: 600, plain: true, sets: "2"},
		{name: "off, the server does not compress", setting: RDBCompressionOff, server: "no", plain: true},
		{name: "server", setting: RDBCompressionServer, server: "yes", dump: true},
		{name: "server, which does not compress", setting: RDBCompressionServer, server: "no", dump: true, plain: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := testenv.StartRedis(t, "--rdbcompression", tc.server, "--save", "")
			fillText(t, r, keys, random, same+tc.repeat)
			if tc.dump {
				r.Do(t, "SAVE")
			}
			s, _ := dirStore(t)
			m := mustSnapshot(t, newSnapshotterFor(t, r.Client(t), s, compressing(tc.setting)))
			if got := m.RDB.Size > plain+int64(keys*tc.repeat); got != tc.plain {
				t.Errorf("an RDB of %d bytes for %d of data, want it plain: %t", m.RDB.Size, plain+keys*tc.repeat, tc.plain)
			}
			if m.RDB.Keys != keys {
				t.Errorf("%d keys", m.RDB.Keys)
			}
			if got := commandCalls(t, r, "config|set"); got != tc.sets {
				t.Errorf("CONFIG SET was sent %q times, want %q", got, tc.sets)
			}
			wantRDBCompression(t, r, tc.server)
		})
	}
}

// No other client ever sees the setting that is only meant for the fork, and
// CONFIG REWRITE does not write it down.
func TestRDBCompressionUnseen(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 1000, 100)
	s, _ := dirStore(t)
	sn := newSnapshotterFor(t, r.Client(t), s, compressing(RDBCompressionOff))
	ctx, cancel := context.WithCancel(testContext(t))
	type result struct{ asked, seen int }
	done := make(chan result, 1)
	other := r.Client(t)
	go func() {
		var n result
		for ctx.Err() == nil {
			if reply, err := other.Do(ctx, "CONFIG", "GET", "rdbcompression"); err == nil {
				n.asked++
				if reply.([]any)[1] != "yes" {
					n.seen++
				}
			}
		}
		done <- n
	}()
	const snapshots = 20
	for range snapshots {
		mustSnapshot(t, sn)
	}
	cancel()
	if n := <-done; n.seen > 0 || n.asked < snapshots {
		t.Errorf("of %d times %d saw it", n.asked, n.seen)
	}
	if got, want := commandCalls(t, r, "config|set"), strconv.Itoa(2*snapshots); got != want {
		t.Errorf("CONFIG SET was sent %s times, want %s", got, want)
	}
}

// A user without the right gets its snapshots all the same, and is refused once.
func TestRDBCompressionRefused(t *testing.T) {
	r := testenv.StartRedis(t)
	fillText(t, r, 500, 100, 400)
	r.Do(t, "ACL", "SETUSER", "sidecar", "reset", "on", ">pw", "+info", "+bgsave", "+config|get")
	c := redis.New(redis.Options{Addr: r.Addr, Credentials: func() (string, string, error) { return "sidecar", "pw", nil }})
	t.Cleanup(func() { _ = c.Close() })
	var log bytes.Buffer
	s, _ := dirStore(t)
	sn := newSnapshotterFor(t, c, s, compressing(RDBCompressionOff), func(o *SnapshotOptions) {
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	for range 2 {
		if m := mustSnapshot(t, sn); m.RDB.Keys != 500 || m.RDB.Size > 500*500 {
			t.Errorf("%d keys, %d bytes", m.RDB.Keys, m.RDB.Size)
		}
	}
	if n := strings.Count(log.String(), "rdbcompression cannot be set"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &log)
	}
	if n := len(r.Do(t, "ACL", "LOG").([]any)); n != 1 { // both commands of one write are one entry
		t.Errorf("%d entries in the server's ACL LOG", n)
	}
	wantRDBCompression(t, r, "yes")
}

// What is refused only now is tried again.
func TestRDBCompressionRefusedForNow(t *testing.T) {
	for reason, want := range map[status.Reason]bool{status.ReasonNoPerm: true, status.ReasonUnknownCmd: true, status.ReasonBusy: false, status.ReasonLoading: false} {
		b := bgsave{compression: &rdbCompression{setting: RDBCompressionAuto}, log: testLog(t)}
		refusal := status.WithReason(reason, errors.New("refused"))
		b.told(testContext(t), refusal, refusal, nil)
		if got := b.compression.refused != nil; got != want {
			t.Errorf("%s: %t, want %t", reason, got, want)
		}
	}
}

// cutRedis loses the connection in the middle of the write with BGSAVE, when the
// server has read the first commands, so many of it.
type cutRedis struct {
	*redis.Client
	executed int
	after    func()      // may be nil
	away     atomic.Bool // no other command gets through either
	whole    atomic.Bool // nothing is cut
}

func (c *cutRedis) Do(ctx context.Context, args ...string) (any, error) {
	if c.away.Load() {
		return nil, status.WithReason(status.ReasonUnreachable, errors.New("connection refused"))
	}
	return c.Client.Do(ctx, args...)
}

func (c *cutRedis) Pipeline(ctx context.Context, cmds ...[]string) ([]any, error) {
	for i, cmd := range cmds {
		if cmd[0] != "BGSAVE" || c.whole.Load() {
			continue
		}
		if _, err := c.Client.Pipeline(ctx, cmds[:i-1+c.executed]...); err != nil {
			return nil, err
		}
		if c.after != nil {
			c.after()
		}
		return nil, status.WithReason(status.ReasonUnreachable, errors.New("the connection was cut"))
	}
	return c.Client.Pipeline(ctx, cmds...)
}

// Wherever the connection breaks, the server gets its setting back.
func TestRDBCompressionConnectionLost(t *testing.T) {
	for executed := range 4 { // up to: the settings and BGSAVE
		t.Run(strconv.Itoa(executed), func(t *testing.T) {
			r := testenv.StartRedis(t)
			r.Fill(t, "key", 10, 10)
			s, _ := dirStore(t)
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			c := &cutRedis{Client: r.Client(t), executed: executed, after: func() {
				if executed == 1 {
					wantRDBCompression(t, r, "no") // so the test does what it is for
				}
				cancel() // the agent is told to end, too
			}}
			_, err := newSnapshotterFor(t, c, s, compressing(RDBCompressionOff)).Snapshot(ctx, nil)
			wantError(t, err, status.ReasonCanceled, "snapshot: the connection was cut")
			wantRDBCompression(t, r, "yes")
		})
	}
}

// A server that is gone cannot be told; what to do is said.
func TestRDBCompressionServerGone(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 10, 10)
	s, _ := dirStore(t)
	var log bytes.Buffer
	c := &cutRedis{Client: r.Client(t), executed: 1, after: func() { r.Kill(t) }}
	sn := newSnapshotterFor(t, c, s, compressing(RDBCompressionOff), func(o *SnapshotOptions) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	began := time.Now()
	_, err := sn.Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonUnreachable, "snapshot: the connection was cut")
	if took := time.Since(began); took > 3*callTimeout {
		t.Errorf("it took %s", took)
	}
	for _, want := range []string{"level=ERROR", "rdbcompression of the server may be no now", "unless the server was restarted since, so can you: CONFIG SET rdbcompression yes"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in\n%s", want, &log)
		}
	}
}

// A server that was away for long is told before the next snapshot.
func TestRDBCompressionToldLater(t *testing.T) {
	r := testenv.StartRedis(t)
	fillText(t, r, 500, 100, 400)
	s, _ := dirStore(t)
	c := &cutRedis{Client: r.Client(t), executed: 1}
	c.after = func() { c.away.Store(true) }
	sn := newSnapshotterFor(t, c, s, compressing(RDBCompressionOff))
	_, err := sn.Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonUnreachable, "snapshot: the connection was cut")
	wantRDBCompression(t, r, "no") // so the test does what it is for

	// Still away: it is not forgotten.
	if _, err := sn.Snapshot(testContext(t), nil); err == nil {
		t.Error("no error")
	}
	wantRDBCompression(t, r, "no")

	c.away.Store(false)
	c.whole.Store(true)
	if m := mustSnapshot(t, sn); m.RDB.Size < 500*500 {
		t.Errorf("%d bytes: it was saved with compression", m.RDB.Size)
	}
	wantRDBCompression(t, r, "yes")
	// It was told once. What the operator sets from now on stays.
	r.Do(t, "CONFIG", "SET", "rdbcompression", "no")
	mustSnapshot(t, sn)
	wantRDBCompression(t, r, "no")
}

// A server that was restarted has what its redis.conf says.
func TestRDBCompressionOfAnotherServer(t *testing.T) {
	r := testenv.StartRedis(t, "--rdbcompression", "no")
	r.Fill(t, "key", 10, 10)
	s, _ := dirStore(t)
	sn := newSnapshotterFor(t, r.Client(t), s, compressing(RDBCompressionOff))
	sn.compression.owed, sn.compression.runID = true, "of the one before"
	mustSnapshot(t, sn)
	wantRDBCompression(t, r, "no")
	if sn.compression.owed {
		t.Error("still owed")
	}
}

// Another child came first: BGSAVE is refused, and the setting is back.
func TestRDBCompressionBusy(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 1000, 100)
	slowSave(t, r, endless)
	ctx := testContext(t)
	f, err := learn(ctx, r.Client(t), "")
	if err != nil {
		t.Fatal(err)
	}
	r.Do(t, "BGSAVE")
	b := bgsave{redis: r.Client(t), facts: f, compression: &rdbCompression{setting: RDBCompressionOff}, log: testLog(t)}
	if _, err := b.command(ctx, 1<<40); !errors.Is(err, errBusy) {
		t.Errorf("%v, want errBusy", err)
	}
	if got := commandCalls(t, r, "config|set"); got != "3" { // one is slowSave's
		t.Errorf("CONFIG SET was sent %s times", got)
	}
	wantRDBCompression(t, r, "yes")
	killSave(t, r)
}

func TestCheckPlainSave(t *testing.T) {
	const free = 10 << 30
	dir := t.TempDir()
	for _, tc := range []struct {
		name, info string
		small      bool
		want       string
	}{
		{"room", "used_memory_dataset:1000", false, ""},
		{"no dump to compare with", "used_memory_dataset:1000", true, "the data set takes 1000 B, the last dump 0 B"},
		{"no room", "used_memory_dataset:" + strconv.FormatInt(1<<60, 10), false, "free"},
		{"room for this one and the next", fmt.Sprintf("used_memory_dataset:%d", free/3), false, ""},
		{"room for this one, not for the next", fmt.Sprintf("used_memory_dataset:%d", free/2), false, "free"},
		{"room for the data, not for the numbers and when they expire", fmt.Sprintf("used_memory_dataset:0\r\n# Keyspace\r\ndb0:keys=%d,expires=%d", free/50, free/50), false, "free"},
		{"not told", "used_memory:1000", false, "the server does not tell how large its data is"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := facts{info: info.Parse(tc.info), dir: dir, dbfilename: "dump.rdb"}.checkPlainSave(free, tc.small)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
	_, err := NewSnapshotter(SnapshotOptions{Instance: "test", RDBCompression: "on"}, nil, nil)
	if err == nil || err.Error() != `compression of RDBs "on" is none of [auto off server]` {
		t.Errorf("%v", err)
	}
}
