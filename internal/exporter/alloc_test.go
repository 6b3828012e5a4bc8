package exporter_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// What a whole scrape allocates, from the request to the end of the body: about
// 30 % more than it was when this was written (7.0.15: 105, 358, 382, 831). Most
// of it is the server's replies as strings and lists; the rest hardly depends on
// the server.
func TestScrapeAllocations(t *testing.T) {
	everyday, everything := used(t, testenv.Everyday()), used(t, testenv.Everything())
	for _, c := range []struct {
		name     string
		server   exporter.Server
		encoding string
		limit    float64 // objects
	}{
		{"recorded", &still{server: loadReplay(t, small)}, "", 140},
		{"small", everyday, "", 465},
		{"small, gzip", everyday, "gzip", 500},
		{"110 commands", everything, "", 1080},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit := c.limit * leeway
			got := allocations(t, c.server, exporter.Options{}, c.encoding)
			t.Logf("%.0f objects, at most %.0f", got, limit)
			if got > limit {
				t.Errorf("a scrape allocates %.0f objects, which must be at most %.0f: %s", got, limit, breakdown(t, c.server, got))
			}
		})
	}
}

// Ten thousand clients cost a scrape no more than the rest does: their series were
// made in the background, and are only written.
func TestClientListAllocations(t *testing.T) {
	const clients, limit = 10_000, 140 * leeway
	var list strings.Builder
	for i := range clients {
		fmt.Fprintf(&list, "id=%d addr=10.0.%d.%d:30000 fd=%d name=app-%d age=%d idle=%d flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=20474 "+
			"obl=0 oll=0 omem=0 tot-mem=22298 events=r cmd=get user=default redir=-1 resp=2\n", i+1, i/250, i%250, i+8, i%50, i, i%300)
	}
	lists := loadReplay(t, small)
	lists.replies["CLIENT LIST"] = list.String()
	for _, section := range []string{"server", "replication", "keyspace"} {
		lists.replies["INFO "+section] = lists.info
	}
	e, _ := newExporter(t, &still{server: loadReplay(t, small)}, exporter.Options{Background: exporter.BackgroundOptions{
		Server: lists, Interval: time.Hour, Clients: exporter.ClientOptions{Enabled: true},
	}})
	runBackground(t, e)
	testenv.Eventually(t, time.Minute, func() error {
		if n := len(only(scrape(t, e), "redis_connected_client_info")); n != clients {
			return fmt.Errorf("%d clients are shown, want %d", n, clients)
		}
		return nil
	})
	got := testing.AllocsPerRun(10, serving(t, e, ""))
	t.Logf("%.0f objects, at most %d", got, limit)
	if got > limit {
		t.Errorf("a scrape that shows %d clients allocates %.0f objects, which must be at most %d: each client, or each of its series, has some",
			clients, got, limit)
	}
}

// allocations returns how many objects one scrape allocates.
func allocations(tb testing.TB, server exporter.Server, opts exporter.Options, encoding string) float64 {
	tb.Helper()
	return testing.AllocsPerRun(50, scraping(tb, server, opts, encoding))
}

// breakdown says where the objects of a scrape come from: the replies, and each
// collector, by what is saved without it.
func breakdown(tb testing.TB, server exporter.Server, total float64) string {
	tb.Helper()
	s := &still{server: server}
	plain := allocations(tb, s, exporter.Options{}, "")
	replies := testing.AllocsPerRun(50, func() {
		if _, err := server.Pipeline(context.Background(), s.asked...); err != nil {
			tb.Fatal(err)
		}
	})
	type part struct {
		name    string
		objects float64
	}
	var parts []part
	for _, name := range exporter.Collectors() {
		without := &still{server: server} // asks for less
		parts = append(parts, part{name, plain - allocations(tb, without, exporter.Options{Disabled: []string{name}}, "")})
	}
	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(b.objects, a.objects) })
	var text strings.Builder
	fmt.Fprintf(&text, "%.0f for reading the server's %d replies, %.0f with replies that are there, %.0f for the encoding; collectors, by what is saved without them:",
		replies, len(s.asked), plain, max(0, total-plain-replies))
	for _, p := range parts[:min(5, len(parts))] {
		fmt.Fprintf(&text, " %s %.0f", p.name, p.objects)
	}
	return text.String()
}

// still gives the same replies as long as the same is asked.
func TestStill(t *testing.T) {
	s := &still{server: loadReplay(t, small)}
	first, err := s.Pipeline(t.Context(), []string{"INFO", "ALL"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Pipeline(t.Context(), []string{"INFO", "ALL"})
	if err != nil || &again[0] != &first[0] {
		t.Errorf("asked the same: got others, %v", err)
	}
	other, err := s.Pipeline(t.Context(), []string{"SLOWLOG", "LEN"})
	if err != nil || &other[0] == &first[0] {
		t.Errorf("asked for something else: got the same, %v", err)
	}
}
