package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// A server with rdbcompression yes, which is the default, compresses the strings
// of an RDB one by one with LZF. That is a third of the time of a save of text (see
// docs/backup.md), it shrinks the file by a little, and what is stored becomes
// larger for it: zstd finds more in the plain strings than in what LZF has
// left of them. So a save for a snapshot is asked for without. The child lives
// shorter, and with it what is written meanwhile is copied for a shorter time. It
// costs room: the server's dump is larger until its next save.
//
// The server is told just before BGSAVE and told back just after it, in the same
// write: it executes what came in one write without a turn for anybody else, the
// child keeps what it was forked with, and neither another client nor CONFIG
// REWRITE sees the setting in between. None of 727,000 questions to Redis 8.0 with
// four I/O threads did, nor any to 6.2.16, 7.0.15 and Valkey 8. MULTI would be no
// better but worse: in a transaction BGSAVE only schedules a save.

// The settings of SnapshotOptions.RDBCompression.
const (
	RDBCompressionAuto   = "auto"   // off where the data set in memory is no more than half as large again as the last dump, and there is room
	RDBCompressionOff    = "off"    // off where there is room
	RDBCompressionServer = "server" // as the server has it
)

// RDBCompressions returns the settings there are.
func RDBCompressions() []string {
	return []string{RDBCompressionAuto, RDBCompressionOff, RDBCompressionServer}
}

// rdbCompression decides on the saves of one Snapshotter.
type rdbCompression struct {
	setting string
	refused error // of CONFIG SET, which is not tried again: each try counts as an error in the server's statistics

	// The server with runID was told no, and that it was told yes again is not known:
	// it is owed that. runID is that of the server that was last told no, or is about
	// to be.
	owed  bool
	runID string
}

// setRDBCompression is the command.
func setRDBCompression(value string) []string {
	return []string{"CONFIG", "SET", "rdbcompression", value}
}

// unwanted tells whether the save that is asked for next is to be made without
// compression that the server is set to do. free is as in command.
func (b *bgsave) unwanted(ctx context.Context, free int64) bool {
	c := b.compression
	if c == nil || c.refused != nil || c.setting == RDBCompressionServer {
		return false
	}
	if err := b.facts.checkPlainSave(free, c.setting == RDBCompressionAuto); err != nil {
		b.log.Debug("the server compresses the strings of the save", "why", err)
		return false
	}
	// Asked now: it may have been changed since the last snapshot.
	replies, err := pipeline(ctx, b.redis, []string{"INFO", "server"}, []string{"CONFIG", "GET", "rdbcompression"})
	if err != nil {
		return false // BGSAVE will say so
	}
	in, err := infoReply(replies[0])
	if err != nil {
		return false
	}
	if value, err := configReply(replies[1]); err != nil || value != "yes" {
		return false
	}
	c.runID = in.Get("run_id")
	return true
}

// checkPlainSave says what is in the way of a save without compression. How large
// it becomes nobody knows: what there can be at most must have room, and the next
// save beside what this one leaves, which would be refused otherwise. small
// asks for one that is not much larger than the last.
func (f facts) checkPlainSave(free int64, small bool) error {
	most, ok := f.mostSaved()
	if !ok {
		return errors.New("the server does not tell how large its data is")
	}
	last := f.lastDump()
	if dataset, _ := f.info.Int("used_memory_dataset"); small && dataset > last+last/2 {
		return fmt.Errorf("the data set takes %s, the last dump %s: without, it could be much larger", human.Bytes(dataset), human.Bytes(last))
	}
	if need := most + most/5 + max(most-last, 0); free < need {
		return fmt.Errorf("without, it could take up to %s, with room for the next that is %s, and %s has %s free", human.Bytes(most), human.Bytes(need), f.dir, human.Bytes(free))
	}
	return nil
}

// told deals with the server's answers to setting rdbcompression to no and back;
// err is that of the connection, after which nothing is known.
func (b *bgsave) told(ctx context.Context, off, on any, err error) {
	if refusal, ok := off.(error); ok && err == nil {
		switch status.ReasonOf(refusal) {
		case status.ReasonNoPerm, status.ReasonUnknownCmd, status.ReasonRedis:
		default: // a script that runs too long, for one: of all commands, and only now
			b.log.Debug("the server compresses the strings of the save", "why", refusal)
			return
		}
		b.compression.refused = refusal
		b.log.Warn("the server compresses the strings of its saves, so they take longer and what is stored is larger: rdbcompression cannot be set",
			"error", refusal, "hint", "allow +config|set to the sidecar's user, or set backup.rdb-compression to server")
		return
	}
	if refusal, ok := on.(error); ok && err == nil {
		err = refusal
	}
	if err == nil {
		return
	}
	// The snapshot's context may have ended, and this is to be done all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	for wait := 100 * time.Millisecond; ; wait *= 2 {
		_, err := b.redis.Do(ctx, setRDBCompression("yes")...)
		if err == nil {
			return
		}
		if sleep(ctx, wait) != nil {
			b.log.Error("rdbcompression of the server may be no now, it was yes",
				"error", err, "reason", status.ReasonOf(err), "hint", hintSetBack)
			b.compression.owed = true
			return
		}
	}
}

const hintSetBack = "the next snapshot of this pod sets it back; unless the server was restarted since, so can you: CONFIG SET rdbcompression yes"

// repay tells the server yes that could not be told before. Otherwise its no would be
// taken for what the operator wants. in is its INFO; one that was started since has
// what its redis.conf says.
func (c *rdbCompression) repay(ctx context.Context, redis Redis, in info.Info, log *slog.Logger) {
	if !c.owed {
		return
	}
	if in.Get("run_id") != c.runID {
		c.owed = false
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := redis.Do(ctx, setRDBCompression("yes")...); err != nil {
		log.Warn("rdbcompression of the server may be no, it was yes", "error", err, "reason", status.ReasonOf(err), "hint", hintSetBack)
		return
	}
	c.owed = false
	log.Info("rdbcompression of the server is yes again")
}
