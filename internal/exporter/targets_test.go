package exporter_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// ask sends one request and returns code and body.
func ask(t *testing.T, h http.Handler, target string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil))
	return w.Code, w.Body.String()
}

func canonicalAddress(address string) (string, error) {
	a, err := redis.ParseAddress(address)
	return a.Network + " " + a.Addr, err
}

// runScraper runs s until the test ends.
func runScraper(t *testing.T, s *exporter.Scraper) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestScrapeTargets(t *testing.T) {
	own, listed := testenv.StartRedis(t), testenv.StartRedis(t)
	// Whoever connects to this one is caught.
	var caught atomic.Int32
	evil := testenv.Listen(t, func(context.Context, net.Conn) { caught.Add(1) })

	e, _ := newExporter(t, own.Client(t), exporter.Options{})
	h := exporter.NewHandler(e, nil)
	ownAddr, _ := canonicalAddress(own.Addr)
	listedAddr, _ := canonicalAddress(listed.Addr)
	var opened []exporter.Request
	s := &exporter.Scraper{
		Own: map[string]http.Handler{"main": h, ownAddr: h}, Canonical: canonicalAddress,
		Allowed: func(a string) bool { return a == listedAddr },
		Open: func(r exporter.Request) (exporter.Opened, error) {
			opened = append(opened, r)
			if r.Checks["check-keys"] == "bad" {
				return exporter.Opened{}, errors.New("check-keys: bad")
			}
			c := redis.New(redis.Options{Addr: strings.TrimPrefix(r.Target, "tcp ")})
			further, _ := newExporter(t, c, exporter.Options{})
			return exporter.Opened{Exporter: further, Close: func() { _ = c.Close() }}, nil
		},
		Rejected: e.Rejected,
	}
	runScraper(t, s)

	for _, target := range []string{"main", own.Addr, "redis://" + own.Addr, "redis%3A%2F%2F" + own.Addr, "redis://user:secret@" + own.Addr, "redis://" + listed.Addr, listed.Addr, "redis://user:secret@" + listed.Addr} {
		code, body := ask(t, s, "/scrape?target="+target)
		port := own.Port
		if strings.Contains(target, listed.Addr) {
			port = listed.Port
		}
		if code != http.StatusOK || !strings.Contains(body, fmt.Sprintf(`tcp_port="%d"`, port)) || !strings.Contains(body, "\nredis_up 1\n") {
			t.Errorf("%s: %d\n%.300s", target, code, body)
		}
		if strings.Contains(body, "secret") {
			t.Errorf("%s: the password is shown", target)
		}
	}
	if len(opened) != 2 || opened[0].User != "" || opened[1].User != "user" {
		t.Errorf("opened %+v, want the listed target without and with a user", opened)
	}
	_, body := ask(t, s, "/scrape?target=main&name[]=redis_up")
	if len(samples(t, body)) != 1 {
		t.Errorf("name[] is lost: %s", body)
	}
	code, _ := ask(t, s, "/scrape?target=main&check-single-keys=db0=a")
	if last := opened[len(opened)-1]; code != http.StatusOK || last.Target != "main" || last.Checks["check-single-keys"] != "db0=a" {
		t.Errorf("an own target with checks of its own: %d, %+v", code, opened)
	}

	for target, want := range map[string]struct {
		code int
		says string
	}{
		"":                            {400, "'target' parameter must be specified"},
		"?target=":                    {400, "'target' parameter must be specified"},
		"?target=" + evil:             {403, "exporter.scrape-allow"},
		"?target=redis://x:y@" + evil: {403, "exporter.scrape-allow"},
		"?target=http://" + evil:      {400, "unknown scheme"},
		"?target=unix:///etc/passwd":  {403, "exporter.scrape-allow"},
		"?target=main&check-keys=bad": {400, "check-keys: bad"},
	} {
		code, body := ask(t, s, "/scrape"+target)
		if code != want.code || !strings.Contains(body, want.says) {
			t.Errorf("%q: %d %s, want %d %s", target, code, body, want.code, want.says)
		}
	}
	if n := caught.Load(); n != 0 {
		t.Errorf("%d connections were made to a host that is not allowed", n)
	}
	expect(t, scrape(t, e), map[string]string{"redis_target_scrape_request_errors_total": "7"})
}

// What is not asked for is closed, what is asked for is not, and there is a limit.
func TestScrapeGivesUpWhatNobodyWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open, opens atomic.Int32
		s := &exporter.Scraper{
			Own: map[string]http.Handler{}, Canonical: func(a string) (string, error) { return a, nil },
			Allowed: func(string) bool { return true }, Rejected: func() {},
			Open: func(exporter.Request) (exporter.Opened, error) {
				open.Add(1)
				opens.Add(1)
				e, _ := newExporter(t, loadReplay(t, "testdata/replay/redis-7.0.15-standalone"), exporter.Options{})
				return exporter.Opened{Exporter: e, Close: func() { open.Add(-1) }}, nil
			},
		}
		runScraper(t, s)
		for i := range 32 {
			if code, body := ask(t, s, fmt.Sprintf("/scrape?target=h%d", i)); code != http.StatusOK {
				t.Fatalf("target %d: %d %s", i, code, body)
			}
		}
		// One more: the one that was not asked for the longest is given up for it.
		<-time.After(time.Second)
		ask(t, s, "/scrape?target=h0")
		if code, body := ask(t, s, "/scrape?target=more"); code != http.StatusOK {
			t.Errorf("beyond the limit: %d %s", code, body)
		}
		synctest.Wait()
		if n := open.Load(); n != 32 {
			t.Errorf("%d exporters are open, want the limit of 32", n)
		}
		made := opens.Load()
		ask(t, s, "/scrape?target=h0")
		if n := opens.Load() - made; n != 0 {
			t.Error("one that had just been asked for was given up")
		}
		for range 6 {
			<-time.After(5 * time.Minute)
			ask(t, s, "/scrape?target=h0")
		}
		synctest.Wait()
		if n := open.Load(); n != 1 {
			t.Errorf("%d exporters are open after half an hour, want the one that is asked for", n)
		}
	})
}

func TestDiscovery(t *testing.T) {
	nodes := "07c37df 127.0.0.1:30004@31004,host-4,shard-id=69bc slave e7d1 0 1426238317239 4 connected\n" +
		"67ed2db fd00::2:30002@31002 master - 0 1426238316232 2 connected 5461-10922\n" +
		"e7d1eec 127.0.0.1:30001@31001,,shard-id=1 myself,master - 0 0 1 connected 0-5460\n" +
		"aaaaaaa :0@0 master,noaddr - 0 0 1 disconnected\nnonsense\n\n"
	server := &replay{replies: map[string]any{"CLUSTER NODES": nodes}}
	code, body := ask(t, exporter.NewDiscovery(server, "rediss", true, time.Second), "/discover-cluster-nodes")
	want := `[
  {
    "labels": {},
    "targets": [
      "rediss://host-4:30004",
      "rediss://[fd00::2]:30002",
      "rediss://127.0.0.1:30001"
    ]
  }
]
`
	if code != http.StatusOK || body != want {
		t.Errorf("%d %s", code, body)
	}
	_, body = ask(t, exporter.NewDiscovery(server, "redis", false, time.Second), "/discover-cluster-nodes")
	if !strings.Contains(body, `"redis://127.0.0.1:30004"`) {
		t.Errorf("without hostnames: %s", body)
	}

	plain, in := testenv.StartRedis(t), testenv.StartRedis(t, "--cluster-enabled", "yes")
	if code, body := ask(t, exporter.NewDiscovery(plain.Client(t), "redis", false, answer), "/"); code != http.StatusBadRequest {
		t.Errorf("no cluster: %d %s", code, body)
	}
	in.Do(t, "CLUSTER", "MEET", "127.0.0.1", fmt.Sprint(in.Port)) // its own address becomes known
	testenv.Eventually(t, time.Minute, func() error {
		code, body := ask(t, exporter.NewDiscovery(in.Client(t), "redis", false, answer), "/")
		if code != http.StatusOK || !strings.Contains(body, fmt.Sprintf(`"redis://127.0.0.1:%d"`, in.Port)) {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	c := redis.New(redis.Options{Addr: "127.0.0.1:1"})
	defer c.Close()
	if code, body := ask(t, exporter.NewDiscovery(c, "redis", false, answer), "/"); code != http.StatusInternalServerError {
		t.Errorf("nobody there: %d %s", code, body)
	}
}
