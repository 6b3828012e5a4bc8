package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// answer calls a handler without a network.
func answer(h http.Handler, method, path string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(method, path, nil))
	return rec
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	var log testenv.Log
	says := func(s string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) })
	}
	h := Routes{
		MetricsPath: "/custom",
		Metrics:     says("metrics"),
		Probes: map[string]http.Handler{
			"/livez": says("alive"),
			"/startupz": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				panic("broken")
			}),
		},
		Status:  func() any { return map[string]int{"a": 1} },
		Pages:   map[string]http.Handler{"/scrape": says("scraped")},
		Actions: map[string]http.Handler{"/-/reload": says("done")},
	}.Handler(logTo(&log))
	tests := []struct {
		method, path string
		code         int
		body         string
	}{
		{"GET", "/custom", 200, "metrics"},
		{"GET", "/metrics", 404, "404: there is nothing here; / lists what there is\n"},
		{"GET", "/livez", 200, "alive"},
		{"GET", "/readyz", 404, "404: there is nothing here; / lists what there is\n"},
		{"GET", "/health", 200, "ok\n"},
		{"HEAD", "/health", 200, "ok\n"}, // the server drops the body
		{"POST", "/custom", 405, "405: only GET\n"},
		{"POST", "/health", 405, "405: only GET\n"},
		{"GET", "/-/healthy", 200, "ok\n"},
		{"GET", "/-/ready", 200, "ok\n"},
		{"GET", "/scrape", 200, "scraped"},
		{"POST", "/scrape", 405, "405: only GET\n"},
		{"GET", "/-/reload", 200, "done"},
		{"POST", "/-/reload", 200, "done"},
		{"PUT", "/-/reload", 200, "done"},
		{"DELETE", "/-/reload", 405, "405: only POST, PUT and GET\n"},
		{"GET", "/status", 200, "{\n  \"a\": 1\n}\n"},
		{"DELETE", "/status", 405, "405: only GET\n"},
		{"GET", "/status/", 404, "404: there is nothing here; / lists what there is\n"},
		{"GET", "/index.html", 404, "404: there is nothing here; / lists what there is\n"},
		{"GET", "/startupz", 500, "500: a defect of the sidecar; see its log\n"},
	}
	for _, tt := range tests {
		rec := answer(h, tt.method, tt.path)
		if rec.Code != tt.code || rec.Body.String() != tt.body {
			t.Errorf("%s %s: got %d %q, want %d %q", tt.method, tt.path, rec.Code, rec.Body, tt.code, tt.body)
		}
		want := map[string]string{
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff",
			"X-Frame-Options":         "deny",
			"Referrer-Policy":         "no-referrer",
		}
		for name, value := range want {
			if got := rec.Header().Get(name); got != value {
				t.Errorf("%s %s: %s is %q, want %q", tt.method, tt.path, name, got, value)
			}
		}
	}
	if rec := answer(h, "POST", "/"); rec.Code != 405 || rec.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST /: %d %v", rec.Code, rec.Header())
	}
	if got := log.String(); !strings.Contains(got, `msg="a handler panicked" path=/startupz panic=broken`) {
		t.Errorf("log:\n%s", got)
	}
	if got := answer(h, "GET", "/").Body.String(); !strings.Contains(got, `<a href="custom">Metrics</a>`) {
		t.Error("the page does not link to the metrics")
	}
}

func TestAbortedHandlerStaysAborted(t *testing.T) {
	t.Parallel()
	h := Routes{Metrics: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })}.Handler(slog.New(slog.DiscardHandler))
	defer func() {
		v := recover()
		if err, ok := v.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("recovered %v", v)
		}
	}()
	answer(h, "GET", "/metrics")
}

func TestStatusThatIsNoJSON(t *testing.T) {
	t.Parallel()
	var log testenv.Log
	h := Routes{Status: func() any { return math.NaN() }}.Handler(logTo(&log))
	rec := answer(h, "GET", "/status")
	if want := "500: the status cannot be written as JSON; see the log\n"; rec.Code != 500 || rec.Body.String() != want {
		t.Errorf("got %d %q", rec.Code, rec.Body)
	}
	if !strings.Contains(log.String(), "unsupported value: NaN") {
		t.Errorf("log:\n%s", &log)
	}
}

var update = flag.Bool("update", false, "write the golden files")

// The shape of /status, as scripts rely on it.
func TestStatusJSON(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC)
	board := status.NewBoard(slog.New(slog.DiscardHandler), func() time.Time { return now })
	ok := board.Register(status.Announce)
	ok.Success("replica-announce-ip is 10.244.1.17 (pod)")
	ok.NextRun(now.Add(5 * time.Second))
	ok.Detail(map[string]any{"address": "10.244.1.17", "source": "pod"})
	board.Register(status.Config).Warn(status.ReasonRestart, "io-threads needs a restart of redis-server")
	failing := board.Register(status.Backup, status.ReasonStoreDenied)
	failing.Failure(status.WithReason(status.ReasonStoreDenied, errors.New("upload snapshot: <Access Denied>")))
	board.Register(status.Exporter)
	board.Register(status.Probe).Disable("off")

	h := Routes{Status: func() any {
		return struct {
			Version string          `json:"version"`
			Now     time.Time       `json:"now"`
			Jobs    []status.Report `json:"jobs"`
		}{"v1", now, board.Reports()}
	}}.Handler(slog.New(slog.DiscardHandler))
	rec := answer(h, "GET", "/status")
	if h := rec.Header(); rec.Code != 200 || h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", rec.Code, h)
	}
	golden := filepath.Join("testdata", "status.json")
	if *update {
		if err := os.WriteFile(golden, rec.Body.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), rec.Body.String()); diff != "" {
		t.Errorf("run with -update to accept (-want +got):\n%s", diff)
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	rec := answer(Routes{}.Handler(slog.New(slog.DiscardHandler)), "GET", "/")
	page := rec.Body.String()
	if h := rec.Header(); rec.Code != 200 || h.Get("Content-Type") != "text/html; charset=utf-8" || h.Get("Cache-Control") != "no-cache" {
		t.Errorf("%d %v", rec.Code, h)
	}

	// The browser runs this script and this style, and nothing else.
	policy := rec.Header().Get("Content-Security-Policy")
	for _, element := range []string{"script", "style"} {
		m := regexp.MustCompile(`(?s)<`+element+`>(.*?)</`+element+`>`).FindAllStringSubmatch(page, -1)
		if len(m) != 1 {
			t.Fatalf("%d <%s> elements", len(m), element)
		}
		sum := sha256.Sum256([]byte(m[0][1]))
		want := element + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %q", policy, want)
		}
	}
	for _, unsafe := range []string{"unsafe", "*"} {
		if strings.Contains(policy, unsafe) {
			t.Errorf("the policy %q allows too much", policy)
		}
	}

	// Everything from outside becomes text; nothing comes from elsewhere.
	for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "style=", "onclick=", "@import", "https://"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	// Links are relative, so that the page works behind a proxy with a prefix,
	// such as kubectl's.
	if m := regexp.MustCompile(`(?:href|src|fetch\()=?"/[^"]*"`).FindString(page); m != "" {
		t.Errorf("the page has an absolute link %s", m)
	}
	for _, link := range []string{"metrics", "status", "startupz", "livez", "readyz", "health"} {
		if !strings.Contains(page, `<a href="`+link+`"`) {
			t.Errorf("no link to %s", link)
		}
	}
	if !strings.Contains(page, "<noscript>") {
		t.Error("nothing for a browser without JavaScript")
	}
	// The file is served as it is, whatever the settings are: no secret can be in it.
	if file, err := os.ReadFile("page.html"); err != nil || !bytes.Equal(file, rec.Body.Bytes()) {
		t.Errorf("the page is not the file: %v", err)
	}
}
