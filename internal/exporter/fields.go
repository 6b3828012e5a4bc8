package exporter

import (
	"iter"
	"math"
	"strconv"
	"strings"
)

// field is a row of the table: one numeric field of INFO, exported as it is.
type field struct {
	info   string // name in INFO
	metric string // name of the metric, without the namespace
	kind   fieldKind
	help   string
}

// fieldKind says how the value of a field becomes that of a metric.
type fieldKind uint8

const (
	gauge         fieldKind = iota
	counter                 // as it is, of type counter
	gaugeMicros             // microseconds in INFO, seconds in the metric
	gaugeMillis             // milliseconds in INFO, seconds in the metric
	counterMillis           // likewise, of type counter
	gaugePercent            // percent in INFO, a share from 0 to 1 in the metric
)

// fields is the collector of everything in INFO that is one number with one name.
type fields struct {
	infoOnly
	byField  map[string]column
	ioThread *family

	threadClients, threadReads, threadWrites *family
}

// column is where a field of INFO goes.
type column struct {
	family  *family
	divisor float64
}

func newFields(c *catalog) *fields {
	f := &fields{byField: make(map[string]column)}
	for _, table := range [][]field{redisFields(), newerFields(), kinFields(), moduleFields()} {
		for _, row := range table {
			f.byField[row.info] = row.describe(c)
		}
	}
	f.ioThread = c.add(typeCounter, "active_time_io_thread_seconds_total", "INFO used_active_time_io_thread_N",
		"Seconds an I/O thread was busy (Valkey).", "thread")
	f.threadClients = c.add(typeGauge, "io_thread_clients", "INFO io_thread_N",
		"Clients that an I/O thread serves; 0 is the main thread (since Redis 8.0).", "thread")
	f.threadReads = c.add(typeCounter, "io_thread_reads_total", "INFO io_thread_N",
		"Reads from client sockets by an I/O thread (since Redis 8.0).", "thread")
	f.threadWrites = c.add(typeCounter, "io_thread_writes_total", "INFO io_thread_N",
		"Writes to client sockets by an I/O thread (since Redis 8.0).", "thread")
	return f
}

func (row field) describe(c *catalog) column {
	kind, divisor := typeGauge, 1.0
	switch row.kind {
	case counter:
		kind = typeCounter
	case gaugeMicros:
		divisor = 1e6
	case gaugeMillis:
		divisor = 1e3
	case counterMillis:
		kind, divisor = typeCounter, 1e3
	case gaugePercent:
		divisor = 100
	}
	source := "INFO"
	if strings.HasPrefix(strings.TrimPrefix(row.info, "total_"), "cluster_") && row.info != "cluster_enabled" && row.info != "cluster_connections" {
		source = "CLUSTER INFO"
	}
	return column{c.add(kind, row.metric, source+" "+row.info, row.help), divisor}
}

func (f *fields) name() string { return "info" }

func (f *fields) collect(r *reading, _ []any, out *sink) error {
	for name, value := range r.info.All() {
		f.emit(name, value, out)
	}
	return nil
}

// emit exports one field, if it is in the table or has a prefix that is passed
// through, and if its value is a number or a known word.
func (f *fields) emit(name, value string, out *sink) {
	if col, ok := f.byField[name]; ok {
		if v, ok := number(value); ok {
			out.set(col.family, v/col.divisor)
		}
		return
	}
	switch {
	case strings.HasPrefix(name, "cluster_"), strings.HasPrefix(name, "db"):
		if v, ok := number(value); ok && len(name) <= labelLimit {
			out.pass(metricName(name), passHelp, v)
		}
	case strings.HasPrefix(name, "used_active_time_io_thread_"):
		thread := name[len("used_active_time_io_thread_"):]
		if v, ok := number(value); ok && isDigits(thread) {
			out.set(f.ioThread, v, thread)
		}
	case strings.HasPrefix(name, "io_thread_"):
		if thread := name[len("io_thread_"):]; isDigits(thread) {
			f.thread(thread, value, out)
		}
	}
}

// thread reads "clients=7,reads=48677,writes=44861".
func (f *fields) thread(thread, line string, out *sink) {
	for key, v := range numbers(line) {
		switch key {
		case "clients":
			out.set(f.threadClients, v, thread)
		case "reads":
			out.set(f.threadReads, v, thread)
		case "writes":
			out.set(f.threadWrites, v, thread)
		}
	}
}

// knows tells whether a field is in the table.
func (f *fields) knows(name string) bool {
	_, ok := f.byField[name]
	return ok
}

const passHelp = "Field of INFO or CLUSTER INFO of that name, passed through as it is."

// number reads the value of a field. Words for good and bad are 1 and 0.
func number(s string) (float64, bool) {
	switch s {
	case "ok", "true":
		return 1, true
	case "err", "fail", "false":
		return 0, true
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil && !math.IsNaN(v)
}

// metricName replaces every byte that a metric name cannot have.
func metricName(field string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, field)
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// pairs yields the members of a value like "ip=10.0.0.1,port=6379,lag=0".
func pairs(s string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for rest := s; rest != ""; {
			var part string
			part, rest, _ = strings.Cut(rest, ",")
			if key, value, ok := strings.Cut(part, "="); ok && !yield(key, value) {
				return
			}
		}
	}
}

// numbers iterates over those pairs of "key=value,key=value" whose value is a number.
func numbers(s string) iter.Seq2[string, float64] {
	return func(yield func(string, float64) bool) {
		for key, value := range pairs(s) {
			if v, ok := number(value); ok && !yield(key, v) {
				return
			}
		}
	}
}
