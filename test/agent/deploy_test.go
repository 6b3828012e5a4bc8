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

// restore.redis-version is that of the image beside it, retention keeps more than
// the newest, and the sidecar knows the limit of the container redis.
func TestDeployedVersionAndRetention(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"redis", "redis-cluster"} {
		file, configMap := name+".yaml", name+"-sidecar"
		var settings struct {
			Backup struct {
				Retention map[string]int
			}
			Restore map[string]any
		}
		if err := yaml.Unmarshal([]byte(deployedIn(t, file, configMap, "sidecar.yaml")), &settings); err != nil {
			t.Fatal(err)
		}
		var pods struct {
			Spec struct{ Template struct{ Spec podSpec } }
		}
		findDeployed(t, file, "StatefulSet", name, &pods)
		version, limited := "", false
		for _, c := range pods.Spec.Template.Spec.Containers {
			if c.Name == "redis" {
				_, version, _ = strings.Cut(c.Image, "/redis:")
				limited = c.Resources.Limits["memory"] != ""
			}
		}
		if got := settings.Restore["redis-version"]; version == "" || got != version {
			t.Errorf("%s: restore.redis-version is %v, the image is of %q", file, got, version)
		}
		for _, rule := range []string{"keep-last", "keep-daily", "keep-weekly"} {
			if settings.Backup.Retention[rule] < 1 {
				t.Errorf("%s: no %s", file, rule)
			}
		}
		for _, c := range pods.Spec.Template.Spec.InitContainers {
			var limit resourceRef
			for _, e := range c.Env {
				if e.Name == "REDIS_SIDECAR_BACKUP_MEMORY_LIMIT" {
					limit = e.ValueFrom.ResourceFieldRef
				}
			}
			if want := (resourceRef{"redis", "limits.memory"}); limit != want || !limited {
				t.Errorf("%s: %s has the memory limit of %+v; redis has one: %v", file, c.Name, limit, limited)
			}
		}
	}
}

type resourceRef struct {
	ContainerName string `yaml:"containerName"`
	Resource      string
}

type podSpec struct {
	InitContainers []podContainer `yaml:"initContainers"`
	Containers     []podContainer
}

type podContainer struct {
	Name, Image string
	Env         []struct {
		Name      string
		ValueFrom struct {
			ResourceFieldRef resourceRef `yaml:"resourceFieldRef"`
		} `yaml:"valueFrom"`
	}
	Resources struct{ Limits map[string]string }
}

// deployed returns a file of a ConfigMap of deploy/redis.yaml.
func deployed(t *testing.T, configMap, file string) string {
	t.Helper()
	return deployedIn(t, "redis.yaml", configMap, file)
}

func deployedIn(t *testing.T, in, configMap, file string) string {
	t.Helper()
	var doc struct{ Data map[string]string }
	findDeployed(t, in, "ConfigMap", configMap, &doc)
	if doc.Data[file] == "" {
		t.Fatalf("%s of %s is without %s", configMap, in, file)
	}
	return doc.Data[file]
}

// findDeployed decodes an object of a file in deploy.
func findDeployed(t *testing.T, in, kind, name string, into any) {
	t.Helper()
	f, err := os.Open(filepath.Join(testenv.Root(t), "deploy", in))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := yaml.NewDecoder(f); ; {
		var node yaml.Node
		switch err := d.Decode(&node); {
		case errors.Is(err, io.EOF):
			t.Fatalf("%s has no %s %s", in, kind, name)
		case err != nil:
			t.Fatal(err)
		}
		var head struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := node.Decode(&head); err != nil {
			t.Fatal(err)
		}
		if head.Kind == kind && head.Metadata.Name == name {
			if err := node.Decode(into); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
}
