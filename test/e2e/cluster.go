package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	clusterManifest = "deploy/redis-cluster.yaml"
	clusterPods     = 6
	clusterKeys     = 600
	clusterLabel    = "app.kubernetes.io/name=redis-cluster"
)

const clusterOverlay = `
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: {{NAMESPACE}}
resources: [redis-cluster.yaml]
images:
- {name: docker.io/library/redis, {{REDIS_IMAGE}}}
- {name: localhost/redis-sidecar, {{SIDECAR_IMAGE}}}
patches:
- target: {kind: StatefulSet, name: redis-cluster}
  patch: |
    - {op: add, path: /spec/template/spec/initContainers/0/env/-, value: {name: REDIS_SIDECAR_BACKUP_STORE, value: "{{STORE}}"}}
    - {op: add, path: /spec/template/spec/initContainers/0/env/-, value: {name: REDIS_SIDECAR_RESTORE_REDIS_VERSION, value: "{{REDIS_VERSION}}"}}
    - {op: add, path: /spec/template/spec/initContainers/1/env/-, value: {name: REDIS_SIDECAR_BACKUP_STORE, value: "{{STORE}}"}}
    {{STORAGE_CLASS}}
- target: {kind: Secret, name: redis-cluster-auth}
  patch: |
    - {op: replace, path: /stringData/password, value: "{{PASSWORD}}"}
    - {op: replace, path: /stringData/auth.conf, value: "requirepass {{PASSWORD}}\nmasterauth {{PASSWORD}}\n"}
- target: {kind: Secret, name: redis-cluster-backup}
  patch: |
    - {op: replace, path: /stringData/credentials, value: "[default]\naws_access_key_id = {{ACCESS_KEY}}\naws_secret_access_key = {{SECRET_KEY}}\n"}
`

func clusterPod(i int) string { return fmt.Sprintf("redis-cluster-%d", i) }

// makeCluster does what the head of the manifest says.
func (s *scenario) makeCluster(ctx context.Context) (string, error) {
	if err := s.applyOverlay(ctx, clusterManifest, clusterOverlay); err != nil {
		return "", err
	}
	ips, err := s.clusterReady(ctx)
	if err != nil {
		return "", err
	}
	args := []string{"redis-cli", "--cluster-yes", "--cluster", "create", "--cluster-replicas", "1"}
	for _, ip := range ips {
		args = append(args, ip+":6379")
	}
	if _, err := s.exec(ctx, clusterPod(0), "redis", args...); err != nil {
		return "", err
	}
	return strings.Join(ips, " "), s.clusterWell(ctx)
}

// clusterReady waits until all pods are Ready and returns their addresses.
func (s *scenario) clusterReady(ctx context.Context) ([]string, error) {
	var ips []string
	for i := range clusterPods {
		p, err := s.waitReady(ctx, clusterPod(i), "", 4*time.Minute)
		if err != nil {
			return nil, err
		}
		ips = append(ips, p.Status.PodIP)
	}
	return ips, nil
}

// clusterWell waits until every node says that the cluster is whole and knows every
// pod by its address of today.
func (s *scenario) clusterWell(ctx context.Context) error {
	ips, err := s.clusterReady(ctx)
	if err != nil {
		return err
	}
	return eventually(ctx, 2*time.Minute, func(ctx context.Context) error {
		for i := range clusterPods {
			state, err := s.redis(ctx, clusterPod(i), "CLUSTER", "INFO")
			if err != nil {
				return err
			}
			nodes, err := s.redis(ctx, clusterPod(i), "CLUSTER", "NODES")
			if err != nil {
				return err
			}
			missing := len(strings.Split(nodes, "\n")) != clusterPods || strings.Contains(nodes, "fail")
			for _, ip := range ips {
				missing = missing || !strings.Contains(nodes, " "+ip+":6379@")
			}
			if missing || !strings.Contains(state, "cluster_state:ok") {
				return fmt.Errorf("%s says, where %v are to be:\n%s\n%s", clusterPod(i), ips, state, nodes)
			}
		}
		return nil
	})
}

// cluster has one redis-cli run many commands, each where its key is.
func (s *scenario) cluster(ctx context.Context, pod, format string) (replies []string, err error) {
	var commands strings.Builder
	for i := range clusterKeys {
		fmt.Fprintf(&commands, format+"\n", i)
	}
	text, err := s.feed(ctx, commands.String(), "--namespace", s.namespace, "exec", "-i", pod, "-c", "redis", "--", "redis-cli", "-c")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-> Redirected") {
			replies = append(replies, line)
		}
	}
	if len(replies) != clusterKeys {
		return nil, fmt.Errorf("%d commands got %d replies:\n%s", clusterKeys, len(replies), text)
	}
	return replies, nil
}

// clusterData compares every key.
func (s *scenario) clusterData(ctx context.Context, pod string) error {
	values, err := s.cluster(ctx, pod, "GET key:%d")
	if err != nil {
		return err
	}
	for i, got := range values {
		if want := fmt.Sprintf("value:%d", i); got != want {
			return fmt.Errorf("key:%d is %q, want %q", i, got, want)
		}
	}
	return nil
}

func (s *scenario) saveCluster(ctx context.Context) (string, error) {
	if _, err := s.cluster(ctx, clusterPod(0), "SET key:%[1]d value:%[1]d"); err != nil {
		return "", err
	}
	if err := s.clusterData(ctx, clusterPod(0)); err != nil {
		return "", err
	}
	for i := range clusterPods {
		role, err := s.infoField(ctx, clusterPod(i), "replication", "role")
		if err != nil {
			return "", err
		}
		if role != "master" {
			continue
		}
		if _, err := s.exec(ctx, clusterPod(i), "sidecar", "/redis-sidecar", "backup", "now"); err != nil {
			return "", err
		}
	}
	list, err := s.exec(ctx, clusterPod(0), "sidecar", "/redis-sidecar", "backup", "list")
	if err != nil {
		return "", err
	}
	lines := strings.Split(list, "\n")
	last := lines[len(lines)-1]
	if !strings.Contains(last, "3 shards make a whole cluster") {
		return "", fmt.Errorf("backup list does not say that the cluster is whole:\n%s", list)
	}
	return fmt.Sprintf("%d keys; %s", clusterKeys, last), nil
}

func (s *scenario) deleteClusterPod(ctx context.Context) (string, error) {
	before, after, err := s.deletePod(ctx, clusterPod(1))
	if err != nil {
		return "", err
	}
	if before.Status.PodIP == after.Status.PodIP {
		return "", errors.New("the pod came back with the same address: this shows nothing")
	}
	if err := s.clusterWell(ctx); err != nil {
		return "", err
	}
	return before.Status.PodIP + " -> " + after.Status.PodIP, s.clusterData(ctx, clusterPod(2))
}

// loseCluster leaves nothing but the snapshots. Static volumes
// stay with the claims that are gone, so that the new ones get others, empty ones.
func (s *scenario) loseCluster(ctx context.Context) (string, error) {
	before, err := s.redis(ctx, clusterPod(0), "CLUSTER", "MYID")
	if err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"delete", "statefulset", "redis-cluster"},
		{"wait", "--for=delete", "pod", "-l", clusterLabel, "--timeout=120s"},
		{"delete", "pvc", "-l", clusterLabel},
	} {
		if _, err := s.do(ctx, args...); err != nil {
			return "", err
		}
	}
	if err := s.applyOverlay(ctx, clusterManifest, clusterOverlay); err != nil {
		return "", err
	}
	if err := s.clusterWell(ctx); err != nil {
		return "", err
	}
	after, err := s.redis(ctx, clusterPod(0), "CLUSTER", "MYID")
	if err != nil {
		return "", err
	}
	log, err := s.do(ctx, "logs", clusterPod(0), "-c", "restore")
	if err != nil {
		return "", err
	}
	_, restored, ok := strings.Cut("\n"+log, "\nrestored ")
	if before == after || !ok {
		return "", fmt.Errorf("the node was not restored: its id was %s and is %s:\n%s", before, after, log)
	}
	restored, _, _ = strings.Cut(restored, "\n")
	return "restored " + restored, s.clusterData(ctx, clusterPod(3))
}
