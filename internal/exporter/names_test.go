package exporter_test

import (
	"os"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
)

// excepted are the metrics of redis_exporter that are left out, or that no
// table has, with the reason.
func excepted() map[string]string {
	const fields = "a field of CLUSTER INFO that is passed through under its own name: which there are depends on what was sent"
	return map[string]string{
		"redis_cluster_stats_messages_ping_sent":     fields,
		"redis_cluster_stats_messages_ping_received": fields,
		"redis_cluster_stats_messages_pong_sent":     fields,
		"redis_cluster_stats_messages_pong_received": fields,
		"redis_cluster_stats_messages_meet_sent":     fields,
		"redis_cluster_stats_messages_meet_received": fields,
		"redis_stream_group_messages_nacked":         "only XINFO STREAM FULL has it, whose reply lists every consumer once more",
	}
}

// Every metric of redis_exporter is here, with its type and labels.
func TestNames(t *testing.T) {
	raw, err := os.ReadFile("testdata/redis_exporter.txt")
	if err != nil {
		t.Fatal(err)
	}
	ours := make(map[string]exporter.MetricDoc)
	for _, d := range exporter.Docs() {
		ours[d.Name] = d
	}
	theirs := 0
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		theirs++
		name, kind, labels := words[0], words[1], strings.Join(words[2:], " ")
		d, ok := ours[name]
		reason, isExcepted := excepted()[name]
		switch {
		case isExcepted && ok:
			t.Errorf("%s is there, and excepted: %s", name, reason)
		case isExcepted:
		case !ok:
			t.Errorf("%s is missing", name)
		case d.Type != kind:
			t.Errorf("%s is a %s, want %s", name, d.Type, kind)
		case strings.Join(d.Labels, ",") != labels:
			t.Errorf("%s has the labels %v, want %s", name, d.Labels, labels)
		}
	}
	if theirs < 470 {
		t.Errorf("%d names, want all of them", theirs)
	}
}
