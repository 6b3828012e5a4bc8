package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// A fork shares the server's memory until one of the two writes to it: a page
// that is written then exists twice. In a container with a memory limit the
// kernel kills the server when that goes beyond it. Both sources fork.

// firstCopy is the part of the data that is expected to be copied when the server
// has told of no save yet: one in so many. It depends on how much is written.
const firstCopy = 10

// checkMemory refuses a save for which there is not enough memory. limit is that
// of the server's container in bytes; 0 is not known, and then the memory of the
// node must do. persistence is INFO persistence of now.
func (f facts) checkMemory(ctx context.Context, redis Redis, limit int64, persistence info.Info) error {
	memory, err := askInfo(ctx, redis, "memory")
	if err != nil {
		return err
	}
	of, hint := "its container has", "raise the container's memory limit, and backup.memory-limit with it, or lower maxmemory"
	if limit == 0 {
		of, hint = "its node has", "lower maxmemory, or use a node with more memory"
		limit, _ = memory.Int("total_system_memory")
	}
	resident, _ := memory.Int("used_memory_rss")
	if limit <= 0 || resident <= 0 {
		return nil // not told: no ground to refuse
	}
	copied := expectedCopy(memory, persistence)
	if resident+copied <= limit {
		return nil
	}
	return status.WithHint(status.ReasonMemory, hint, fmt.Errorf("%w: it uses %s, the child may need %s more, %s %s",
		errNoMemory, human.Bytes(resident), human.Bytes(copied), of, human.Bytes(limit)))
}

var errNoMemory = errors.New("there is not enough memory for the server to fork")

// expectedCopy is the memory that the last children needed beyond what they
// shared, or a guess.
func expectedCopy(memory, persistence info.Info) int64 {
	save, _ := persistence.Int("rdb_last_cow_size")
	rewrite, _ := persistence.Int("aof_last_cow_size")
	if last := max(save, rewrite); last > 0 {
		return last
	}
	used, _ := memory.Int("used_memory")
	return used / firstCopy
}
