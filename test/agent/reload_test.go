package agent_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// A password that rotates is used by every job with its next connection, without
// a restart; /-/reload says whether the file is good.
func TestPasswordRotates(t *testing.T) {
	t.Parallel()
	for name, format := range map[string]string{
		"plain file": "%[2]s\n",
		"JSON map":   `{"redis://%[1]s":"%[2]s","redis://other:6379":"other-secret"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := testenv.StartRedis(t)
			admin := administrator(t, srv)
			admin("CONFIG", "SET", "requirepass", "old-secret")
			file := filepath.Join(t.TempDir(), "password")
			write := func(password string) { writeSecret(t, file, fmt.Sprintf(format, srv.Addr, password)) }
			write("old-secret")
			a := start(t, []string{"REDIS_ADDR=" + srv.Addr}, "--redis.password-file="+file, "--check-single-keys=a", "--exporter.interval=1s")
			a.wantMetric(t, "redis_up", "1")
			a.waitJob(t, 10*time.Second, "probe", "ok", "")

			admin("CONFIG", "SET", "requirepass", "new-secret")
			admin("CLIENT", "KILL", "TYPE", "normal")
			body := a.mustGet(t, "/metrics", 200)
			wantIn(t, "with the old one", body, map[string]string{"redis_up": "0", `redis_sidecar_redis_down{reason="auth"}`: "1"})
			a.waitJob(t, 20*time.Second, "probe", "failing", "auth")
			write("new-secret")
			a.wantMetric(t, "redis_up", "1")

			// The way it should be done: the file first is as good as the server first.
			write("newest-secret")
			a.wantMetric(t, "redis_up", "1")
			if body := a.mustGet(t, "/-/reload", 200); body != "ok\n" {
				t.Errorf("/-/reload says %q", body)
			}
			admin("CONFIG", "SET", "requirepass", "newest-secret")
			admin("CLIENT", "KILL", "TYPE", "normal")
			a.wantMetric(t, "redis_up", "1")
			a.waitJob(t, 20*time.Second, "probe", "ok", "")
			a.waitJob(t, 20*time.Second, "announce", "ok", "")
			const background = `redis_sidecar_exporter_background_success{collector="single_keys"}`
			a.eventually(t, 20*time.Second, func() error {
				return a.isMetric(background, "1")
			})
			a.waitJob(t, 20*time.Second, "exporter", "ok", "")
			if strings.Contains(a.logged(t), "-secret") {
				t.Error("a password is in the log")
			}
		})
	}
}

// /-/reload tells what is wrong with a password file, and not what is in it.
func TestReloadTellsOfPasswordFiles(t *testing.T) {
	t.Parallel()
	srv := testenv.StartRedis(t)
	dir := t.TempDir()
	main, sentinel := filepath.Join(dir, "main"), filepath.Join(dir, "sentinel")
	writeSecret(t, main, "")
	writeSecret(t, sentinel, "")
	a := start(t, []string{"REDIS_ADDR=redis://reader@" + srv.Addr}, "--redis.password-file="+main,
		"--exporter.targets=sentinel=redis://watcher@127.0.0.1:26379", "--exporter.target-password-files=sentinel="+sentinel)
	const good = "hush\n"
	for _, tt := range []struct {
		main, sentinel string
		code           int
		says           string
	}{
		{good, good, 200, "ok"},
		{"hush\nand hush\n", good, 500, main + " has more than one line"},
		{`{"redis://` + srv.Addr + `":"hush"`, good, 500, main + " begins with { but is not a JSON object of strings"},
		{`{"redis://other:6379":"hush"}`, good, 500, main + " has no password for " + srv.Addr},
		{`{"redis://` + srv.Addr + `":"hush"}`, good, 200, "ok"},
		{`{"redis://reader@` + srv.Addr + `":"hush"}`, good, 200, "ok"}, // the user of the address
		{`{"redis://someone@` + srv.Addr + `":"hush"}`, good, 500, main + " has no password for " + srv.Addr},
		{good, `["hush"` + "\n" + `,"hush"]`, 500, sentinel + " has more than one line"},
		{good, `{"redis://watcher@127.0.0.1:26379":"hush"}`, 200, "ok"},
		{good, `{"redis://127.0.0.1:1":"hush"}`, 500, sentinel + " has no password for 127.0.0.1:26379"},
	} {
		writeSecret(t, main, tt.main)
		writeSecret(t, sentinel, tt.sentinel)
		code, body, err := a.get("/-/reload")
		if err != nil || code != tt.code || !strings.Contains(body, tt.says) || strings.Contains(body, "hush") {
			t.Errorf("%q and %q: %d %q %v, want %d with %q", tt.main, tt.sentinel, code, body, err, tt.code, tt.says)
		}
	}
	if strings.Contains(a.logged(t), "hush") {
		t.Error("a password is in the log")
	}

	none := start(t, []string{"REDIS_ADDR=" + srv.Addr})
	if body := none.mustGet(t, "/-/reload", http.StatusBadRequest); !strings.Contains(body, "redis.password-file is not set") {
		t.Errorf("without a file: %q", body)
	}
}
