package exporter_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
)

// Every metric has a help text of its own that says more than its name.
func TestDocs(t *testing.T) {
	docs := exporter.Docs()
	if len(docs) < 290 {
		t.Errorf("%d metrics are described", len(docs))
	}
	last := ""
	helps := make(map[string]string)
	for _, d := range docs {
		if d.Name <= last {
			t.Errorf("%s after %s", d.Name, last)
		}
		last = d.Name
		if !strings.HasSuffix(d.Help, ".") || len(d.Help) < 15 || strings.ContainsAny(d.Help, "|\n") || strings.Contains(d.Help, d.Name) {
			t.Errorf("%s: help text %q", d.Name, d.Help)
		}
		if d.Source == "" || d.Type == "" {
			t.Errorf("%s: no source or type", d.Name)
		}
		if other := helps[d.Help]; other != "" {
			t.Errorf("%s and %s have the same help text", d.Name, other)
		}
		helps[d.Help] = d.Name
	}
}

// Names of our own follow the conventions; those of redis_exporter are as they are.
func TestLint(t *testing.T) {
	e, _ := newExporter(t, loadReplay(t, "testdata/replay/redis-7.0.15-standalone"), exporter.Options{})
	var own []*dto.MetricFamily
	for _, mf := range e.Scrape(t.Context()) {
		if strings.HasPrefix(mf.GetName(), "redis_sidecar_") {
			own = append(own, mf)
		}
	}
	problems, err := testutil.GatherAndLint(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return own, nil }))
	if err != nil || len(own) == 0 {
		t.Fatalf("%d families: %v", len(own), err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
