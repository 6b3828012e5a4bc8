package exporter_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
)

// gatherable fails the test unless the families can be gathered and parsed: no
// series twice, names and labels valid, one type and help for each name.
func gatherable(tb testing.TB, families []*dto.MetricFamily) {
	tb.Helper()
	if _, err := (prometheus.Gatherers{prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families, nil })}).Gather(); err != nil {
		tb.Errorf("gather: %v", err)
	}
	body := text(tb, families)
	samples(tb, body)
	p := expfmt.NewTextParser(model.LegacyValidation)
	if _, err := p.TextToMetricFamilies(strings.NewReader(body)); err != nil {
		tb.Errorf("parse: %v", err)
	}
	for _, mf := range families {
		for _, m := range mf.Metric {
			edge, count := -1.0, uint64(0)
			for _, b := range m.GetHistogram().GetBucket() {
				if b.GetUpperBound() <= edge || b.GetCumulativeCount() < count {
					tb.Errorf("buckets of %s fall: %v", mf.GetName(), m)
				}
				edge, count = b.GetUpperBound(), b.GetCumulativeCount()
			}
			if m.GetHistogram().GetSampleCount() < count {
				tb.Errorf("%s counts less than its last bucket: %v", mf.GetName(), m)
			}
		}
	}
}

// FuzzCollect: whatever the server says of itself, a scrape gives a valid set.
func FuzzCollect(f *testing.F) {
	files, err := filepath.Glob("testdata/replay/*/info.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no recordings: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		// By sections: the fuzzer is slow with long seeds.
		for section := range strings.SplitSeq(string(text), "\r\n\r\n") {
			f.Add(section, "cluster_state:ok\r\ncluster_slots_ok:16384\r\n")
		}
	}
	f.Add("# Commandstats\ncmdstat_a:calls=1,usec=2\ncmdstat_a:calls=3\n# Latencystats\nlatency_percentiles_usec_a:p50=1,p5e1=2,p=3\n"+
		"# Keyspace\ndb0:keys=1\ndb0:keys=2\ndb00:keys=1\n", "db:1\r\ncluster_:2\r\ncluster_\xff:3\r\ncluster_é:4\r\n")
	f.Add("cluster_enabled:1\n# Replication\nrole:slave\nmaster_link_status:up\nslave0:ip=,port=,state=,offset=1,lag=\nslave0:offset=1\n"+
		"# Errorstats\nerrorstat_:count=1\nerrorstat_\"\\\n:count=1\n# Sentinel\nmaster0:name=a,slaves=1\nmaster1:name=a,sentinels=nan\n", "")
	f.Fuzz(func(t *testing.T, info, cluster string) {
		s := &replay{info: info, replies: map[string]any{"CLUSTER INFO": cluster}}
		e, _ := newExporter(t, s, exporter.Options{})
		gatherable(t, e.Scrape(t.Context()))
		canonical(t, get(t, exporter.NewHandler(e, nil), "/metrics", nil).Body.String())
	})
}

// FuzzReplies: the same for the replies to all other commands.
func FuzzReplies(f *testing.F) {
	f.Add("cluster_enabled:1\r\nredis_version:7.0.0\r\n", []byte("i7"))
	f.Add("redis_version:7.0.0\r\n", []byte("a\x03i1i2i3"))
	f.Add("redis_version:7.0.0\r\n", []byte("a\x02s\x03geta\x04s\x05callsi\x09s\x0ehistogram_useca\x04i\x01i\x01i\x02i\x02"))
	f.Add("redis_version:6.0.0\r\n", []byte("a\x02s\x09databasess\x0216"))
	f.Add("redis_version:7.0.0\r\n", []byte("a\x02s\x1aclient-output-buffer-limits\x0enormal 0 0 0 x"))
	f.Add("redis_version:7.0.0\r\n", []byte("a\x01a\x04s\x01ai\x01i\x02i\x03"))
	f.Fuzz(func(t *testing.T, info string, script []byte) {
		e, _ := newExporter(t, scripted{info, script}, exporter.Options{})
		gatherable(t, e.Scrape(t.Context()))
		canonical(t, get(t, exporter.NewHandler(e, nil), "/metrics", nil).Body.String())
	})
}

// scripted answers every command but INFO with the reply that bytes describe.
type scripted struct {
	info   string
	script []byte
}

func (s scripted) Pipeline(_ context.Context, commands ...[]string) ([]any, error) {
	out := make([]any, len(commands))
	for i, c := range commands {
		if c[0] == "INFO" {
			out[i] = s.info
			continue
		}
		rest := s.script
		out[i] = decode(&rest, 4)
	}
	return out, nil
}

// decode reads a reply: i and a byte for an integer, s, a length and bytes for a
// string, a and a length for a list, - for an error, anything else for nil.
func decode(p *[]byte, depth int) any {
	next := func() byte {
		if len(*p) == 0 {
			return 0
		}
		b := (*p)[0]
		*p = (*p)[1:]
		return b
	}
	switch next() {
	case 'i':
		return int64(int8(next())) * int64(int8(next())|1)
	case 's':
		n := min(int(next()), len(*p))
		s := string((*p)[:n])
		*p = (*p)[n:]
		return s
	case 'a':
		if depth == 0 {
			return []any{}
		}
		list := make([]any, next())
		for i := range list {
			if len(*p) > 0 {
				list[i] = decode(p, depth-1)
			}
		}
		return list
	case '-':
		return errUnknown
	}
	return nil
}
