package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// column is a figure of the table.
type column struct {
	title  string
	format string
	of     func(*subject) float64
	goal   func(goals) float64 // of the ratio; nil: there is none
	alone  bool                // a ratio says nothing
}

func columns() []column {
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	took := func(title string, of func(repetition) time.Duration, goal func(goals) float64) column {
		return column{title + " ms", "%.2f", func(s *subject) float64 { return ms(over(s, of)) }, goal, false}
	}
	number := func(title, format string, of func(repetition) float64) column {
		return column{title, format, func(s *subject) float64 { return over(s, of) }, nil, false}
	}
	cpu := func(r repetition) time.Duration { return r.cpu }
	redisCPU := func(r repetition) time.Duration { return r.redisCPU }
	return []column{
		took("p50", func(r repetition) time.Duration { return r.p50 }, func(g goals) float64 { return g.p50 }),
		took("p90", func(r repetition) time.Duration { return r.p90 }, nil),
		took("p99", func(r repetition) time.Duration { return r.p99 }, nil),
		took("CPU", cpu, func(g goals) float64 { return g.cpu }),
		took("Redis CPU", redisCPU, func(g goals) float64 { return g.redisCPU }),
		{"CPU ms in 15s", "%.1f", func(s *subject) float64 { return ms(over(s, cpu) + s.rest.cpu) }, nil, false},
		{redisInterval, "%.1f", func(s *subject) float64 { return ms(over(s, redisCPU) + s.rest.redisCPU) }, nil, true},
		number("commands", "%.1f", func(r repetition) float64 { return r.commands }),
		number("connections", "%.1f", func(r repetition) float64 { return r.connected }),
		number("kB from Redis", "%.1f", func(r repetition) float64 { return r.out / 1000 }),
		number("kB of body", "%.1f", func(r repetition) float64 { return r.body / 1000 }),
		number("objects", "%.0f", allocated),
		{"resident MiB", "%.1f", func(s *subject) float64 { return float64(s.resident) / mib }, nil, false},
	}
}

const (
	mib           = 1 << 20
	redisInterval = "Redis CPU ms in 15s" // scrapeInterval
)

func allocated(r repetition) float64 { return r.objects }

// over returns the median of a figure over the repetitions.
func over[T float64 | time.Duration](s *subject, of func(repetition) T) T {
	values := make([]T, len(s.repetitions))
	for i, r := range s.repetitions {
		values[i] = of(r)
	}
	return median(values)
}

// printTable prints a line for each exporter in each state, one for none, and one
// of the ratios for each but ours, with the goal where there is one.
func printTable(out io.Writer, results []result) {
	list := columns()
	line := func(state, exporter string, cell func(column) string) {
		fmt.Fprintf(out, "| %s | %s |", state, exporter)
		for _, c := range list {
			fmt.Fprintf(out, " %s |", cell(c))
		}
		fmt.Fprintln(out)
	}
	line("state", "exporter", func(c column) string { return c.title })
	fmt.Fprintf(out, "|%s\n", strings.Repeat("---|", 2+len(list)))
	for _, r := range results {
		for _, s := range r.subjects {
			line(r.state.name, s.name, func(c column) string { return number(c.format, c.of(s)) })
		}
		line(r.state.name, "none", func(c column) string {
			if c.title == redisInterval {
				return number(c.format, r.idle.Seconds()*1000)
			}
			return ""
		})
		ours := r.subjects[0]
		for _, s := range r.subjects[1:] {
			line(r.state.name, "ours / "+s.name, func(c column) string {
				goal := 0.0
				if c.alone {
					return ""
				}
				if c.goal != nil {
					goal = c.goal(r.state.goals)
				}
				return ratio(c.of(ours), c.of(s), goal)
			})
		}
	}
}

// number formats a figure; one that is not known is a dash.
func number(format string, v float64) string {
	if v == 0 && format == "%.0f" {
		return "–"
	}
	return fmt.Sprintf(format, v)
}

// ratio formats a/b, compared with a goal unless that is 0.
func ratio(a, b, goal float64) string {
	switch {
	case b == 0:
		return "–"
	case goal == 0:
		return fmt.Sprintf("%.3f", a/b)
	case a/b > goal:
		return fmt.Sprintf("%.3f > %g", a/b, goal)
	default:
		return fmt.Sprintf("%.3f ≤ %g", a/b, goal)
	}
}

// checkLimits prints the figures that have a limit on any machine, and fails when
// one of ours is over it.
func checkLimits(out io.Writer, results []result) error {
	const resident, objects = 20, 2000
	failed := 0
	check := func(what string, measured, limit float64) {
		verdict := "ok"
		if measured > limit {
			verdict = "OVER"
			failed++
		}
		fmt.Fprintf(out, "| %s | %.1f | %g | %s |\n", what, measured, limit, verdict)
	}
	for _, r := range results {
		if r.state.warm != scrapesBeforeMemory {
			continue
		}
		fmt.Fprint(out, "\n| | measured | limit | |\n|---|---|---|---|\n")
		ours := r.subjects[0]
		check(fmt.Sprintf("resident MiB after %d scrapes, %s", scrapesBeforeMemory, ours.name), float64(ours.early)/mib, resident)
		for _, s := range r.subjects[1:] {
			fmt.Fprintf(out, "| … %s, and ours / that | %.1f | | %s |\n", s.name, float64(s.early)/mib, ratio(float64(ours.early), float64(s.early), 1.2))
		}
		if n := over(ours, allocated); n > 0 {
			check("objects allocated for a scrape, "+ours.name, n, objects)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d figures are over their limit", failed)
	}
	return nil
}
