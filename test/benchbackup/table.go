package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// goal is a ratio that the project holds itself to.
type goal struct {
	what  string
	value float64
	limit float64
	most  bool // limit is an upper one
	unit  string
}

func (g goal) met() bool {
	if g.most {
		return g.value <= g.limit
	}
	return g.value >= g.limit
}

func run(ctx context.Context, o options, out io.Writer) (missed int, err error) {
	if _, err := os.Stat(o.binary); err != nil {
		return 0, fmt.Errorf("%w: make build", err)
	}
	if !o.agent {
		o.skip = append(o.skip, "agent")
	}
	b, err := start(ctx, o)
	if err != nil {
		return 0, err
	}
	defer b.stop()
	keys, err := fill(ctx, b.client, int64(o.gib*(1<<30)))
	if err != nil {
		return 0, err
	}
	if err := b.makeKeys(ctx); err != nil {
		return 0, err
	}
	if _, err := b.bgsave(ctx); err != nil {
		return 0, err
	}
	st, err := os.Stat(b.dump())
	if err != nil {
		return 0, err
	}
	in, err := b.client.Info(ctx, "server")
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(out, "%d keys, %.2f GiB in memory, RDB of %d MB; Redis %s, %d cores (%s), load %s\n", keys, o.gib, st.Size()/1e6, in.Get("redis_version"), runtime.NumCPU(), cpuName(), loadAverage())
	for _, kind := range o.stores {
		s, err := b.startS3(ctx, kind)
		if err != nil {
			return missed, err
		}
		results, err := s.measure(ctx, out)
		s.stop()
		if err != nil {
			return missed, err
		}
		n, err := s.print(out, results)
		if err != nil {
			return missed, err
		}
		missed += n
	}
	return missed, nil
}

// print writes the table of one store and its goals.
func (s *s3) print(out io.Writer, results map[string][]cost) (missed int, err error) {
	over := "loopback"
	if s.mbit > 0 {
		over = fmt.Sprintf("a link of %.0f Mbit/s", s.mbit)
	}
	fmt.Fprintf(out, "\n%s over %s, medians of %d\n\n", s.kind, over, s.reps)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "seconds\tMB of RDB\tMB/s\tCPU s\tpeak MiB\t  \t")
	for _, w := range s.ways() {
		r := results[w.name]
		wall := median(r, func(c cost) float64 { return c.wall.Seconds() })
		size := median(r, func(c cost) float64 { return float64(c.rdb) / 1e6 })
		fmt.Fprintf(t, "%.2f\t%.0f\t%.0f\t%.2f\t%d\t  %s\t\n", wall, size, size/wall, median(r, func(c cost) float64 { return c.cpu.Seconds() }), peak(r)>>20, w.name)
	}
	if err := t.Flush(); err != nil {
		return 0, err
	}
	fmt.Fprintln(out)
	for _, g := range s.goals(results) {
		verdict, sign := "ok", "≥"
		if g.most {
			sign = "≤"
		}
		if !g.met() {
			verdict = "MISSED"
			missed++
		}
		fmt.Fprintf(out, "%-7s%.2f%s %s %.4g  %s\n", verdict, g.value, g.unit, sign, g.limit, g.what)
	}
	return missed, nil
}

func (s *s3) goals(results map[string][]cost) []goal {
	wall := func(name string) float64 {
		return median(results[name], func(c cost) float64 { return c.wall.Seconds() })
	}
	var all []goal
	for _, name := range []string{wayServer, wayNow, wayEncrypted, wayAgent} {
		if len(results[name]) == 0 {
			continue
		}
		if len(results[wayAWS]) > 0 && name != wayServer { // with LZF BGSAVE alone takes longer
			all = append(all, goal{strings.TrimPrefix(name, "… ") + " / " + wayAWS, wall(name) / wall(wayAWS), 0.6, true, ""})
		}
		all = append(all, goal{strings.TrimPrefix(name, "… ") + " / " + wayBGSave, wall(name) / wall(wayBGSave), 1.15, true, ""})
	}
	if len(results[wayGetAWS]) > 0 {
		for _, name := range []string{wayVerify, wayRestore} {
			all = append(all, goal{"speed of " + name + " / " + wayGetAWS, wall(wayGetAWS) / wall(name), 2, false, ""})
		}
	}
	var most int64
	for _, w := range s.ways() {
		if w.ours {
			most = max(most, peak(results[w.name]))
		}
	}
	return append(all, goal{"peak memory of redis-sidecar", float64(most) / (1 << 20), 64, true, " MiB"})
}

func median(list []cost, of func(cost) float64) float64 {
	values := make([]float64, len(list))
	for i, c := range list {
		values[i] = of(c)
	}
	slices.Sort(values)
	n := len(values)
	if n == 0 {
		return 0
	}
	return (values[(n-1)/2] + values[n/2]) / 2
}

func peak(list []cost) int64 {
	if len(list) == 0 {
		return 0
	}
	return slices.MaxFunc(list, func(a, b cost) int { return cmp.Compare(a.peak, b.peak) }).peak
}

func cpuName() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// loadAverage is that of the last minute: times are worth little when it is more
// than the number of cores.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	one, _, _ := strings.Cut(string(text), " ")
	return one
}
