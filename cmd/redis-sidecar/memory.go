package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// frugal trades a little time for memory, of which every pod has this program's
// share: the live heap is below 2 MiB, and what a scrape leaves behind is
// collected at once, not first at 4 MiB. The parts of an upload are 24 MiB that
// live as long as it does; the soft limit keeps the heap from growing to twice
// that. GOGC and GOMEMLIMIT in the environment win.
func frugal(getenv func(string) string) {
	const (
		percent = 50
		limit   = 42 << 20
	)
	if getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
}

// oneCore keeps the agent on one core at a time, but while it takes a snapshot:
// see loaded.cpus. Everything else is a matter of milliseconds, and the allocator
// keeps memory for each core: on a large node, many times what the agent needs.
// GOMAXPROCS in the environment wins.
func oneCore(getenv func(string) string) {
	if getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}

// trim gives memory back to the system: once, what only the start needed, and
// what a snapshot or a burst of scrapes left free. The runtime does that too, but keeps a tenth more than the
// most it needed, and takes minutes. It looks every few seconds and costs a
// garbage collection, a millisecond, when there is something to give.
func trim(ctx context.Context) error {
	const (
		every = 10 * time.Second
		worth = 512 << 10
		start = 2 * time.Second // then every job has had its first run
	)
	started := time.NewTimer(start)
	defer started.Stop()
	free := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-started.C:
			debug.FreeOSMemory()
			forgetStart()
			continue
		case <-t.C:
		}
		if metrics.Read(free); free[0].Value.Kind() == metrics.KindUint64 && free[0].Value.Uint64() > worth {
			debug.FreeOSMemory()
		}
	}
}
