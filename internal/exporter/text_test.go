package exporter_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
)

// canonical reads a body and renders it as Prometheus' own library does.
func canonical(tb testing.TB, body string) string {
	tb.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	byName, err := p.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		tb.Fatalf("the body does not parse: %v", err)
	}
	var families []*dto.MetricFamily
	for line := range strings.Lines(body) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ = strings.Cut(name, " ")
			for _, m := range byName[name].GetMetric() {
				slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
			}
			families = append(families, byName[name])
		}
	}
	return durations.ReplaceAllString(text(tb, families), "$1 X")
}

// What the text format says is what the collected series are, for every
// recorded server and for whatever stands in a label.
func TestTextIsTheFamilies(t *testing.T) {
	servers := map[string]*replay{"odd labels": {
		info: "redis_version:7.0.15\r\nredis_mode:standalone\r\nos:a\\b\"c\"\\n\\\r\nrole:sla\\\"ve\r\n# Keyspace\r\ndb0:keys=5,expires=2,avg_ttl=1.5e300\r\n" +
			"# Commandstats\r\ncmdstat_a\"b:calls=9007199254740993,usec=0.1\r\ncmdstat_c\\:calls=1,usec=1\r\n" +
			"# Latencystats\r\nlatency_percentiles_usec_c\\:p50=1.003,p99.9=2\r\n# Memory\r\nmem_fragmentation_ratio:-inf\r\nused_memory:-0\r\n",
		replies: map[string]any{"LATENCY HISTOGRAM": []any{"a\"b", []any{"calls", int64(3), "histogram_usec", []any{int64(1), int64(1), int64(5), int64(3)}}}},
	}}
	for _, dir := range recordings(t) {
		servers[filepath.Base(dir)] = loadReplay(t, dir)
	}
	for name, server := range servers {
		for _, opts := range []exporter.Options{{}, {InstanceRoleLabel: true}} {
			t.Run(name, func(t *testing.T) {
				e, _ := newExporter(t, server, opts)
				want := durations.ReplaceAllString(text(t, e.Scrape(t.Context())), "$1 X")
				e, _ = newExporter(t, server, opts)
				got := canonical(t, get(t, exporter.NewHandler(e, nil), "/metrics", nil).Body.String())
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-families +text)\n%s", diff)
				}
				if opts.InstanceRoleLabel != strings.Contains(got, "instance_role=") {
					t.Error("instance_role is there when not wanted, or the other way round")
				}
			})
		}
	}
}

// Series of one scrape are not seen in the next one.
func TestSinksAreReused(t *testing.T) {
	server := loadReplay(t, "testdata/replay/redis-7.0.15-replica")
	e, _ := newExporter(t, server, exporter.Options{})
	first := scrape(t, e)
	server.info = "redis_version:7.0.15\r\nredis_mode:standalone\r\n# Keyspace\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n"
	expect(t, scrape(t, e), map[string]string{`redis_db_keys{db="db3"}`: "1", "redis_memory_used_bytes": "absent"})
	if first["redis_memory_used_bytes"] == "" {
		t.Error("the first scrape has no redis_memory_used_bytes")
	}
}

func TestSelection(t *testing.T) {
	e, _ := newExporter(t, loadReplay(t, "testdata/replay/redis-7.0.15-standalone"), exporter.Options{})
	h := exporter.NewHandler(e, nil)
	names := func(target, accept string) map[string]bool {
		body := get(t, h, target, map[string]string{"Accept": accept})
		out := make(map[string]bool)
		d := expfmt.NewDecoder(body.Body, expfmt.ResponseFormat(body.Header()))
		for {
			var mf dto.MetricFamily
			if d.Decode(&mf) != nil {
				return out
			}
			out[mf.GetName()] = true
		}
	}
	for _, accept := range []string{"text/plain", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"} {
		got := names("/metrics?collect[]=keyspace&collect[]=slowlog", accept)
		for name, want := range map[string]bool{"redis_db_keys": true, "redis_slowlog_length": true, "redis_up": true, "redis_memory_used_bytes": false} {
			if got[name] != want {
				t.Errorf("collect[], %s: %s is there: %t", accept, name, got[name])
			}
		}
		got = names("/metrics?name[]=redis_up&name[]=redis_db_keys", accept)
		if diff := cmp.Diff(map[string]bool{"redis_up": true, "redis_db_keys": true}, got); diff != "" {
			t.Errorf("name[], %s: (-want +got)\n%s", accept, diff)
		}
	}

	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics?collect[]=keyspaces", nil))
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `no collector "keyspaces"`) || !strings.Contains(w.Body.String(), "keyspace,") {
		t.Errorf("an unknown collector: %d %s", w.Code, w.Body)
	}
}
