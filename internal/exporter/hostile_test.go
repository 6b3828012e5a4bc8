package exporter_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// greet refuses HELLO, the first thing that a client says, as servers before 6.0
// do, and waits for the next.
func greet(c net.Conn) {
	var block [4 << 10]byte
	_, _ = c.Read(block[:])
	_, _ = io.WriteString(c, "-ERR unknown command 'HELLO'\r\n")
	_, _ = c.Read(block[:])
}

// heapPeak watches the heap until the function it returns is called, which says
// how far it grew, in bytes.
func heapPeak() (grown func() uint64) {
	read := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	start := read()
	var peak atomic.Uint64
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for t := time.NewTicker(time.Millisecond); ctx.Err() == nil; <-t.C {
			peak.Store(max(peak.Load(), read()))
		}
	}()
	return func() uint64 {
		stop()
		<-done
		return max(peak.Load(), start) - start
	}
}

// A server that is broken, or means harm, costs a scrape and no more: the answer
// is in time, up is 0 or what is there is shown, and memory stays within bounds.
func TestHostileServer(t *testing.T) {
	const (
		patience   = answer                 // of those who get one
		impatience = 500 * time.Millisecond // of those who get none
		limit      = 8 << 20                // of a reply, as in the agent
		heap       = 64 << 20
	)
	forever := func(block string) func(context.Context, net.Conn) {
		return func(_ context.Context, c net.Conn) {
			for {
				if _, err := io.WriteString(c, block); err != nil {
					return
				}
			}
		}
	}
	// The reply to INFO, and nothing after it.
	once := func(reply string) func(context.Context, net.Conn) {
		text := []byte(reply) // made here: a copy of megabytes later would count as the exporter's
		return func(ctx context.Context, c net.Conn) {
			greet(c)
			_, _ = c.Write(text)
			<-ctx.Done()
		}
	}
	bulk := func(text string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text) }
	const info = "redis_version:7.0.15\r\nrun_id:a\r\n"
	// As in the agent: see frugal in its command.
	percent, memory := debug.SetGCPercent(50), debug.SetMemoryLimit(48<<20)
	t.Cleanup(func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(memory) })
	for name, c := range map[string]struct {
		serve  func(context.Context, net.Conn)
		reason status.Reason // "" when the server counts as up
	}{
		"100 MB that come":             {once("$104857600\r\n" + strings.Repeat("a:1\r\n", 1<<20)), status.ReasonProtocol},
		"as much as is allowed":        {once(bulk(strings.Repeat("a:1\r\n", limit/5-10))), status.ReasonTimeout}, // no reply to the rest
		"a length and nothing behind":  {once("$8000000\r\nabc"), status.ReasonTimeout},
		"a string without end":         {forever("+" + strings.Repeat("a", 32<<10)), status.ReasonProtocol},
		"numbers without end":          {forever(strings.Repeat(":1\r\n", 8<<10)), status.ReasonProtocol},
		"arrays in one another":        {forever(strings.Repeat("*1\r\n", 8<<10)), status.ReasonProtocol},
		"a huge array":                 {once("*2147483647\r\n"), status.ReasonProtocol},
		"huge arrays in one another":   {once(strings.Repeat("*262000\r\n", 30)), status.ReasonProtocol},
		"a negative length":            {once("$-5\r\n"), status.ReasonProtocol},
		"binary":                       {forever("\x00\x16\x03\x01\xff"), status.ReasonProtocol},
		"hangs up at once":             {func(context.Context, net.Conn) {}, status.ReasonUnreachable},
		"hangs up in the middle":       {func(_ context.Context, c net.Conn) { greet(c); _, _ = io.WriteString(c, "$100\r\nabc") }, status.ReasonUnreachable},
		"an empty INFO":                {once(bulk("")), status.ReasonProtocol},
		"the wrong types":              {once(":1\r\n" + strings.Repeat("*1\r\n:5\r\n", 100)), status.ReasonProtocol},
		"replies to nothing":           {once(bulk(info) + strings.Repeat(":7\r\n", 100)), ""},
		"as many commands as it likes": {once(bulk(info+manyCommands(100_000)) + strings.Repeat("*0\r\n", 100)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			addr := testenv.Listen(t, c.serve)
			wait := patience
			if c.reason == status.ReasonTimeout {
				wait = impatience
			}
			e, _ := newExporter(t, newClient(t, redis.Options{Addr: addr, ReplyLimit: limit, Timeout: wait}), exporter.Options{})
			grown := heapPeak()
			got := scrapeIn(t, e, wait)
			again := scrapeIn(t, e, impatience)
			if n := grown(); n > heap {
				t.Errorf("the heap grew by %d MiB", n>>20)
			}
			if reason := downReason(t, got); reason != string(c.reason) {
				t.Errorf("down because of %q, want %q", reason, c.reason)
			}
			if len(got) < 20 || len(again) < 20 {
				t.Errorf("only %d and %d series", len(got), len(again))
			}
		})
	}
}

// manyCommands is a section of INFO with statistics of n commands.
func manyCommands(n int) string {
	var b strings.Builder
	b.WriteString("# Commandstats\r\n")
	for i := range n {
		fmt.Fprintf(&b, "cmdstat_%x:calls=1,usec=1,usec_per_call=1.00,rejected_calls=0,failed_calls=0\r\n", i)
	}
	return b.String()
}

// A byte now and then is no answer.
func TestDrippingServer(t *testing.T) {
	addr := testenv.Listen(t, func(ctx context.Context, c net.Conn) {
		greet(c)
		_, _ = io.WriteString(c, "$1000\r\n")
		for t := time.NewTicker(10 * time.Millisecond); ctx.Err() == nil; <-t.C {
			if _, err := io.WriteString(c, "a"); err != nil {
				return
			}
		}
	})
	e, _ := newExporter(t, newClient(t, redis.Options{Addr: addr}), exporter.Options{})
	if reason := downReason(t, scrapeIn(t, e, silence)); reason != string(status.ReasonTimeout) {
		t.Errorf("down because of %q", reason)
	}
}
