package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func TestBasicAuth(t *testing.T) {
	t.Parallel()
	users := func(list ...string) map[string]string {
		text := "basic_auth_users:\n"
		for i := 0; i < len(list); i += 2 {
			text += "  " + list[i] + ": " + hashOfPassword(t, list[i+1]) + "\n"
		}
		return map[string]string{"web.yml": text}
	}
	d := newDir(t, users("alice", "secret", "bob", "hidden"))
	var log testenv.Log
	routes := Routes{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("metrics\n")) }),
		Status:  func() any { return nil },
		Probes:  map[string]http.Handler{"/livez": http.HandlerFunc(health), "/readyz": http.HandlerFunc(health), "/startupz": http.HandlerFunc(health)},
	}
	addr := serve(t, Options{ConfigFile: d.file("web.yml")}, routes.Handler(slog.New(slog.DiscardHandler)), logTo(&log))
	c := plain(t)
	code := func(path string, login ...string) int {
		t.Helper()
		got, _ := get(t, c, "http://"+addr+path, func(r *http.Request) {
			if len(login) == 2 {
				r.SetBasicAuth(login[0], login[1])
			}
		})
		return got
	}
	for _, path := range []string{"/livez", "/readyz", "/startupz", "/health", "/-/healthy", "/-/ready"} {
		if got := code(path); got != 200 {
			t.Errorf("%s without a password: %d", path, got)
		}
	}
	for _, path := range []string{"/", "/metrics", "/status", "/livez/", "/nothing", "//livez"} {
		if got := code(path); got != 401 {
			t.Errorf("%s without a password: %d", path, got)
		}
	}
	for _, tt := range []struct {
		name, password string
		want           int
	}{
		{"alice", "secret", 200}, {"alice", "secret", 200}, {"bob", "hidden", 200},
		{"alice", "hidden", 401}, {"alice", "", 401}, {"carol", "secret", 401}, {"", "", 401}, {"alice", "secret", 200},
	} {
		if got := code("/metrics", tt.name, tt.password); got != tt.want {
			t.Errorf("%s %s: got %d, want %d", tt.name, tt.password, got, tt.want)
		}
	}
	if !strings.Contains(log.String(), "passwords cross the network in clear") {
		t.Errorf("log:\n%s", &log)
	}

	// Rotated: the old password, remembered or not, is no good any more.
	d.replace(t, users("alice", "new"))
	for _, tt := range []struct {
		name, password string
		want           int
	}{{"alice", "secret", 401}, {"alice", "new", 200}, {"bob", "hidden", 401}} {
		if got := code("/metrics", tt.name, tt.password); got != tt.want {
			t.Errorf("after the rotation, %s %s: got %d, want %d", tt.name, tt.password, got, tt.want)
		}
	}

	// A bad file keeps the users and is said once.
	d.replace(t, map[string]string{"web.yml": "basic_auth_users:\n  alice: new\n"})
	for range 3 {
		if got := code("/metrics", "alice", "new"); got != 200 {
			t.Errorf("after a bad file: %d", got)
		}
	}
	if got := strings.Count(log.String(), "the one before stays in force"); got != 1 {
		t.Errorf("said %d times:\n%s", got, &log)
	}
}

func TestUnauthorizedAnswer(t *testing.T) {
	t.Parallel()
	d := newDir(t, map[string]string{"web.yml": "basic_auth_users:\n  alice: " + hashOfPassword(t, "secret") + "\n"})
	r, err := newReloader("web.yml", func() (*state, []stamp, error) { return load(d.file("web.yml")) }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	r.guard(http.NotFoundHandler()).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if got, want := rec.Header().Get("WWW-Authenticate"), `Basic realm="redis-sidecar", charset="UTF-8"`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := rec.Body.String(), "401: name and password, please\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A scrape must not compute a hash that takes a tenth of a second every time.
func TestGoodPasswordIsRemembered(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), 10)
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthenticator()
	users := map[string]credential{"alice": {hash: hash}}
	if !a.check(t.Context(), users, "alice", "secret") {
		t.Fatal("refused")
	}
	a.turn <- struct{}{} // nobody else computes a hash
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if !a.check(ended, users, "alice", "secret") {
			t.Fatal("a hash was to be computed again")
		}
	}
	<-a.turn
	if a.check(t.Context(), users, "alice", "secreT") {
		t.Error("a wrong password is good")
	}
	// A user that was removed is forgotten with the next good log-in.
	users = map[string]credential{"bob": {hash: hash}}
	if a.check(t.Context(), users, "alice", "secret") {
		t.Error("a user that was removed is good")
	}
	if !a.check(t.Context(), users, "bob", "secret") || len(a.good) != 1 {
		t.Errorf("%d users are remembered", len(a.good))
	}
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, lim := &limiter{}, limit{interval: time.Second, burst: 3}
		take := func() (n int) {
			for l.allow(lim) {
				n++
			}
			return n
		}
		if got := take(); got != 3 {
			t.Errorf("at first %d", got)
		}
		<-time.After(2500 * time.Millisecond)
		if got := take(); got != 2 {
			t.Errorf("after 2.5 s %d", got)
		}
		<-time.After(time.Hour)
		if got := take(); got != 3 {
			t.Errorf("after an hour %d", got)
		}
		if !l.allow(limit{}) {
			t.Error("no limit refuses")
		}
	})
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	d := newDir(t, map[string]string{"web.yml": "rate_limit: {interval: 1h, burst: 2}\n"})
	addr := serve(t, Options{ConfigFile: d.file("web.yml")}, Routes{Status: func() any { return nil }}.Handler(slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
	c := plain(t)
	for i, want := range []int{200, 200, 429} {
		if got, _ := get(t, c, "http://"+addr+"/status"); got != want {
			t.Errorf("request %d: got %d, want %d", i, got, want)
		}
	}
	if got, _ := get(t, c, "http://"+addr+"/health"); got != 200 {
		t.Errorf("/health: %d", got)
	}
}

// Where the path judges tokens itself, one that has a token needs no password;
// everywhere else it does.
func TestBearerPaths(t *testing.T) {
	t.Parallel()
	d := newDir(t, map[string]string{"web.yml": "basic_auth_users:\n  alice: " + hashOfPassword(t, "secret") + "\n"})
	var got string // what the handler saw
	routes := Routes{
		Status: func() any { return nil },
		Actions: map[string]http.Handler{"/backup": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r.Header.Get("Authorization")
			w.WriteHeader(http.StatusTeapot)
		})},
	}
	addr := serve(t, Options{ConfigFile: d.file("web.yml"), BearerPaths: []string{"/backup"}}, routes.Handler(slog.New(slog.DiscardHandler)), logTo(&testenv.Log{}))
	c := plain(t)
	for _, tt := range []struct {
		path, authorization string
		want                int
	}{
		{"/backup", "", 401},
		{"/backup", "Bearer x", 418},
		{"/backup", "bearer x", 401},
		{"/backup", "Basic YWxpY2U6c2VjcmV0", 418},
		{"/backup", "Basic YWxpY2U6d3Jvbmc=", 401},
		{"/backup/", "Bearer x", 401},
		{"/status", "Bearer x", 401},
		{"/", "Bearer x", 401},
	} {
		got = ""
		code, _ := get(t, c, "http://"+addr+tt.path, func(r *http.Request) { r.Header.Set("Authorization", tt.authorization) })
		if code != tt.want || code == http.StatusTeapot && got != tt.authorization {
			t.Errorf("%s with %q: %d, want %d; the handler saw %q", tt.path, tt.authorization, code, tt.want, got)
		}
	}
}
