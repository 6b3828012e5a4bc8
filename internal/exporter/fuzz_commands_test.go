package exporter_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
)

// hostile answers one command, and those that begin with it, with whatever bytes
// describe, and all others with nil.
type hostile struct {
	info, command string
	script        []byte
}

func (s *hostile) Pipeline(_ context.Context, commands ...[]string) ([]any, error) {
	out := make([]any, len(commands))
	for i, c := range commands {
		switch line := strings.Join(c, " "); {
		case line == "INFO ALL":
			out[i] = s.info
		case strings.HasPrefix(line, s.command):
			rest := s.script
			out[i] = decode(&rest, 4)
		}
	}
	return out, nil
}

// encode is the inverse of decode, for integers that it can make.
func encode(v any) []byte {
	switch v := v.(type) {
	case int64:
		return []byte{'i', byte(v), 0}
	case string:
		v = v[:min(len(v), 255)]
		return append([]byte{'s', byte(len(v))}, v...)
	case []any:
		v = v[:min(len(v), 255)]
		b := []byte{'a', byte(len(v))}
		for _, x := range v {
			b = append(b, encode(x)...)
		}
		return b
	}
	return []byte{0}
}

// recorded returns recorded replies to a command, in the form that decode reads.
func recorded(tb testing.TB, command string) [][]byte {
	tb.Helper()
	files, err := filepath.Glob("testdata/replay/*/replies.json")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no recordings: %v", err)
	}
	var out [][]byte
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		var replies map[string]any
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.UseNumber()
		if err := d.Decode(&replies); err != nil {
			tb.Fatal(err)
		}
		for line, reply := range replies {
			if strings.HasPrefix(line, command) {
				out = append(out, encode(resp(tb, reply)))
			}
		}
	}
	return out
}

// fuzz lets a fuzzer choose two replies to a command, one scrape after another.
// Whatever they are, the scrapes are valid, and check holds for each of them.
func fuzz(f *testing.F, info, command string, check func(tb testing.TB, families []*dto.MetricFamily), seeds ...[]byte) {
	f.Helper()
	for _, seed := range seeds {
		f.Add(seed, seed)
	}
	f.Add([]byte{}, []byte{0})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := &hostile{info: info, command: command}
		e, _ := newExporter(t, s, exporter.Options{Collect: exporter.CollectOptions{SentinelPeers: true, ConfigValues: true, Modules: true}})
		for _, script := range [][]byte{first, second} {
			s.script = script
			families := e.Scrape(t.Context())
			gatherable(t, families)
			if reason := downReason(t, samples(t, text(t, families))); reason != "" {
				t.Errorf("down: %s", reason)
			}
			if check != nil {
				check(t, families)
			}
		}
	})
}

// closed checks that the label of a metric has only these values.
func closed(metric, label string, values ...string) func(testing.TB, []*dto.MetricFamily) {
	return func(tb testing.TB, families []*dto.MetricFamily) {
		tb.Helper()
		for _, mf := range families {
			if mf.GetName() != metric {
				continue
			}
			for _, m := range mf.Metric {
				for _, l := range m.Label {
					ok := l.GetName() != label
					for _, v := range values {
						ok = ok || l.GetValue() == v
					}
					if !ok {
						tb.Errorf("%s has %s=%q", metric, label, l.GetValue())
					}
				}
			}
		}
	}
}

const (
	clusterInfo  = "redis_version:7.0.0\r\ncluster_enabled:1\r\nrun_id:a\r\n"
	sentinelInfo = "redis_version:7.0.0\r\nredis_mode:sentinel\r\nrun_id:a\r\n# Sentinel\r\nsentinel_masters:2\r\n" +
		"master0:name=mymaster,status=ok,address=127.0.0.1:17001,slaves=1,sentinels=3\r\nmaster1:name=b,status=sdown,address=127.0.0.1:1,slaves=0,sentinels=1\r\n"
	standaloneInfo = "redis_version:7.0.0\r\nrun_id:a\r\nuptime_in_seconds:5\r\n# Commandstats\r\ncmdstat_debug:calls=1,usec=1\r\ncmdstat_config|get:calls=1,usec=1\r\n"
)

func FuzzClusterNodes(f *testing.F) {
	seeds := recorded(f, "CLUSTER NODES")
	for _, line := range []string{
		"a :0@0 master,noaddr - 1 0 0 disconnected", "a fd00::1:6379@16379,h,shard-id=x myself,slave b 0 1 2 connected [93-<-b] [1->-c] 5 7-9",
		"a h:1@2 handshake,fail? - x y z connected 9-1 0-99999 [",
	} {
		seeds = append(seeds, encode(line+"\n"+line))
	}
	fuzz(f, clusterInfo, "CLUSTER NODES", closed("redis_cluster_node_up", "role", "master", "slave"), seeds...)
}

func FuzzClusterLinks(f *testing.F) {
	fuzz(f, clusterInfo, "CLUSTER LINKS", closed("redis_cluster_links", "direction", "to", "from"), recorded(f, "CLUSTER LINKS")...)
}

func FuzzSentinel(f *testing.F) {
	seeds := append(recorded(f, "SENTINEL MASTERS"), recorded(f, "SENTINEL SENTINELS")...)
	seeds = append(seeds, recorded(f, "SENTINEL SLAVES")...)
	seeds = append(seeds, recorded(f, "SENTINEL CONFIG")...)
	fuzz(f, sentinelInfo, "SENTINEL ", nil, seeds...)
}

func FuzzSentinelQuorum(f *testing.F) {
	fuzz(f, sentinelInfo, "SENTINEL CKQUORUM", func(tb testing.TB, families []*dto.MetricFamily) {
		tb.Helper()
		for series := range samples(tb, text(tb, families)) {
			if strings.HasPrefix(series, "redis_sentinel_master_ckquorum_status") &&
				!strings.Contains(series, `message="OK`) && !strings.Contains(series, `message="NOQUORUM`) && !strings.Contains(series, `message="ERR"`) {
				tb.Error(series)
			}
		}
	}, append(recorded(f, "SENTINEL CKQUORUM"), encode("NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach the majority"), []byte("-"))...)
}

func FuzzCommandlog(f *testing.F) {
	fuzz(f, "redis_version:7.2.4\r\nvalkey_version:8.1.0\r\n", "COMMANDLOG", nil, encode(int64(7)), encode("7"))
}

func FuzzSlowlog(f *testing.F) {
	entry := func(id int64, args ...any) any {
		return []any{id, int64(100), int64(90), args, "127.0.0.1:5000", "name"}
	}
	seeds := append(recorded(f, "SLOWLOG GET"),
		encode([]any{entry(3, "DEBUG", "SLEEP", "1")}), encode([]any{entry(9, "CONFIG", "GET"), entry(8, "secret"), entry(7)}),
		encode([]any{entry(1), int64(3)}), encode([]any{[]any{int64(1)}}))
	fuzz(f, standaloneInfo, "SLOWLOG GET",
		closed("redis_slowlog_execution_duration_seconds", "cmd", "debug", "config", "config|get", "other"), seeds...)
}

func FuzzLatencyLatest(f *testing.F) {
	fuzz(f, standaloneInfo, "LATENCY LATEST", nil, append(recorded(f, "LATENCY LATEST"),
		encode([]any{[]any{"command", int64(100), int64(30), int64(40)}, []any{"command", int64(1), int64(3)}}), encode([]any{[]any{int64(1)}}))...)
}

func FuzzConfig(f *testing.F) {
	fuzz(f, standaloneInfo, "CONFIG GET", func(tb testing.TB, families []*dto.MetricFamily) {
		tb.Helper()
		for series := range samples(tb, text(tb, families)) {
			if strings.HasPrefix(series, `redis_config_key_value{key="requirepass"`) {
				tb.Error(series)
			}
		}
	}, append(recorded(f, "CONFIG GET"), encode([]any{"requirepass", "geheim", "databases", "x", "client-output-buffer-limit", "a 1"}))...)
}

func FuzzModules(f *testing.F) {
	fuzz(f, standaloneInfo, "INFO MODULES", nil,
		encode("# Modules\r\nmodule:name=search,ver=1,api=1,filters=0,usedby=[],using=[],options=[]\r\nmodule:name=\r\nsearch_number_of_indexes:1\r\n"))
}
