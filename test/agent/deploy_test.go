package agent_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// The settings in deploy/redis.yaml are ones that the program takes, and do what
// the page says: redis-1 leaves restoring to redis-0, and redis-0 does not restore
// while redis-1 holds data.
func TestDeployedRestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	peer := testenv.StartRedis(t)
	peer.Do(t, "SET", "key", "value")
	replace := strings.NewReplacer(
		"/etc/redis-auth/password", write("password", ""),
		"/etc/redis/redis.conf", write("redis.conf", strings.Replace(deployed(t, "redis-conf", "redis.conf"), "include /etc/redis-auth/auth.conf", "", 1)),
		"s3://REPLACE-ME/redis?region=REPLACE-ME", "file://"+t.TempDir(),
		"peers: redis-pods\n", "peers: "+peer.Addr+"\n",
	)
	text := deployed(t, "redis-sidecar", "sidecar.yaml")
	edited := replace.Replace(text)
	for _, line := range []string{"peers: redis-pods\n", "only-pod: redis-0\n", "redis-conf: /etc/redis/redis.conf\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("sidecar.yaml is without %q", line)
		}
	}
	env := []string{"REDIS_SIDECAR_SETTINGS_FILE=" + write("sidecar.yaml", edited)}
	data := "--restore.dir=" + t.TempDir()
	if r := run(t, append(env, "POD_NAME=redis-1"), "restore", data); r.code != 0 || !strings.Contains(r.stdout, "only redis-0 restores, and this is redis-1, which copies it") {
		t.Errorf("redis-1: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if r := run(t, append(env, "POD_NAME=redis-0"), "restore", data, "--restore.peers-wait=0s"); r.code != 4 || !strings.Contains(r.stderr, "holds 1 keys as master, newer than the snapshot") {
		t.Errorf("redis-0 beside data: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	peer.Do(t, "FLUSHALL")
	if r := run(t, append(env, "POD_NAME=redis-0"), "restore", data); r.code != 0 || !strings.Contains(r.stdout, "there is no snapshot yet") {
		t.Errorf("redis-0 at first: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
}

// deployed returns a file of a ConfigMap of deploy/redis.yaml.
func deployed(t *testing.T, configMap, file string) string {
	t.Helper()
	f, err := os.Open(filepath.Join(testenv.Root(t), "deploy", "redis.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := yaml.NewDecoder(f); ; {
		var doc struct {
			Kind     string
			Metadata struct{ Name string }
			Data     map[string]string
		}
		switch err := d.Decode(&doc); {
		case errors.Is(err, io.EOF):
			t.Fatalf("there is no %s with %s", configMap, file)
		case err != nil:
			t.Fatal(err)
		}
		if doc.Kind == "ConfigMap" && doc.Metadata.Name == configMap && doc.Data[file] != "" {
			return doc.Data[file]
		}
	}
}
