package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// source is a way to get an RDB out of a server: all that is special to it is
// behind these methods and those of capture. The pipeline takes what comes.
//
// Redis 8.10 has BACKUP START and SEAL, which leave a base RDB and the commands
// since in a directory of their own: its source would start in start, follow the
// base file as bgsave does, and seal in confirm. What it adds, the increments,
// needs an object of its own in the store, and a field in the manifest.
type source interface {
	// name is one of the Source constants of a manifest.
	name() string
	// start waits, bounded, until the server can, and has it begin. The capture
	// must be closed.
	start(ctx context.Context) (capture, error)
}

// capture is one RDB on its way out of the server.
type capture interface {
	// moment is what is known of the moment whose data the RDB holds.
	moment() *moment
	// open returns the RDB while it is written. The reader returns io.EOF only
	// when there is no more to come, and never waits longer than ctx. It is called
	// once.
	open(ctx context.Context) io.Reader
	// cutOff explains an RDB that was read to io.EOF, n bytes, and has no end.
	cutOff(n int64) error
	// confirm makes sure that an intact RDB, read to io.EOF, is the one that was
	// asked for.
	confirm(ctx context.Context, summary rdb.Summary) error
	// ended is when the server had nothing more to do for it; valid after io.EOF.
	ended() time.Time
	// close releases everything and waits for its goroutines. The context of open
	// must have ended by then.
	close()
}

// moment is what is known of the moment whose data an RDB holds.
type moment struct {
	info    info.Info // default sections, just before it or just after
	created time.Time // see Manifest.CreatedAt
	began   time.Time // not after the moment, by the server's clock
	before  keyCount  // around the fork, as near as can be
	after   keyCount
	runID   string
	// The replication stream at the moment. What a replica has applied, which can
	// be less than it has received.
	replicationID     string
	replicationOffset int64
}

// waitIdle returns INFO persistence of a moment in which no child ran. limit is
// how long that may take up to the deadline.
func waitIdle(ctx context.Context, redis Redis, deadline time.Time, limit time.Duration) (info.Info, error) {
	const interval = 200 * time.Millisecond
	for {
		in, err := askInfo(ctx, redis, "persistence")
		if err != nil {
			return info.Info{}, err
		}
		child := busy(in)
		if child == "" {
			return in, nil
		}
		if time.Now().After(deadline) {
			return info.Info{}, status.WithHint(status.ReasonSaveBusy, "see INFO persistence and INFO replication for what takes so long; another time of day may suit better: backup.schedule",
				fmt.Errorf("the server could not save for %s: it was busy with %s", limit, child))
		}
		if err := sleep(ctx, interval); err != nil {
			return info.Info{}, err
		}
	}
}

// confirm makes sure that an intact RDB is of this moment. runID is that of the
// server after the end of the RDB.
func (m *moment) confirm(runID string, summary rdb.Summary) error {
	const hint = "something else replaces the server's files, or writes to its data directory"
	if runID != m.runID {
		return status.WithReason(status.ReasonSave, errors.New("the server was restarted during the save"))
	}
	if text := summary.Aux["ctime"]; text != "" {
		ctime, err := strconv.ParseInt(text, 10, 64)
		if err != nil || ctime < m.began.Unix()-1 { // one second: the child's clock is the coarse one
			return status.WithHint(status.ReasonSave, hint, fmt.Errorf("the file is of an older save: ctime %.30q, asked at %d", text, m.began.Unix()))
		}
	}
	if summary.Walked {
		if err := plausible(summary.Keys(), m.before, m.after); err != nil {
			return status.WithHint(status.ReasonSave, hint, err)
		}
	}
	return nil
}

// plausible compares the keys in an RDB with what the server counted around the
// fork. That is exact today but for keys that expire meanwhile; one in a hundred
// is left to future servers, so that a difference in counting is no outage of
// all backups.
func plausible(keys uint64, before, after keyCount) error {
	least, most := min(before.keys, after.keys), max(before.keys, after.keys)
	least -= min(least, max(before.expires, after.expires))
	slack := most / 100
	if keys+slack < least || keys > most+slack {
		return fmt.Errorf("the file holds %d keys, the server held %d to %d when it began", keys, least, most)
	}
	return nil
}
