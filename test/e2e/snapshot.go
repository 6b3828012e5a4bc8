package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/store"
)

// snapshot has the sidecar take one, and looks into the bucket itself.
func (s *scenario) snapshot(ctx context.Context) (string, error) {
	if _, err := s.exec(ctx, "redis-0", "sidecar", "/redis-sidecar", "backup", "now"); err != nil {
		return "", err
	}
	objects, err := s.listBucket(ctx)
	if err != nil {
		return "", err
	}
	var dump, mark string
	for _, o := range objects {
		switch {
		case strings.HasSuffix(strings.Fields(o)[0], "/manifest.json"):
			mark = o
		case strings.Contains(o, "/dump.rdb"):
			dump = o
		}
	}
	if dump == "" || mark == "" {
		return "", fmt.Errorf("the bucket holds no dump with its manifest, but %q", objects)
	}
	return dump + " and its manifest", nil
}

// listBucket lists the objects as "key bytes", through a forwarded port.
func (s *scenario) listBucket(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	endpoint, stop, err := s.forward(ctx, "pod/s3", "9000")
	if err != nil {
		return nil, err
	}
	defer stop()
	bucket, err := store.Open(ctx, storeURL(endpoint), store.Options{Getenv: func(name string) string {
		return map[string]string{"AWS_ACCESS_KEY_ID": s.accessKey, "AWS_SECRET_ACCESS_KEY": s.secretKey}[name]
	}})
	if err != nil {
		return nil, err
	}
	defer bucket.Close()
	var objects []string
	err = bucket.List(ctx, "", func(key string, size int64, _ time.Time) error {
		objects = append(objects, fmt.Sprintf("%s %d bytes", key, size))
		return nil
	})
	return objects, err
}

// forward forwards a free local port to a pod's and returns its URL.
func (s *scenario) forward(ctx context.Context, pod, port string) (url string, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, s.program, "--namespace", s.namespace, "port-forward", "--address", "127.0.0.1", pod, ":"+port)
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return "", nil, fmt.Errorf("kubectl port-forward: %w", err)
	}
	stop = func() {
		cancel()
		_ = cmd.Wait() // it was killed
	}
	line, err := bufio.NewReader(stdout).ReadString('\n') // Forwarding from 127.0.0.1:34567 -> 9000
	fields := strings.Fields(line)
	if err != nil || len(fields) < 3 {
		stop()
		return "", nil, fmt.Errorf("kubectl port-forward said %q (%w)", line, err)
	}
	return "http://" + fields[2], stop, nil
}

const lateKey = "written after the snapshot"

// emptyVolume removes all files of the master and deletes its pod: what would
// wipe the replica, too, if the master came back empty. The replica's data is given
// up for the snapshot on purpose; otherwise the restore would refuse.
func (s *scenario) emptyVolume(ctx context.Context) (string, error) {
	var configMap struct{ Data map[string]string }
	if err := s.get(ctx, &configMap, "configmap", "redis-sidecar"); err != nil {
		return "", err
	}
	settings := configMap.Data["sidecar.yaml"]
	edited := strings.Replace(settings, "only-pod: redis-0\n", "only-pod: redis-0\n  if-peers: restore\n", 1)
	if edited == settings {
		return "", errors.New("there is no restore.only-pod in sidecar.yaml to add to")
	}
	patch, err := json.Marshal(map[string]any{"data": map[string]string{"sidecar.yaml": edited}})
	if err != nil {
		return "", err
	}
	if _, err := s.do(ctx, "patch", "configmap", "redis-sidecar", "--type=merge", "-p", string(patch)); err != nil {
		return "", err
	}
	if _, err := s.redis(ctx, "redis-0", "SET", lateKey, "x"); err != nil {
		return "", err
	}
	left, err := s.exec(ctx, "redis-0", "redis", "sh", "-c", "rm -rf /data/* && ls -A /data")
	if err != nil {
		return "", err
	}
	if left != "" {
		return "", fmt.Errorf("the volume is not empty: %s", left)
	}
	if _, _, err := s.deletePod(ctx, "redis-0"); err != nil {
		return "", err
	}
	log, err := s.do(ctx, "logs", "redis-0", "-c", "restore")
	if err != nil {
		return "", err
	}
	lines := strings.Split(log, "\n")
	if exists, err := s.redis(ctx, "redis-0", "EXISTS", lateKey); err != nil || exists != "0" {
		return "", errors.Join(errors.New("a key written after the snapshot is there: this is not the snapshot's data"), err)
	}
	return lines[len(lines)-1], s.bothWell(ctx)
}
