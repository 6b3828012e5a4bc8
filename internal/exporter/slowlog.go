package exporter

import (
	"log/slog"
	"strconv"
	"strings"
	"time"
)

const (
	// slowlogBatch is how many new entries of the slow log one scrape reads at
	// most: slowlog-max-len by default.
	slowlogBatch = 128
	// slowlogCommands is how many commands have a histogram of their own.
	slowlogCommands = 100
	// otherCommand is the label of all others, and of names that are no command's.
	otherCommand = "other"
)

// slowlog is the collector of the slow log: its length, its newest entry, and a
// histogram of the entries that were made since this process started.
type slowlog struct {
	length, lastID, lastDuration *family
	durations, missed            *family
	edges                        []float64 // of durations, in seconds
	log                          *slog.Logger

	// What was seen of the server's log so far.
	known  bool
	runID  string
	newest int64 // number of the newest entry counted; -1 = none
	at     time.Time

	seen   map[string]*slowCommand
	misses float64
}

// slowCommand counts the entries of one command.
type slowCommand struct {
	counts []uint64 // by edge, not cumulative; the last one is above all edges
	total  uint64
	sum    float64
}

// slowEntry is one entry of the slow log.
type slowEntry struct {
	id, usec int64
	args     []any
	client   string
}

func newSlowlog(c *catalog, opts CollectOptions) *slowlog {
	s := &slowlog{
		length: c.add(typeGauge, "slowlog_length", "SLOWLOG LEN",
			"Entries in the slow log."),
		lastID: c.add(typeGauge, "slowlog_last_id", "SLOWLOG GET 1",
			"Number of the newest entry of the slow log; 0 also when there is none."),
		lastDuration: c.add(typeGauge, "last_slow_execution_duration_seconds", "SLOWLOG GET 1",
			"Seconds the command in the newest entry of the slow log took; 0 when there is none."),
		durations: c.add(typeHistogram, "slowlog_execution_duration_seconds", "SLOWLOG GET",
			"Seconds of the slow executions of a command that were logged since the sidecar started.", "cmd"),
		missed: c.add(typeCounter, "slowlog_missed_entries_total", "SLOWLOG GET",
			"Entries of the slow log that were gone before they could be read, since the sidecar started."),
		edges: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		seen:  make(map[string]*slowCommand),
	}
	if opts.LogSlowlog {
		s.log = opts.log
	}
	return s
}

func (c *slowlog) name() string { return "slowlog" }

func (c *slowlog) ask(server traits) []command {
	if server.sentinel {
		return nil
	}
	return []command{
		{"slowlog|len", []string{"SLOWLOG", "LEN"}},
		{"slowlog|get", []string{"SLOWLOG", "GET", "1"}},
	}
}

// follow asks for the new entries when there is more than one: one is all that
// was asked for, so that a full log costs nothing while nothing happens.
func (c *slowlog) follow(r *reading, replies []any) [][]string {
	if len(replies) < 2 {
		return nil
	}
	list, _ := replies[1].([]any)
	if len(list) == 0 {
		return nil
	}
	entry, ok := entryOf(list[0])
	if !ok || !c.meet(r, entry.id) || entry.id-c.newest < 2 {
		return nil
	}
	// Some more than are known of: others come while this is asked.
	const more = 16
	return [][]string{{"SLOWLOG", "GET", strconv.FormatInt(min(entry.id-c.newest+more, slowlogBatch), 10)}}
}

// meet tells whether the log is the one that was seen before, so that entries
// after c.newest are new. The first look at a server counts nothing: nobody
// knows how old its entries are. Those of a server that started since the last
// look are all new.
func (c *slowlog) meet(r *reading, newest int64) bool {
	if c.known && c.runID == r.server.runID && newest >= c.newest {
		return true
	}
	uptime, ok := r.info.Int("uptime_in_seconds")
	fresh := c.known && c.runID != r.server.runID && ok && !r.at.Add(-time.Duration(uptime)*time.Second).Before(c.at)
	c.known, c.runID, c.newest = true, strings.Clone(r.server.runID), newest
	if fresh {
		c.newest = -1
	}
	return fresh
}

func (c *slowlog) collect(r *reading, replies []any, out *sink) error {
	if len(replies) == 0 {
		return nil
	}
	switch n := replies[0].(type) {
	case nil:
	case int64:
		out.set(c.length, float64(n))
	default:
		return odd("SLOWLOG LEN", n)
	}
	if replies[1] == nil {
		return nil
	}
	list, ok := replies[1].([]any)
	if !ok {
		return odd("SLOWLOG GET", replies[1])
	}
	var last slowEntry
	if len(list) > 0 {
		if last, ok = entryOf(list[0]); !ok {
			return odd("SLOWLOG GET", list[0])
		}
	}
	out.set(c.lastID, float64(last.id))
	out.set(c.lastDuration, float64(last.usec)/1e6)

	err := c.count(r, list)
	var buckets []bucket
	for name, cmd := range c.seen {
		buckets = cmd.cumulated(buckets[:0], c.edges)
		out.histogram(c.durations, cmd.total, cmd.sum, buckets, name)
	}
	out.set(c.missed, c.misses)
	return err
}

// count adds the new entries. list is the reply to SLOWLOG GET 1; when there is
// more than one new entry, they are in the reply that follow asked for.
func (c *slowlog) count(r *reading, list []any) error {
	if len(list) == 0 {
		if !c.known || c.runID != r.server.runID {
			c.meet(r, -1)
		}
		c.at = r.at
		return nil
	}
	first, _ := entryOf(list[0])
	c.meet(r, first.id)
	if first.id-c.newest >= 2 {
		more, _ := r.followed[c.name()]
		if len(more) == 0 {
			return nil // the server did not say: the next scrape asks again
		}
		var ok bool
		if list, ok = more[0].([]any); !ok {
			return odd("SLOWLOG GET", more[0])
		}
	}
	newest, read := c.newest, int64(0)
	for _, item := range list[:min(len(list), slowlogBatch)] {
		entry, ok := entryOf(item)
		if !ok {
			return odd("SLOWLOG GET", item)
		}
		if entry.id <= c.newest {
			continue
		}
		newest = max(newest, entry.id)
		read++
		c.observe(r, entry)
	}
	c.misses += float64(max(newest-c.newest-read, 0))
	c.newest, c.at = newest, r.at
	return nil
}

// observe counts one new entry, and logs it where that is asked for.
func (c *slowlog) observe(r *reading, entry slowEntry) {
	name := c.commandOf(r, entry.args)
	cmd := c.seen[name]
	if cmd == nil {
		if len(c.seen) >= slowlogCommands {
			name = otherCommand
			cmd = c.seen[name]
		}
		if cmd == nil {
			cmd = &slowCommand{counts: make([]uint64, len(c.edges)+1)}
			c.seen[strings.Clone(name)] = cmd // not a part of the whole reply
		}
	}
	seconds := float64(max(entry.usec, 0)) / 1e6
	i := 0
	for i < len(c.edges) && seconds > c.edges[i] {
		i++
	}
	cmd.counts[i]++
	cmd.total++
	cmd.sum += seconds
	if c.log != nil {
		c.log.Info("slow command", "command", name, "duration", time.Duration(max(entry.usec, 0))*time.Microsecond, "client", entry.client)
	}
}

// commandOf returns the name of the command that an entry shows, as INFO
// commandstats has it: in lower case, and of a subcommand both words. What that
// section does not know is "other": nothing a client may have typed becomes a
// label, nor the secret name that rename-command gave.
func (c *slowlog) commandOf(r *reading, args []any) string {
	if len(args) == 0 {
		return otherCommand
	}
	name, _ := args[0].(string)
	name = strings.ToLower(name)
	if len(args) > 1 {
		if sub, ok := args[1].(string); ok && len(sub) <= labelLimit {
			if both := name + "|" + strings.ToLower(sub); r.knows(both) {
				return both
			}
		}
	}
	if r.knows(name) {
		return name
	}
	return otherCommand
}

// knows tells whether INFO commandstats has a command of that name.
func (r *reading) knows(cmd string) bool {
	_, ok := r.commands[cmd]
	return ok
}

// cumulated appends the buckets to dst.
func (s *slowCommand) cumulated(dst []bucket, edges []float64) []bucket {
	sum := uint64(0)
	for i, edge := range edges {
		sum += s.counts[i]
		dst = append(dst, bucket{edge, sum})
	}
	return dst
}

// entryOf reads number, Unix time, microseconds, arguments and, since Redis 4.0,
// the client's address and name.
func entryOf(item any) (entry slowEntry, ok bool) {
	list, _ := item.([]any)
	if len(list) < 3 {
		return entry, false
	}
	var ok1, ok2 bool
	entry.id, ok1 = list[0].(int64)
	entry.usec, ok2 = list[2].(int64)
	if len(list) > 3 {
		entry.args, _ = list[3].([]any)
	}
	if len(list) > 4 {
		client, _ := list[4].(string)
		entry.client = labelValue(client)
	}
	return entry, ok1 && ok2 && entry.id >= 0
}
