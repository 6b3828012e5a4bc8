package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// valueIn returns the value of a series in an answer of metrics, "" when it is
// not there.
func valueIn(body, series string) string {
	for line := range strings.Lines(body) {
		if v, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// isMetric returns an error unless a series of /metrics has a value.
func (a *agent) isMetric(series, want string) error {
	got, err := a.metric(series)
	if err == nil && got != want {
		err = fmt.Errorf("%s is %q, want %q", series, got, want)
	}
	return err
}

// scrape asks for the metrics of a target; more are further parameters.
func (a *agent) scrape(t *testing.T, target string, more ...string) string {
	t.Helper()
	return a.mustGet(t, scrapePath(target, more...), http.StatusOK)
}

func scrapePath(target string, more ...string) string {
	q := url.Values{"target": {target}}
	for i := 0; i+1 < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return "/scrape?" + q.Encode()
}

// wantIn checks series of an answer; "" is one that must not be there.
func wantIn(t *testing.T, what, body string, want map[string]string) {
	t.Helper()
	for series, value := range want {
		if got := valueIn(body, series); got != value {
			t.Errorf("%s: %s is %q, want %q", what, series, got, value)
		}
	}
}

// writeSecret replaces a file as a whole.
func writeSecret(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// One agent shows its server and the Sentinel beside it, and the end of the
// Sentinel is the Sentinel's trouble only.
func TestSentinelAsATarget(t *testing.T) {
	t.Parallel()
	srv := testenv.StartRedis(t)
	sentinel := testenv.StartSentinel(t, "sentinel monitor mymaster 127.0.0.1 "+strconv.Itoa(srv.Port)+" 1")
	a := start(t, []string{"REDIS_ADDR=" + srv.Addr}, "--exporter.targets=sentinel=redis://watcher:in-the-url@"+sentinel.Addr)
	a.eventually(t, 10*time.Second, func() error { return a.want("/readyz", 200) })

	isServer := map[string]string{
		"redis_up": "1", `redis_instance_role{role="master"}`: "1", `redis_instance_role{role="sentinel"}`: "0", "redis_sentinel_masters": "",
		`redis_sidecar_job_state{name="exporter",state="ok"}`: "1",
	}
	isSentinel := map[string]string{
		"redis_up": "1", `redis_instance_role{role="sentinel"}`: "1", "redis_sentinel_masters": "1",
		`redis_sidecar_job_state{name="exporter",state="ok"}`: "", // those of the agent are at /metrics only
	}
	// The user of the URL is unknown to this Sentinel.
	wantIn(t, "/metrics/sentinel", a.mustGet(t, "/metrics/sentinel", 200), map[string]string{"redis_up": "0", `redis_sidecar_redis_down{reason="auth"}`: "1"})
	sentinel.Do(t, "ACL", "SETUSER", "watcher", "on", ">in-the-url", "+@all")
	wantIn(t, "/metrics", a.mustGet(t, "/metrics", 200), isServer)
	wantIn(t, "/metrics/sentinel", a.mustGet(t, "/metrics/sentinel", 200), isSentinel)
	for _, target := range []string{"sentinel", sentinel.Addr, "redis://" + sentinel.Addr} {
		wantIn(t, "/scrape of "+target, a.scrape(t, target), isSentinel)
	}
	wantIn(t, "/scrape of the server", a.scrape(t, srv.Addr), isServer)
	a.waitJob(t, 20*time.Second, "exporter:sentinel", "ok", "")

	var page struct {
		Targets []map[string]string `json:"targets"`
	}
	if err := json.Unmarshal([]byte(a.mustGet(t, "/status", 200)), &page); err != nil {
		t.Fatal(err)
	}
	want := []map[string]string{{"name": "sentinel", "address": "redis://watcher:**redacted**@" + sentinel.Addr, "path": "/metrics/sentinel"}}
	if diff := cmp.Diff(want, page.Targets); diff != "" {
		t.Errorf("the targets of /status (-want +got):\n%s", diff)
	}

	sentinel.Kill(t)
	wantIn(t, "/metrics/sentinel", a.mustGet(t, "/metrics/sentinel", 200), map[string]string{"redis_up": "0", `redis_sidecar_redis_down{reason="unreachable"}`: "1"})
	wantIn(t, "/scrape?target=sentinel", a.scrape(t, "sentinel"), map[string]string{"redis_up": "0"})
	wantIn(t, "/metrics", a.mustGet(t, "/metrics", 200), isServer)
	a.waitJob(t, 20*time.Second, "exporter:sentinel", "failing", "unreachable")
	if r, err := a.job("exporter"); err != nil || r.State != "ok" {
		t.Errorf("the job of the server is %s: %s %v", r.State, r.Message, err)
	}
	a.mustGet(t, "/livez", 200)
	a.mustGet(t, "/readyz", 200)

	sentinel.Start(t)
	sentinel.Do(t, "ACL", "SETUSER", "watcher", "on", ">in-the-url", "+@all")
	wantIn(t, "/metrics/sentinel", a.mustGet(t, "/metrics/sentinel", 200), map[string]string{"redis_up": "1"})
	if strings.Contains(a.logged(t), "in-the-url") {
		t.Error("the password of the target's address is in the log")
	}
}

// A password goes to the server that it is meant for, and to no other.
func TestScrapeKeepsPasswords(t *testing.T) {
	t.Parallel()
	main, b, c, named := testenv.StartRedis(t), testenv.StartRedis(t), testenv.StartRedis(t), testenv.StartRedis(t)
	mainAdmin, bAdmin, namedAdmin := administrator(t, main), administrator(t, b), administrator(t, named)
	mainAdmin("CONFIG", "SET", "requirepass", "main-secret")
	bAdmin("CONFIG", "SET", "requirepass", "b-secret")
	namedAdmin("CONFIG", "SET", "requirepass", "named-secret")
	bAdmin("CONFIG", "RESETSTAT")
	namedAdmin("CONFIG", "RESETSTAT")
	// untouched checks that nobody tried a password on b and named: one that comes
	// with HELLO and is wrong would be in ACL LOG.
	untouched := func(when string) {
		t.Helper()
		for name, admin := range map[string]func(...string) any{"b": bAdmin, "named": namedAdmin} {
			if stats := admin("INFO", "commandstats").(string); strings.Contains(stats, "cmdstat_auth:") {
				t.Errorf("%s: an AUTH came to %s:\n%s", when, name, stats)
			}
			if log := admin("ACL", "LOG").([]any); len(log) > 0 {
				t.Errorf("%s: ACL LOG of %s: %v", when, name, log)
			}
		}
	}
	stranger, connections := countingListener(t)

	file := filepath.Join(t.TempDir(), "password")
	writeSecret(t, file, "main-secret\n")
	a := start(t, []string{"REDIS_ADDR=" + main.Addr}, "--redis.password-file="+file, "--exporter.scrape-allow="+b.Addr+","+c.Addr, "--exporter.targets=named="+named.Addr, "--log.level=debug")
	up := map[string]string{"redis_up": "1"}
	down := map[string]string{"redis_up": "0", `redis_sidecar_redis_down{reason="auth"}`: "1", `redis_exporter_last_scrape_error{err="auth"}`: "1"}

	wantIn(t, "main", a.scrape(t, main.Addr), up)
	wantIn(t, "c", a.scrape(t, c.Addr), up)
	for _, target := range []string{b.Addr, "redis://" + b.Addr, "redis://:b-secret@" + b.Addr, "redis://:in-the-url@" + b.Addr, "redis://default:in-the-url@" + b.Addr, "default:in-the-url@" + b.Addr} {
		wantIn(t, target+", a plain file", a.scrape(t, target), down)
	}
	wantIn(t, "named, a plain file", a.mustGet(t, "/metrics/named", 200), down)
	wantIn(t, "named, a plain file, checks", a.scrape(t, "named", "check-keys", "a*"), down)
	wantIn(t, "named by an address", a.scrape(t, "redis://default:in-the-url@"+named.Addr), down)
	untouched("a plain file")

	// The file becomes a map, which is read with the next connection.
	writeSecret(t, file, fmt.Sprintf(`{"redis://%s":"main-secret"}`, main.Addr))
	wantIn(t, "b, a map without it", a.scrape(t, b.Addr), down)
	wantIn(t, "named, a map without it", a.scrape(t, "named"), down)
	untouched("a map without it")
	writeSecret(t, file, fmt.Sprintf(`{"redis://%s":"main-secret","redis://%s":"b-secret","redis://%s":"named-secret"}`, main.Addr, b.Addr, named.Addr))
	wantIn(t, "b, a map with it", a.scrape(t, b.Addr), up)
	wantIn(t, "named, a map with it", a.scrape(t, "named"), up)
	wantIn(t, "main, a map", a.scrape(t, main.Addr), up)

	for _, target := range []string{stranger, "redis://" + stranger, "rediss://x:in-the-url@" + stranger, "redis://" + stranger + "/0?in-the-url"} {
		body := a.mustGet(t, scrapePath(target), http.StatusForbidden)
		if !strings.Contains(body, "exporter.scrape-allow") || strings.Contains(body, "in-the-url") {
			t.Errorf("%s: says %q", target, body)
		}
	}
	a.mustGet(t, scrapePath("redis://in-the-url:in-the-url"), http.StatusBadRequest)
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections to a host that is not allowed", n)
	}
	a.signal(t, syscall.SIGTERM)
	if code := a.ended(t, 20*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, secret := range []string{"main-secret", "b-secret", "named-secret", "in-the-url"} {
		if strings.Contains(a.logged(t), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}

	own := filepath.Join(t.TempDir(), "named")
	writeSecret(t, own, "named-secret")
	off := start(t, []string{"REDIS_ADDR=" + c.Addr}, "--exporter.disable-scrape-endpoint",
		"--exporter.targets=named="+named.Addr, "--exporter.target-password-files=named="+own)
	off.mustGet(t, scrapePath("named"), http.StatusNotFound)
	wantIn(t, "/metrics/named", off.mustGet(t, "/metrics/named", 200), up)
}

// countingListener counts who connects to its address.
func countingListener(t *testing.T) (addr string, connections *atomic.Int32) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int32)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	return l.Addr().String(), connections
}

// Key checks by the parameters of a scrape run in the background, like those of
// the settings, and there is a limit to how many.
func TestScrapeWithChecks(t *testing.T) {
	t.Parallel()
	main, b := testenv.StartRedis(t), testenv.StartRedis(t)
	main.Do(t, "RPUSH", "queue", "a", "b", "c")
	b.Do(t, "SET", "user:1", "four")
	a := start(t, []string{"REDIS_ADDR=" + main.Addr}, "--exporter.scrape-allow="+b.Addr)
	for _, tt := range []struct{ target, param, value, series, want string }{
		{main.Addr, "check-single-keys", "db0=queue", `redis_key_size{db="db0",key="queue"}`, "3"},
		{b.Addr, "check-keys", "user:*", `redis_key_size{db="db0",key="user:1"}`, "4"},
	} {
		a.eventually(t, 10*time.Second, func() error { // the first answer may be without
			if got := valueIn(a.scrape(t, tt.target, tt.param, tt.value), tt.series); got != tt.want {
				return fmt.Errorf("%s of %s is %q", tt.series, tt.target, got)
			}
			return nil
		})
		wantIn(t, tt.target+" without checks", a.scrape(t, tt.target), map[string]string{tt.series: "", "redis_up": "1"})
	}
	for value, says := range map[string]string{
		"dbx=a":     `check-keys: item 1, "dbx=a": the part before = is no database`,
		"a,db0=%zz": `check-keys: item 2, "db0=%zz": has a % that is no escape: write % in a key as %25`,
	} {
		if body := a.mustGet(t, scrapePath(main.Addr, "check-keys", value), http.StatusBadRequest); !strings.Contains(body, says) {
			t.Errorf("check-keys=%s says %q, want %q", value, body, says)
		}
	}

	// More than there may be: those that were not asked for the longest go.
	for i := range 40 {
		a.scrape(t, main.Addr, "check-single-keys", "key"+strconv.Itoa(i))
		wantIn(t, "one in use", a.scrape(t, main.Addr, "check-single-keys", "db0=queue"), map[string]string{`redis_key_size{db="db0",key="queue"}`: "3"})
	}
	wantIn(t, "/metrics", a.mustGet(t, "/metrics", 200), map[string]string{"redis_target_scrape_request_errors_total": "2"})
	a.eventually(t, 10*time.Second, func() error {
		if n := strings.Count(main.Do(t, "CLIENT", "LIST").(string), "redis-sidecar:scrape"); n > 2*32 {
			return fmt.Errorf("%d connections for /scrape", n)
		}
		return nil
	})

	a.signal(t, syscall.SIGTERM)
	if code := a.ended(t, 20*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, srv := range []*testenv.Redis{main, b} {
		testenv.Eventually(t, 10*time.Second, func() error {
			if list := srv.Do(t, "CLIENT", "LIST").(string); strings.Contains(list, "redis-sidecar") {
				return errors.New("a connection is left:\n" + list)
			}
			return nil
		})
	}
}
