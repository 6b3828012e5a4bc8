package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/test/internal/rig"
)

// scrapeInterval is how often Prometheus comes, for what is used in between.
const scrapeInterval = 15 * time.Second

// result is what was measured in one state.
type result struct {
	state    state
	redis    string // its version
	subjects []*subject
	idle     time.Duration // of Redis, in one scrapeInterval without any exporter
	notes    []string
}

// subject is an exporter under measurement, ours or another one.
type subject struct {
	name    string
	child   *rig.Child
	scraper *rig.Scraper

	repetitions []repetition
	resident    int64 // bytes, after all repetitions
	early       int64 // bytes, before the first repetition
	rest        spent // in one scrapeInterval without any scrape
}

// startOver is after how long an exporter is not starting any more.
const startOver = 3 * time.Second

// spent is time on a core.
type spent struct{ cpu, redisCPU time.Duration }

// repetition is what one scrape costs, seen over a number of them.
type repetition struct {
	p50, p90, p99 time.Duration
	spent
	commands, connected float64
	out                 float64 // bytes that Redis sent
	body                float64 // bytes
	objects             float64 // allocated on the heap; 0 when the exporter does not tell
}

func newSubject(name string, child *rig.Child, url string) *subject {
	return &subject{name: name, child: child, scraper: rig.NewScraper(url + "/metrics")}
}

// measure starts the servers of a state and all exporters, and measures them in
// turn, again and again.
func measure(ctx context.Context, o options, st state) (r result, err error) {
	r.state = st
	s, err := rig.Start(ctx, rig.Options{Binary: o.binary, Config: st.config, Schedule: "@every 24h"})
	if err != nil {
		return r, err
	}
	defer s.Stop()
	if err := st.fill(ctx, s.RedisAddr); err != nil {
		return r, err
	}
	disconnect, err := st.connect(ctx, s.RedisAddr)
	if err != nil {
		return r, err
	}
	defer disconnect()
	addr := s.RedisAddr
	if st.delay > 0 {
		d, err := startDelayer(ctx, addr, st.delay)
		if err != nil {
			return r, err
		}
		defer d.close()
		addr = d.addr
	}
	m := &meter{server: s.Redis.Process, client: redis.New(redis.Options{Addr: s.RedisAddr, Timeout: 20 * time.Second})}
	defer m.client.Close()
	if r.redis, err = m.version(ctx); err != nil {
		return r, err
	}

	ours, note, err := startOurs(ctx, s, o, st, addr)
	if err != nil {
		return r, err
	}
	if note != "" {
		r.notes = append(r.notes, note)
	}
	r.subjects = append(r.subjects, ours)
	for _, other := range o.others {
		sub, err := other.start(ctx, s, st, addr)
		if err != nil {
			return r, err
		}
		r.subjects = append(r.subjects, sub)
	}
	for _, sub := range r.subjects {
		defer sub.scraper.Close()
		if st.clients > 0 && (sub != ours || note == "") {
			if err := sub.shows(ctx, st.clients); err != nil {
				return r, err
			}
		}
	}
	if err := m.all(ctx, r.subjects, st, max(o.n/st.share, 1), o.reps); err != nil {
		return r, err
	}
	err = alone(r.subjects, nil, func() error {
		r.idle, err = m.idle(ctx)
		return err
	})
	return r, err
}

// startOurs starts the program. The note says so when it refuses the state's
// flags, as one of an older version does, and runs without them.
func startOurs(ctx context.Context, s *rig.Servers, o options, st state, redis string) (sub *subject, note string, err error) {
	args := slices.Concat([]string{"--redis.addr=" + redis}, o.agent)
	child, err := s.StartAgent(ctx, slices.Concat(args, st.agent)...)
	if err != nil && len(st.agent) > 0 && child != nil && child.Ended() {
		note = fmt.Sprintf("the program refuses %s and runs without: its figures are not of this state", strings.Join(st.agent, " "))
		child, err = s.StartAgent(ctx, args...)
	}
	if err != nil {
		return nil, "", err
	}
	name := "redis-sidecar"
	if note != "" {
		name += " (see note)"
	}
	return newSubject(name, child, s.AgentURL), note, nil
}

// shows waits until the answer has at least that many lines: a list that is made
// in the background is there.
func (sub *subject) shows(ctx context.Context, lines int) error {
	const patience = 30 * time.Second
	for deadline := time.Now().Add(patience); ; {
		text, err := sub.scraper.Text(ctx)
		if err != nil {
			return err
		}
		if strings.Count(text, "\n") >= lines {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not show %d clients within %s; is its client list on?", sub.name, lines, patience)
		}
		if err := rig.Wait(ctx, time.Second); err != nil {
			return err
		}
	}
}

// meter measures exporters of one server.
type meter struct {
	server rig.Process
	client *redis.Client

	asked, read float64 // commands and bytes of the meter's own
}

// all measures all subjects, n scrapes in each repetition.
func (m *meter) all(ctx context.Context, subjects []*subject, st state, n, reps int) error {
	for i := range reps {
		for _, sub := range subjects {
			if err := alone(subjects, sub, func() error { return m.turn(ctx, sub, st, i == 0, n) }); err != nil {
				return fmt.Errorf("%s: %w", sub.name, err)
			}
		}
	}
	for _, sub := range subjects {
		if err := alone(subjects, sub, func() error { return m.finish(ctx, sub, st.rest) }); err != nil {
			return fmt.Errorf("%s: %w", sub.name, err)
		}
	}
	return nil
}

// turn is one repetition of a subject.
func (m *meter) turn(ctx context.Context, sub *subject, st state, first bool, n int) error {
	warm := min(10, st.warm) // it did not run for a while
	if first {
		warm = st.warm
		// The start is over then, and what only that needed is given back.
		if err := rig.Wait(ctx, startOver); err != nil {
			return err
		}
	}
	for range warm {
		if _, _, err := sub.scraper.Scrape(ctx); err != nil {
			return err
		}
	}
	if first {
		var err error
		if sub.early, err = sub.child.Memory("VmRSS"); err != nil {
			return err
		}
	}
	r, err := m.repetition(ctx, sub, n)
	sub.repetitions = append(sub.repetitions, r)
	return err
}

// finish looks at a subject after all repetitions, and for the time d at what it
// uses while nobody scrapes.
func (m *meter) finish(ctx context.Context, sub *subject, d time.Duration) (err error) {
	if sub.resident, err = sub.child.Memory("VmRSS"); err != nil {
		return err
	}
	before, err := m.usage(ctx, sub)
	if err != nil {
		return err
	}
	if err := rig.Wait(ctx, d); err != nil {
		return err
	}
	after, err := m.usage(ctx, sub)
	if err != nil {
		return err
	}
	sub.rest = after.since(before, after.at.Sub(before.at).Seconds()/scrapeInterval.Seconds())
	return nil
}

// idle returns what the server uses in one scrapeInterval by itself: it looks at
// each of its clients every second.
func (m *meter) idle(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	before, err := m.server.CPU()
	if err != nil {
		return 0, err
	}
	if err := rig.Wait(ctx, 5*time.Second); err != nil {
		return 0, err
	}
	after, err := m.server.CPU()
	return time.Duration(float64(after-before) / (time.Since(start).Seconds() / scrapeInterval.Seconds())), err
}

// alone does something while no subject but one runs, or none at all: what the
// others do by themselves would be counted as that one's.
func alone(subjects []*subject, one *subject, do func() error) error {
	for _, sub := range subjects {
		if sub == one {
			continue
		}
		if err := sub.child.Pause(); err != nil {
			return err
		}
		defer func() { _ = sub.child.Continue() }() // an error means that it has ended, as the next scrape will tell
	}
	return do()
}

// repetition scrapes n times.
func (m *meter) repetition(ctx context.Context, sub *subject, n int) (repetition, error) {
	var r repetition
	objects, err := sub.objects(ctx)
	if err != nil {
		return r, err
	}
	before, err := m.usage(ctx, sub)
	if err != nil {
		return r, err
	}
	took := make([]time.Duration, n)
	for i := range took {
		var size int64
		if took[i], size, err = sub.scraper.Scrape(ctx); err != nil {
			return r, err
		}
		r.body = float64(size)
	}
	after, err := m.usage(ctx, sub)
	if err != nil {
		return r, err
	}
	if objects > 0 {
		now, err := sub.objects(ctx)
		if err != nil {
			return r, err
		}
		r.objects = (now - objects) / float64(n+1) // what it shows now is of before this last one
	}
	slices.Sort(took)
	r.p50, r.p90, r.p99 = quantile(took, 0.5), quantile(took, 0.9), quantile(took, 0.99)
	r.spent = after.since(before, float64(n))
	r.commands = (after.commands - before.commands) / float64(n)
	r.connected = (after.connected - before.connected) / float64(n)
	r.out = (after.out - before.out) / float64(n)
	return r, nil
}

// usage is what was used up to a moment.
type usage struct {
	at                       time.Time
	cpu, redisCPU            time.Duration
	commands, connected, out float64
}

// since returns what was spent since an earlier moment, for each of n.
func (u usage) since(before usage, n float64) spent {
	return spent{
		cpu:      time.Duration(float64(u.cpu-before.cpu) / n),
		redisCPU: time.Duration(float64(u.redisCPU-before.redisCPU) / n),
	}
}

// usage asks for it. What that itself costs is taken off.
func (m *meter) usage(ctx context.Context, sub *subject) (u usage, err error) {
	reply, err := m.client.Do(ctx, "INFO", "stats")
	if err != nil {
		return u, err
	}
	text, ok := reply.(string)
	if !ok {
		return u, fmt.Errorf("INFO stats: got %T", reply)
	}
	stats := info.Parse(text)
	for field, to := range map[string]*float64{
		"total_commands_processed": &u.commands, "total_connections_received": &u.connected, "total_net_output_bytes": &u.out,
	} {
		if *to, err = strconv.ParseFloat(stats.Get(field), 64); err != nil {
			return u, fmt.Errorf("INFO stats: %s: %w", field, err)
		}
	}
	// An INFO counts from its end on: only the next one sees it.
	u.commands -= m.asked
	u.out -= m.read
	m.asked++
	m.read += float64(len("$\r\n\r\n") + len(strconv.Itoa(len(text))) + len(text))
	if u.cpu, err = sub.child.CPU(); err != nil {
		return u, err
	}
	u.redisCPU, err = m.server.CPU()
	u.at = time.Now()
	return u, err
}

func (m *meter) version(ctx context.Context) (string, error) {
	in, err := m.client.Info(ctx, "server")
	return in.Get("redis_version"), err
}

// objects returns how many objects the exporter has allocated so far, 0 when its
// metrics do not tell.
func (sub *subject) objects(ctx context.Context) (float64, error) {
	text, err := sub.scraper.Text(ctx)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "go_gc_heap_allocs_objects_total" || name == "go_memstats_mallocs_total" {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, nil
}

// quantile returns the smallest of the sorted values that is not less than a share
// of them.
func quantile(sorted []time.Duration, share float64) time.Duration {
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

// median returns the value in the middle, of an even number the mean of two.
func median[T float64 | time.Duration](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
