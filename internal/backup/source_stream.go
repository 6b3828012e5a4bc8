package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// How a stream is caught.
//
// The server is asked as a replica asks it, on a connection of its own. With
// repl-diskless-sync its child writes the RDB to that connection, and no file.
// Between the request and the fork lies repl-diskless-sync-delay, 5 s by default,
// in which the server goes on. It says +FULLRESYNC just before the fork, in the
// same turn: that line is the moment whose data the RDB holds. The replication
// offset in it stands in the RDB, too, which proves that the one is of the other.
//
// What happens between the request and that moment is part of the snapshot, a
// FLUSHALL, too. One that the server has counted meanwhile makes the snapshot
// fail: it would be good, and nobody would want it for the latest.
//
// The server's main thread copies what the child writes to the connection, so a
// slow reader keeps the child, and the memory that it holds, longer. Redis ends
// the stream when nothing was read for repl-timeout.

// stream gets the RDB by the replication protocol.
type stream struct {
	redis       Redis
	facts       facts
	busyTimeout time.Duration
	memoryLimit int64
	log         *slog.Logger
}

func (s *stream) name() string { return SourceStream }

// sentinelPort is shown as the port of the sidecar in the INFO of a server that a
// Sentinel may watch. Sentinel takes every replica there for one of its own, for
// ever, also one with the port 0 of those who do not tell; a port that there
// cannot be it passes over (Sentinel of Redis 6.2 to 8.0 and Valkey 8).
const sentinelPort = 65536

// start waits until no child of the server runs, and for the start of the RDB.
func (s *stream) start(ctx context.Context) (capture, error) {
	replicator, ok := s.redis.(Replicator)
	if !ok {
		return nil, errors.New("this client cannot replicate")
	}
	deadline := time.Now().Add(s.busyTimeout)
	idle, err := waitIdle(ctx, s.redis, deadline, s.busyTimeout)
	if err != nil {
		return nil, err
	}
	if err := s.facts.checkMemory(ctx, s.redis, s.memoryLimit, idle); err != nil {
		return nil, err
	}
	if err := s.facts.checkStreamSpace(); err != nil {
		return nil, err
	}
	asked, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	c := &streamed{stream: s, at: moment{runID: asked.info.Get("run_id"), began: time.Now()}}
	if usec, ok := asked.info.Int("server_time_usec"); ok {
		c.at.began = time.UnixMicro(usec)
	}
	ctx, c.cancel = context.WithCancelCause(ctx)
	// The server forks when it wants; what it waits for is told by INFO.
	late := time.AfterFunc(time.Until(deadline), func() {
		c.cancel(status.WithHint(status.ReasonSaveBusy, "see INFO persistence and INFO replication for what takes so long; repl-diskless-sync-delay may be long, too",
			fmt.Errorf("the server began no stream within %s", s.busyTimeout)))
	})
	defer late.Stop()
	counting := s.count(ctx, asked)
	var began error
	c.body, err = replicator.Replicate(ctx, s.port(ctx, asked), func(id string, offset int64) {
		c.at.created = time.Now().UTC()
		c.at.replicationID, c.at.replicationOffset = id, offset
		late.Stop()
		c.at.before = counting.stop()
		began = c.begin(ctx, asked)
	})
	counting.stop()
	if err != nil && ctx.Err() == nil {
		err = s.explain(ctx, err)
	}
	if err == nil {
		err = began
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // that it took too long, whatever it was at
		}
		c.close()
		return nil, err
	}
	return c, nil
}

// explain says why the server has closed the connection instead of streaming: when
// the dump that it had to write first failed, it counts that as any failed save.
func (s *stream) explain(ctx context.Context, err error) error {
	if !s.facts.streamNeedsDisk || status.ReasonOf(err) != status.ReasonUnreachable {
		return err
	}
	in, infoErr := askInfo(ctx, s.redis, "persistence")
	if infoErr != nil || in.Get("rdb_last_bgsave_status") != "err" {
		return err
	}
	return s.facts.saveFailed("see the log of redis-server: out of memory, or the disk is full or broken; with repl-diskless-sync yes it streams without a file",
		fmt.Errorf("%w, which the server makes to stream it: %w", errSaveFailed, err))
}

// port returns what to show as the sidecar's port, see sentinelPort. Other
// programs that read INFO may stumble over that one, so it is shown only where a
// Sentinel is there, or is not known not to be. Sentinels ask masters only.
func (s *stream) port(ctx context.Context, asked sight) int {
	if asked.info.Get("role") != "master" {
		return 0
	}
	const channel = "__sentinel__:hello"
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := s.redis.Do(ctx, "PUBSUB", "NUMSUB", channel)
	if err != nil {
		s.log.Debug("whether a Sentinel watches the server is not known", "error", err)
		return sentinelPort
	}
	if list, ok := reply.([]any); ok && len(list) == 2 && list[1] == int64(0) {
		return 0
	}
	return sentinelPort
}

// sight is what the server says of itself at one time.
type sight struct {
	info    info.Info // default sections
	keys    keyCount
	flushes int64 // FLUSHALL and FLUSHDB since its start, or CONFIG RESETSTAT
}

func (s *stream) look(ctx context.Context) (sight, error) {
	replies, err := pipeline(ctx, s.redis, []string{"INFO"}, []string{"INFO", "commandstats"})
	if err != nil {
		return sight{}, err
	}
	in, err := infoReply(replies[0])
	if err != nil {
		return sight{}, err
	}
	stats, err := infoReply(replies[1])
	if err != nil {
		return sight{}, err
	}
	return sight{info: in, keys: countKeys(in), flushes: countCalls(stats, "flushall") + countCalls(stats, "flushdb")}, nil
}

// keyCounter follows the number of keys until the server forks.
type keyCounter struct {
	cancel context.CancelFunc
	gone   sync.WaitGroup
	last   keyCount
}

// count asks for the keys again and again, so that the last answer before the
// fork is a fresh one.
func (s *stream) count(ctx context.Context, asked sight) *keyCounter {
	const interval = 250 * time.Millisecond
	k := &keyCounter{last: asked.keys}
	ctx, k.cancel = context.WithCancel(ctx)
	k.gone.Go(func() {
		for sleep(ctx, interval) == nil {
			if in, err := askInfo(ctx, s.redis, "keyspace"); err == nil {
				k.last = countKeys(in)
			}
		}
	})
	return k
}

// stop ends the counting and returns the last count. It may be called again.
func (k *keyCounter) stop() keyCount {
	k.cancel()
	k.gone.Wait()
	return k.last
}

// streamed is one RDB on a connection.
type streamed struct {
	*stream
	at     moment
	cancel context.CancelCauseFunc // ends the connection
	body   io.ReadCloser           // nil until the server has begun
	end    time.Time
}

// begin looks at the server right after the fork.
func (c *streamed) begin(ctx context.Context, asked sight) error {
	now, err := c.look(ctx)
	if err != nil {
		return err
	}
	c.at.info, c.at.after = now.info, now.keys
	if id := now.info.Get("run_id"); id != c.at.runID {
		return status.WithReason(status.ReasonSave, errors.New("the server was restarted before its stream"))
	}
	const hint = "the next try will show what is there now"
	if now.flushes != asked.flushes {
		return status.WithHint(status.ReasonSave, hint, errors.New("FLUSHALL or FLUSHDB came between the request and the start of the stream"))
	}
	if now.keys.keys == 0 && asked.keys.keys > asked.keys.expires {
		return status.WithHint(status.ReasonSave, hint, fmt.Errorf("the server held %d keys at the request and none at the start of the stream", asked.keys.keys))
	}
	return nil
}

func (c *streamed) moment() *moment { return &c.at }

// open returns the rest of the connection.
func (c *streamed) open(ctx context.Context) io.Reader {
	context.AfterFunc(ctx, func() { c.cancel(context.Cause(ctx)) })
	return &streamReader{c}
}

// streamReader notes the end.
type streamReader struct{ c *streamed }

func (r *streamReader) Read(p []byte) (int, error) {
	n, err := r.c.body.Read(p)
	if err != nil {
		r.c.end = time.Now()
	}
	return n, err
}

// cutOff explains a stream that was whole and held no whole RDB.
func (c *streamed) cutOff(n int64) error {
	return status.WithReason(status.ReasonCorrupt, fmt.Errorf("the server's stream of %d bytes has its end mark, and no end of an RDB", n))
}

func (c *streamed) confirm(ctx context.Context, summary rdb.Summary) error {
	server, err := askInfo(ctx, c.redis, "server")
	if err != nil {
		return err
	}
	id, offset := summary.Aux["repl-id"], summary.Aux["repl-offset"]
	if id != "" && id != c.at.replicationID || offset != "" && offset != fmt.Sprint(c.at.replicationOffset) {
		return status.WithReason(status.ReasonSave, fmt.Errorf("the stream is not the one that was announced: offset %.30s of %.40s, not %d of %.40s",
			offset, id, c.at.replicationOffset, c.at.replicationID))
	}
	return c.at.confirm(server.Get("run_id"), summary)
}

func (c *streamed) ended() time.Time { return c.end }

// close ends the connection; the server then kills a child that is left.
func (c *streamed) close() {
	c.cancel(nil)
	if c.body != nil {
		_ = c.body.Close() // only read from
	}
}
