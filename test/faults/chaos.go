package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// The chaos test. While the sidecar takes a snapshot, a writer changes the data,
// FLUSHALL among its commands, and others save, rewrite, sync and kill the child
// at random moments. Every state that the data ever has is known: each command of
// the writer is a transaction that also sets sequenceKey to its number. So a
// snapshot tells which state it is of, all of it has to be that state, and the
// state has to be one from between the begin and the end of the sidecar's run;
// by bgsave, exactly the one at the fork, see truth.

const (
	sequenceKey = "faults:sequence"
	modelKeys   = 200
)

// model is the writer, and what it has written.
type model struct {
	c *redis.Client

	mu      sync.Mutex
	n       int   // transactions so far
	flushes []int // those that were FLUSHALL
}

// at returns the value of a key in state n: the number of the transaction that
// wrote it last; 0 is none.
func (m *model) at(n, key int) int {
	last := n - (n-key+modelKeys)%modelKeys // the greatest up to n that is key modulo modelKeys
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range slices.Backward(m.flushes) {
		if last == f { // the transaction itself was the flush
			last -= modelKeys
		}
		if f <= n && last < f {
			return 0
		}
	}
	return max(last, 0)
}

func (m *model) state() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.n
}

// step does one transaction.
func (m *model) step(ctx context.Context, flush bool) error {
	m.mu.Lock()
	m.n++
	n := m.n
	if flush {
		m.flushes = append(m.flushes, n)
	}
	m.mu.Unlock()
	change := []string{"SET", "m:" + strconv.Itoa(n%modelKeys), value(n)}
	if flush {
		change = []string{"FLUSHALL"}
	}
	replies, err := m.c.Pipeline(ctx, []string{"MULTI"}, change, []string{"SET", sequenceKey, strconv.Itoa(n)}, []string{"EXEC"})
	for _, r := range replies {
		if e, ok := r.(error); ok {
			err = errors.Join(err, e)
		}
	}
	return err
}

// value is what transaction n writes: about 100 bytes that tell n.
func value(n int) string { return strings.Repeat(strconv.Itoa(n)+" ", 100/(len(strconv.Itoa(n))+1)) }

// check holds the data of a server to the model: it is a state from..to.
func (m *model) check(ctx context.Context, c *redis.Client, from, to int) error {
	v, err := c.Do(ctx, "GET", sequenceKey)
	if err != nil {
		return err
	}
	text, _ := v.(string)
	n, err := strconv.Atoi(text)
	if err != nil || n < from || n > to {
		return fmt.Errorf("the data is of state %q, the snapshot was taken between %d and %d", text, from, to)
	}
	args := []string{"MGET", markerKey}
	for key := range modelKeys {
		args = append(args, "m:"+strconv.Itoa(key))
	}
	v, err = c.Do(ctx, args...)
	if err != nil {
		return err
	}
	values, _ := v.([]any)
	if len(values) != modelKeys+1 {
		return fmt.Errorf("MGET: %d values", len(values))
	}
	count := int64(1)
	if values[0] != nil {
		count++
	}
	for key := range modelKeys {
		want := any(nil)
		if last := m.at(n, key); last > 0 {
			want = value(last)
			count++
		}
		if values[key+1] != want {
			return fmt.Errorf("state %d: key %d is %.20q, want %.20q", n, key, values[key+1], want)
		}
	}
	if size, err := c.Do(ctx, "DBSIZE"); err != nil || size != count {
		return fmt.Errorf("state %d: %v keys, %w, want %d", n, size, err, count)
	}
	return nil
}

// chaosResult is what came of a number of rounds.
type chaosResult struct {
	source           string
	rounds, taken    int
	refused          map[string]int
	falses, failures []string
}

// chaos does so many rounds with a source.
func chaos(ctx context.Context, s settings, source string, rounds int) *chaosResult {
	res := &chaosResult{source: source, refused: map[string]int{}}
	t := &trial{name: "chaos", binary: s.binary, random: rand.New(rand.NewPCG(s.seed, 1))}
	t.run(ctx, func(t *trial) {
		w := newWorld(t, options{keys: 1, dir: t.TempDir(), redis: []string{"--save", "3600 1", "--stop-writes-on-bgsave-error", "no",
			"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"}}).with("REDIS_SIDECAR_BACKUP_SOURCE="+source, "REDIS_SIDECAR_BACKUP_RETENTION_KEEP_LAST=3")
		m := &model{c: w.redis.Client(t)}
		if err := m.step(ctx, true); err != nil {
			t.Fatal(err)
		}
		for range 2 * modelKeys {
			if err := m.step(ctx, false); err != nil {
				t.Fatal(err)
			}
		}
		for round := range rounds {
			if ctx.Err() != nil {
				return
			}
			res.rounds++
			w.chaosRound(m, res, round)
			if res.rounds%25 == 0 {
				fmt.Fprintf(s.log, "chaos, %s: %d rounds, %d snapshots, refused %v, false %d\n", source, res.rounds, res.taken, res.refused, len(res.falses))
			}
		}
	})
	for _, v := range t.broken {
		res.failures = append(res.failures, v.text)
	}
	return res
}

// chaosRound takes one snapshot.
func (w *world) chaosRound(m *model, res *chaosResult, round int) {
	w.redis.Do(w, "CONFIG", "SET", "rdb-key-save-delay", strconv.Itoa([]int{0, 0, 100, 500, 2000}[w.random.IntN(5)]))
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	flush := -1
	if w.random.IntN(3) == 0 {
		flush = w.random.IntN(60)
	}
	var plan []string
	for range w.random.IntN(4) {
		plan = append(plan, []string{"BGSAVE", "SAVE", "BGREWRITEAOF", "kill", "sync"}[w.random.IntN(5)])
	}
	var delays []time.Duration
	for range plan {
		delays = append(delays, time.Duration(w.random.IntN(120))*time.Millisecond)
	}
	from, saves := m.state(), w.truth.saves()
	var others sync.WaitGroup
	others.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if err := m.step(w.ctx, i == flush); err != nil {
				w.Errorf("round %d: write: %v", round, err)
				return
			}
			wait(ctx, time.Millisecond)
		}
	})
	c := w.redis.Client(w)
	others.Go(func() {
		for i, act := range plan {
			wait(ctx, delays[i])
			switch act {
			case "kill":
				w.killChildren()
			case "sync":
				w.startSync(ctx)
			default:
				_, _ = c.Do(ctx, act) // refused when it is not its time
			}
		}
	})
	run := w.start("backup", "now", "--prune")
	code := run.wait(w, 2*time.Minute)
	stop()
	others.Wait()
	w.settingsKept()
	to := m.state()
	if code != 0 {
		cause := short(run.cause())
		if cause == "" {
			res.failures = append(res.failures, fmt.Sprintf("round %d: exit code %d, and standard error is %q", round, code, run.stderr.String()))
		}
		res.refused[cause]++
	}
	var fresh []string
	for _, id := range w.ids() {
		if !w.listed[id] {
			w.listed[id] = true
			fresh = append(fresh, id)
		}
	}
	if (code == 0) != (len(fresh) == 1) {
		res.falses = append(res.falses, fmt.Sprintf("round %d: exit code %d, new snapshots %q", round, code, fresh))
	}
	for _, id := range fresh {
		res.taken++
		if err := w.chaosCheck(m, id, res.source, from, to, saves); err != nil {
			res.falses = append(res.falses, fmt.Sprintf("round %d, %v %v, flush at %d: snapshot %s: %v", round, plan, delays, flush, id, err))
		}
	}
}

// chaosCheck restores a snapshot and holds it to the model, and to the truth.
func (w *world) chaosCheck(m *model, id, source string, from, to, saves int) error {
	dir := w.TempDir()
	defer os.RemoveAll(dir)
	w.must("restore", "--restore.dir="+dir, "--restore.from="+id)
	r := testenv.NewRedis(w, dir, "--appendonly", "no")
	if log, err := r.TryStart(w); err != nil {
		return fmt.Errorf("the server does not start: %w\n%s", err, tail(log))
	}
	defer r.Kill(w)
	c := r.Client(w)
	if err := m.check(w.ctx, c, from, to); err != nil || source != "bgsave" {
		return err
	}
	marker, err := c.Do(w.ctx, "GET", markerKey)
	if err != nil {
		return err
	}
	text, _ := marker.(string)
	return w.truth.check(text, r.Digest(w), saves)
}

// killChildren kills whatever child of the server runs; none is fine.
func (w *world) killChildren() {
	for _, pid := range children(w.redis.Pid) {
		kill(pid)
	}
}

// startSync has the server begin the sync of a replica, which is cut soon.
func (w *world) startSync(ctx context.Context) {
	c := redis.New(redis.Options{Addr: w.redis.Addr, Timeout: time.Second})
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 150*time.Millisecond)
	defer cancel()
	data, err := c.Replicate(ctx, 0, func(string, int64) {})
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, data)
	_ = data.Close()
}

// chaosTable prints the results; the error says what is wrong.
func chaosTable(to io.Writer, results []*chaosResult) error {
	fmt.Fprintf(to, "\n### Chaos\n\n| source | rounds | snapshots | false | refused | why |\n|---|---|---|---|---|---|\n")
	var wrong []string
	for _, r := range results {
		var why []string
		refused := 0
		for cause, n := range r.refused {
			refused += n
			why = append(why, fmt.Sprintf("%d × %s", n, cause))
		}
		slices.Sort(why)
		fmt.Fprintf(to, "| %s | %d | %d | %d | %d | %s |\n", r.source, r.rounds, r.taken, len(r.falses), refused, strings.Join(why, "; "))
		wrong = append(append(wrong, r.falses...), r.failures...)
		if r.taken == 0 {
			wrong = append(wrong, r.source+": no snapshot at all")
		}
	}
	for _, text := range wrong {
		fmt.Fprintln(to, text)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("chaos: %d × wrong", len(wrong))
	}
	return nil
}
