package exporter

import (
	"math"
	"strings"
)

// quantileLimit is how many quantiles a command may have: latency-tracking-info-percentiles
// is a list that a user can make long.
const quantileLimit = 32

// commandTotals is what the server counted for a command since the start.
type commandTotals struct {
	calls uint64
	usec  float64
}

// commands is the collector of INFO commandstats and latencystats.
type commands struct {
	infoOnly
	calls, seconds, rejected, failed, latency *family
	slow, slowSeconds, slowest                *family

	lines []named[string] // see section
}

func newCommands(c *catalog) *commands {
	return &commands{
		calls: c.add(typeCounter, "commands_total", "INFO commandstats",
			"Calls of a command that were executed.", "cmd"),
		seconds: c.add(typeCounter, "commands_duration_seconds_total", "INFO commandstats",
			"Seconds spent in a command.", "cmd"),
		rejected: c.add(typeCounter, "commands_rejected_calls_total", "INFO commandstats",
			"Calls of a command that were refused before they were executed: wrong arguments, no permission, out of memory.", "cmd"),
		failed: c.add(typeCounter, "commands_failed_calls_total", "INFO commandstats",
			"Calls of a command that were executed and ended with an error.", "cmd"),
		slow: c.add(typeCounter, "commands_slowlog_total", "INFO commandstats",
			"Calls of a command that went into the slow log (since Redis 8.8).", "cmd"),
		slowSeconds: c.add(typeCounter, "commands_slowlog_duration_seconds_total", "INFO commandstats",
			"Seconds spent in those calls of a command that went into the slow log (since Redis 8.8).", "cmd"),
		slowest: c.add(typeGauge, "commands_slowlog_duration_seconds_max", "INFO commandstats",
			"Seconds of the slowest call of a command that went into the slow log (since Redis 8.8).", "cmd"),
		latency: c.add(typeSummary, "latency_percentiles_usec", "INFO latencystats, commandstats",
			"Time of the calls of a command in microseconds; the quantiles are percentages, and cover the time since the server's start.", "cmd"),
	}
}

func (c *commands) name() string { return "commands" }

func (c *commands) collect(r *reading, _ []any, out *sink) error {
	defer func() { clear(c.lines[:cap(c.lines)]) }() // they are parts of the reply
	stats := c.section(r, "commandstats", "cmdstat_")
	r.commands = make(map[string]commandTotals, len(stats))
	exact := make(map[string]commandTotals, len(stats))
	for _, stat := range stats {
		cmd, line := stat.name, stat.value
		totals, ok := c.command(cmd, line, out)
		if !ok {
			continue
		}
		exact[cmd] = totals
		r.add(cmd, totals)
		if container, _, sub := strings.Cut(cmd, "|"); sub {
			r.add(container, totals)
		}
	}
	var points []quantile
	for _, stat := range c.section(r, "latencystats", "latency_percentiles_usec_") {
		cmd, line := stat.name, stat.value
		totals, known := exact[cmd]
		if !known {
			continue
		}
		points = points[:0]
		for key, value := range pairs(line) {
			percent, isPercentile := strings.CutPrefix(key, "p")
			p, ok1 := number(percent)
			v, ok2 := number(value)
			if isPercentile && ok1 && ok2 && len(points) < quantileLimit && !hasQuantile(points, p) {
				points = append(points, quantile{p, v})
			}
		}
		out.summary(c.latency, totals.calls, totals.usec, points, cmd)
	}
	return nil
}

// section returns the lines of a section of INFO by command, in order. They are
// good until it is called again.
func (c *commands) section(r *reading, section, prefix string) []named[string] {
	c.lines = c.lines[:0]
	for name, line := range r.info.Section(section) {
		if cmd, ok := strings.CutPrefix(name, prefix); ok && cmd != "" {
			c.lines = append(c.lines, named[string]{cmd, len(c.lines), line})
		}
	}
	order(c.lines)
	return c.lines
}

// command reads "calls=21,usec=175,usec_per_call=8.33,rejected_calls=0,failed_calls=0";
// the last two are there since 6.2, and since 8.8 slowlog_count, slowlog_time_ms_sum
// and slowlog_time_ms_max.
func (c *commands) command(cmd, line string, out *sink) (totals commandTotals, ok bool) {
	for key, v := range numbers(line) {
		switch key {
		case "calls":
			totals.calls, ok = whole(v), true
			out.set(c.calls, v, cmd)
		case "usec":
			totals.usec = v
			out.set(c.seconds, v/1e6, cmd)
		case "rejected_calls":
			out.set(c.rejected, v, cmd)
		case "failed_calls":
			out.set(c.failed, v, cmd)
		case "slowlog_count":
			out.set(c.slow, v, cmd)
		case "slowlog_time_ms_sum":
			out.set(c.slowSeconds, v/1e3, cmd)
		case "slowlog_time_ms_max":
			out.set(c.slowest, v/1e3, cmd)
		}
	}
	return totals, ok
}

// add adds to what is known of a command or container command.
func (r *reading) add(cmd string, t commandTotals) {
	sum := r.commands[cmd]
	r.commands[cmd] = commandTotals{sum.calls + t.calls, sum.usec + t.usec}
}

func hasQuantile(points []quantile, p float64) bool {
	for _, q := range points {
		if q.quantile == p {
			return true
		}
	}
	return false
}

// whole returns v as a count.
func whole(v float64) uint64 {
	if v < 0 || v >= math.MaxUint64 {
		return 0
	}
	return uint64(v)
}
