package config

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// TestFileBesideTheData has a redis.conf in a directory where another file is
// written all the time.
func TestFileBesideTheData(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "redis.conf")
	writeFile(t, path, "timeout 1\n")
	s := testenv.StartRedis(t)
	r := start(t, Options{Path: path, Interval: 100 * time.Millisecond}, s.Client(t))
	r.until(status.OK, "", nil)

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			_ = os.WriteFile(filepath.Join(dir, fmt.Sprintf("temp-%d.rdb", i%7)), []byte("x"), 0o644)
		}
	}()
	defer func() { cancel(); <-done }()
	r.until(status.OK, "", func(d Detail) error {
		if d.Watching == "directories" {
			return fmt.Errorf("still watching")
		}
		return nil
	})
	writeFile(t, path, "timeout 2\n") // the clock finds it
	r.until(status.OK, "", atHash(path))
	wantValue(t, s, "timeout", "2")
}

func TestHops(t *testing.T) {
	dir := t.TempDir()
	for name, target := range map[string]string{"a": "sub/b", "sub/b": "../..data/c", "..data": "..1", "loop": "loop"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "..1"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "..1", "c"), "")
	want := []string{dir + "/a", dir + "/sub/b", dir + "/..data/c"}
	if got := hops(dir + "/a"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := hops(dir + "/loop"); len(got) > 32 {
		t.Errorf("a loop has %d hops", len(got))
	}
	if got := hops(dir + "/missing"); !slices.Equal(got, []string{dir + "/missing"}) {
		t.Errorf("got %q", got)
	}
}

func TestMountPoints(t *testing.T) {
	// Lines of a container with a subPath mount, a mounted volume and a path with
	// a blank.
	const mountinfo = `2158 2144 252:1 /var/lib/kubelet/pods/9e/volumes/kubernetes.io~configmap/conf/..2026_11_23_06_15_01.1/redis.conf /etc/redis/redis.conf ro,relatime - ext4 /dev/vda1 rw
2159 2144 252:1 /var/lib/kubelet/pods/9e/volumes/kubernetes.io~configmap/conf /etc/redis-volume ro,relatime - ext4 /dev/vda1 rw
2160 2144 0:50 / /mnt/with\040blank rw,relatime shared:1 - tmpfs none rw

short line`
	points := mountPoints(mountinfo)
	for _, path := range []string{"/etc/redis/redis.conf", "/etc/redis-volume", "/mnt/with blank"} {
		if !points[path] {
			t.Errorf("%s is missing in %v", path, points)
		}
	}
	if len(points) != 3 {
		t.Errorf("%v", points)
	}
	v := newVolume(t, conf("timeout 1"))
	if path, ok := mountedAlone([]string{v.path()}); ok {
		t.Errorf("%s is said to be mounted alone", path)
	}
}
