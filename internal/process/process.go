// Package process is what Prometheus wants to know of this very process: CPU,
// memory, open files, under the usual process_ names.
//
// Prometheus' own collector reads and parses three times as many files of /proc
// as needed, at each scrape; that was a quarter of what a scrape costs.
package process

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/redis-sidecar/redis-sidecar/internal/metric"
)

// Collector collects the metrics of this process. On systems without Linux'
// /proc some of them are missing.
type Collector struct {
	statm, netstat *os.File // kept open, nil when there is none
	started        float64  // Unix time, 0 when not known

	mu    sync.Mutex
	block [8 << 10]byte // what was read; guarded by mu

	cpu, start, rss, vsize, vsizeMax, files, filesMax, received, sent *metric.Desc
}

var _ metric.Source = (*Collector)(nil)

// New returns the collector. It keeps two files of /proc open until Close.
func New() *Collector {
	desc := func(name, help string) *metric.Desc {
		d := &metric.Desc{Name: "process_" + name, Help: help}
		if strings.HasSuffix(name, "_total") {
			d.Kind = metric.Counter
		}
		return d
	}
	c := &Collector{
		cpu:      desc("cpu_seconds_total", "Total user and system CPU time spent in seconds."),
		start:    desc("start_time_seconds", "Start time of the process since unix epoch in seconds."),
		rss:      desc("resident_memory_bytes", "Resident memory size in bytes."),
		vsize:    desc("virtual_memory_bytes", "Virtual memory size in bytes."),
		vsizeMax: desc("virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes."),
		files:    desc("open_fds", "Number of open file descriptors."),
		filesMax: desc("max_fds", "Maximum number of open file descriptors."),
		received: desc("network_receive_bytes_total", "Number of bytes received over the network, by all processes of the network namespace."),
		sent:     desc("network_transmit_bytes_total", "Number of bytes sent over the network, by all processes of the network namespace."),
		started:  startTime(),
	}
	c.statm, _ = os.Open("/proc/self/statm")
	c.netstat, _ = os.Open("/proc/self/net/netstat")
	return c
}

// Close closes the files.
func (c *Collector) Close() {
	for _, f := range []*os.File{c.statm, c.netstat} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// Describe implements metric.Source.
func (c *Collector) Describe() []*metric.Desc {
	return []*metric.Desc{c.cpu, c.start, c.rss, c.vsize, c.vsizeMax, c.files, c.filesMax, c.received, c.sent}
}

// Emit implements metric.Source: what the system says now.
func (c *Collector) Emit(to metric.Sink) {
	var use syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &use) == nil {
		to.Set(c.cpu, float64(use.Utime.Nano()+use.Stime.Nano())/1e9)
	}
	if c.started > 0 {
		to.Set(c.start, c.started)
	}
	if vsize, rss, ok := c.memory(); ok {
		to.Set(c.vsize, vsize)
		to.Set(c.rss, rss)
	}
	if n, ok := openFiles(); ok {
		to.Set(c.files, n)
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		to.Set(c.filesMax, float64(limit.Cur))
	}
	if syscall.Getrlimit(syscall.RLIMIT_AS, &limit) == nil {
		to.Set(c.vsizeMax, float64(limit.Cur))
	}
	if in, out, ok := c.octets(); ok {
		to.Set(c.received, in)
		to.Set(c.sent, out)
	}
}

// memory reads /proc/self/statm: size and resident set, in pages (proc(5)).
func (c *Collector) memory() (vsize, rss float64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fields := bytes.Fields(c.read(c.statm))
	if len(fields) < 2 {
		return 0, 0, false
	}
	page := float64(os.Getpagesize())
	vsize, ok1 := number(fields[0])
	rss, ok2 := number(fields[1])
	return vsize * page, rss * page, ok1 && ok2
}

// octets reads InOctets and OutOctets of the lines IpExt in /proc/net/netstat:
// one line with the names, one with the values.
func (c *Collector) octets() (in, out float64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := c.read(c.netstat)
	const prefix = "IpExt:"
	var names [][]byte
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte(prefix)) {
			continue
		}
		fields := bytes.Fields(line[len(prefix):])
		if names == nil {
			names = fields
			continue
		}
		found := 0
		for i, name := range names {
			if i >= len(fields) {
				break
			}
			v, isNumber := number(fields[i])
			switch string(name) {
			case "InOctets":
				in, found = v, found+1
			case "OutOctets":
				out, found = v, found+1
			default:
				continue
			}
			if !isNumber {
				return 0, 0, false
			}
		}
		return in, out, found == 2
	}
	return 0, 0, false
}

// openFiles counts /proc/self/fd. Since Linux 6.2 its size is their number; before,
// it is 0.
func openFiles() (float64, bool) {
	const dir = "/proc/self/fd"
	if st, err := os.Stat(dir); err == nil && st.Size() > 0 {
		return float64(st.Size()), true
	}
	d, err := os.Open(dir)
	if err != nil {
		return 0, false
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	return float64(len(names) - 1), err == nil // without the one that reads
}

// startTime is the start of this process as Unix time: its clock ticks since the
// system's start, field 22 of /proc/self/stat, after the btime of /proc/stat. There
// are 100 ticks in a second on every architecture Go knows. 0 means not known.
func startTime() float64 {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	// The name of the program, in parentheses, may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const starttime, ticks = 22 - 3, 100
	system, err := os.ReadFile("/proc/stat")
	if err != nil || len(fields) <= starttime {
		return 0
	}
	since, ok := number(fields[starttime])
	if !ok {
		return 0
	}
	for line := range bytes.Lines(system) {
		if rest, found := bytes.CutPrefix(line, []byte("btime ")); found {
			if boot, ok := number(bytes.TrimSpace(rest)); ok {
				return boot + since/ticks
			}
		}
	}
	return 0
}

// read reads a file of /proc from its beginning, as much as fits into the block. It
// is called with mu held, as long as what it returns is in use.
func (c *Collector) read(f *os.File) []byte {
	if f == nil {
		return nil
	}
	n, _ := f.ReadAt(c.block[:], 0) // an end of file is no error here; what is there counts
	return c.block[:n]
}

func number(text []byte) (float64, bool) {
	v, err := strconv.ParseFloat(string(text), 64)
	return v, err == nil
}
