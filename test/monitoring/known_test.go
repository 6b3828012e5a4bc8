package monitoring_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// binary is the path of the program, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(testenv.RunWithBinary(m, &binary)) }

// knowledge is every series that redis-sidecar is proved to have.
type knowledge struct {
	series     map[string][]map[string]string // by name of the sample: label sets
	documented map[string][]string            // by name of the sample: labels, from docs/metrics.md
	rare       map[string][]string            // documented is proof enough
	recorded   map[string]bool                // by recording-rules.yaml
}

// target has the labels that Prometheus adds.
var target = map[string]bool{"job": true, "instance": true, "namespace": true, "pod": true}

// open are labels whose values come from the server: a golden scrape has some of
// them only.
var open = map[string]bool{"err": true, "cmd": true, "maxmemory_policy": true, "read_only": true, "slave_state": true}

// know reads the golden scrapes of the exporter, scrapes the program with all of
// its jobs on, and reads what is documented.
func know(t *testing.T) *knowledge {
	t.Helper()
	k := &knowledge{series: map[string][]map[string]string{}, documented: map[string][]string{}, recorded: map[string]bool{}}
	files, err := filepath.Glob("../../internal/exporter/testdata/replay/*/metrics.prom")
	if err != nil || len(files) < 5 {
		t.Fatalf("golden scrapes: %d files, %v", len(files), err)
	}
	for _, f := range files {
		k.add(t, f, read(t, f))
	}
	k.add(t, "the program's own scrape", scrape(t))
	k.readDocs(t)
	k.rare = list(t, "testdata/rare.txt")
	for name := range k.rare {
		if k.series[name] != nil || k.documented[name] == nil {
			t.Errorf("testdata/rare.txt: %s is in a scrape, or not in docs/metrics.md", name)
		}
	}
	for _, g := range readRules(t, "recording-rules.yaml") {
		for _, r := range g.Rules {
			k.recorded[r.Record] = true
		}
	}
	return k
}

// add adds the series of a scrape in Prometheus' text format.
func (k *knowledge) add(t *testing.T, from, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		e, err := parse(line[:max(at, 0)])
		if err != nil || len(e.selectors) != 1 {
			t.Fatalf("%s: line %q: %v", from, line, err)
		}
		labels := map[string]string{}
		for _, m := range e.selectors[0].matchers {
			labels[m.label] = m.value
		}
		name := e.selectors[0].name
		k.series[name] = append(k.series[name], labels)
	}
}

// readDocs reads the tables of docs/metrics.md.
func (k *knowledge) readDocs(t *testing.T) {
	t.Helper()
	row := regexp.MustCompile("^\\| `([a-z0-9_]+)` \\| (gauge|counter|summary|histogram) \\| ([a-z_, ]*) ?\\|")
	for line := range strings.Lines(read(t, "../../docs/metrics.md")) {
		m := row.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		labels := strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' || r == ' ' })
		k.documented[m[1]] = labels
		if m[2] == "summary" || m[2] == "histogram" {
			for _, suffix := range []string{"_sum", "_count", "_bucket"} {
				k.documented[m[1]+suffix] = append([]string{"le"}, labels...)
			}
		}
	}
	if len(k.documented) < 200 {
		t.Fatalf("docs/metrics.md: only %d metrics were understood", len(k.documented))
	}
}

// check returns why s matches no series that is known.
func (k *knowledge) check(s selector) error {
	if s.name == "up" || k.recorded[s.name] {
		return nil
	}
	sets := k.series[s.name]
	if labels, ok := k.documented[s.name]; len(sets) == 0 && ok && k.rare[s.name] != nil {
		set := map[string]string{}
		for _, l := range labels {
			set[l] = ""
		}
		sets = []map[string]string{set}
	}
	if len(sets) == 0 {
		return fmt.Errorf("%s is in no scrape", s.name)
	}
	for _, set := range sets {
		if matches(set, s.matchers) {
			return nil
		}
	}
	return fmt.Errorf("no series of %s in any scrape has %v", s.name, s.matchers)
}

func matches(set map[string]string, matchers []matcher) bool {
	for _, m := range matchers {
		if target[m.label] {
			continue
		}
		value, ok := set[m.label]
		if !ok {
			return false
		}
		if open[m.label] {
			continue
		}
		equal := value == m.value
		if strings.HasSuffix(m.op, "~") {
			equal = regexp.MustCompile("^(?:" + m.value + ")$").MatchString(value)
		}
		if equal == strings.HasPrefix(m.op, "!") {
			return false
		}
	}
	return true
}

// labels returns the names of all labels of all series.
func (k *knowledge) labels() map[string]bool {
	out := map[string]bool{"le": true}
	for l := range target {
		out[l] = true
	}
	for _, sets := range k.series {
		for _, set := range sets {
			for l := range set {
				out[l] = true
			}
		}
	}
	for _, labels := range k.documented {
		for _, l := range labels {
			out[l] = true
		}
	}
	return out
}

// scrape starts a server with an append-only file, a slow log of everything and a
// command less than usual, and the program with all of its jobs and a background
// collector on, and returns its metrics.
func scrape(t *testing.T) string {
	t.Helper()
	srv := testenv.StartRedis(t, "--appendonly", "yes", "--min-replicas-to-write", "1", "--maxmemory", "100mb",
		"--slowlog-log-slower-than", "0", "--rename-command", "LATENCY", "")
	conf := srv.WriteFile(t, "sidecar.conf", "maxmemory 100mb\n")
	addr := "127.0.0.1:" + strconv.Itoa(testenv.FreePort(t))
	var log testenv.Log
	cmd := exec.CommandContext(t.Context(), binary, "run", "--web.listen-address="+addr, "--redis.addr="+srv.Addr, "--announce.address=127.0.0.1",
		"--pod.name=redis-0", "--config.path="+conf, "--backup.store=file://"+t.TempDir(), "--backup.schedule=@yearly", "--backup.data-dir="+srv.Dir,
		"--exporter.check-keys=db0=*")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the program: %v\n%s", err, log.String())
		}
	}()
	var body string
	testenv.Eventually(t, 20*time.Second, func() error {
		var err error
		if body, err = get(t.Context(), "http://"+addr+"/metrics"); err != nil {
			return fmt.Errorf("%w\n%s", err, log.String())
		}
		for _, late := range []string{"redis_up 1\n", "redis_sidecar_announce_address_info{", "redis_slowlog_execution_duration_seconds_count{"} {
			if !strings.Contains(body, "\n"+late) {
				return fmt.Errorf("there is no %q yet:\n%s", late, log.String())
			}
		}
		return nil
	})
	return body
}

func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// list reads a file of names, one a line, with further words behind some; #
// begins a comment.
func list(t *testing.T, path string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for line := range strings.Lines(read(t, path)) {
		line, _, _ = strings.Cut(line, "#")
		if fields := strings.Fields(line); len(fields) > 0 {
			out[fields[0]] = fields[1:]
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s is empty", path)
	}
	return out
}
