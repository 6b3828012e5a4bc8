package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// metrics reads both pods' metrics from the pods' own addresses: the API server
// connects to them, which works from any machine.
func (s *scenario) metrics(ctx context.Context) (string, error) {
	var evidence []string
	for _, pod := range []string{"redis-0", "redis-1"} {
		text, err := s.do(ctx, "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:9121/proxy/metrics", s.namespace, pod))
		if err != nil {
			return "", err
		}
		role := regexp.MustCompile(`(?m)^redis_instance_info\{.*role="(\w+)".*\} 1$`).FindStringSubmatch(text)
		if !strings.Contains(text, "\nredis_up 1\n") || role == nil {
			return "", fmt.Errorf("%s: redis_up 1 or the role is missing in:\n%s", pod, text)
		}
		evidence = append(evidence, fmt.Sprintf("%s: %d samples, redis_up 1, role %s",
			pod, len(regexp.MustCompile(`(?m)^[a-z]`).FindAllString(text, -1)), role[1]))
	}
	return strings.Join(evidence, "; "), nil
}

const keys = 20_000

// Lua, so that it takes one round trip. The checksum covers names and values.
const (
	writeScript    = `for i = 1, tonumber(ARGV[1]) do redis.call('SET', 'key:' .. i, redis.sha1hex(i .. ARGV[2])) end return 1`
	checksumScript = `local s = '' for i = 1, tonumber(ARGV[1]) do s = redis.sha1hex(s .. (redis.call('GET', 'key:' .. i) or 'none')) end return s`
)

func (s *scenario) writeKeys(ctx context.Context) (string, error) {
	if _, err := s.redis(ctx, "redis-0", "EVAL", writeScript, "0", strconv.Itoa(keys), s.namespace); err != nil {
		return "", err
	}
	var err error
	if s.checksum, err = s.redis(ctx, "redis-0", "EVAL", checksumScript, "0", strconv.Itoa(keys)); err != nil {
		return "", err
	}
	if err := s.sameData(ctx, "redis-1"); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d keys, checksum %s", keys, s.checksum), nil
}

// sameData waits until a pod holds exactly the keys that were written.
func (s *scenario) sameData(ctx context.Context, pod string) error {
	return eventually(ctx, time.Minute, func(ctx context.Context) error {
		size, err := s.redis(ctx, pod, "DBSIZE")
		if err != nil {
			return err
		}
		if size != strconv.Itoa(keys) {
			return fmt.Errorf("%s holds %s keys, want %d", pod, size, keys)
		}
		sum, err := s.redis(ctx, pod, "EVAL_RO", checksumScript, "0", strconv.Itoa(keys))
		if err != nil {
			return err
		}
		if sum != s.checksum {
			return fmt.Errorf("%s: checksum is %s, want %s", pod, sum, s.checksum)
		}
		return nil
	})
}

// editConfig changes one value in redis.conf and waits for the running servers.
func (s *scenario) editConfig(ctx context.Context) (string, error) {
	type process struct {
		runID    string
		restarts int
	}
	look := func(name string) (process, error) {
		p, err := s.pod(ctx, name)
		if err != nil {
			return process{}, err
		}
		id, err := s.infoField(ctx, name, "server", "run_id")
		return process{id, p.container("redis").RestartCount + p.container("sidecar").RestartCount}, err
	}
	pods := []string{"redis-0", "redis-1"}
	before := map[string]process{}
	for _, pod := range pods {
		var err error
		if before[pod], err = look(pod); err != nil {
			return "", err
		}
	}
	was, err := s.configGet(ctx, "redis-0", "maxmemory")
	if err != nil {
		return "", err
	}

	var configMap struct{ Data map[string]string }
	if err := s.get(ctx, &configMap, "configmap", "redis-conf"); err != nil {
		return "", err
	}
	edited := strings.Replace(configMap.Data["redis.conf"], "maxmemory 256mb", "maxmemory 200mb", 1)
	if edited == configMap.Data["redis.conf"] {
		return "", errors.New("redis.conf of the ConfigMap has no line maxmemory 256mb")
	}
	patch := fmt.Sprintf(`{"data":{"redis.conf":%q}}`, edited)
	if _, err := s.do(ctx, "patch", "configmap", "redis-conf", "--type=merge", "--patch", patch); err != nil {
		return "", err
	}
	const want = "209715200"
	for _, pod := range pods {
		err := eventually(ctx, 3*time.Minute, func(ctx context.Context) error { // the kubelet takes up to 90 s
			got, err := s.configGet(ctx, pod, "maxmemory")
			if err == nil && got != want {
				err = fmt.Errorf("maxmemory of %s is %s, want %s", pod, got, want)
			}
			return err
		})
		if err != nil {
			return "", err
		}
		after, err := look(pod)
		if err != nil {
			return "", err
		}
		if after != before[pod] {
			return "", fmt.Errorf("%s was restarted: run id and restarts were %v, are %v", pod, before[pod], after)
		}
	}
	return fmt.Sprintf("maxmemory %s -> %s, same run ids", was, want), nil
}

// deleteReplica deletes redis-1: it comes back with another address, and its
// master has to learn it.
func (s *scenario) deleteReplica(ctx context.Context) (string, error) {
	before, after, err := s.deletePod(ctx, "redis-1")
	if err != nil {
		return "", err
	}
	if err := s.announced(ctx, after); err != nil {
		return "", err
	}
	if err := s.sameData(ctx, "redis-1"); err != nil {
		return "", err
	}
	slave, err := s.infoField(ctx, "redis-0", "replication", "slave0")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s -> %s; the master says %s", before.Status.PodIP, after.Status.PodIP, slave), nil
}

// announced waits until a replica announces its pod's address and the master
// says so too.
func (s *scenario) announced(ctx context.Context, p pod) error {
	name, ip := p.Metadata.Name, p.Status.PodIP
	return eventually(ctx, 2*time.Minute, // a replica may wait repl-timeout for an address that has gone
		func(ctx context.Context) error {
			got, err := s.configGet(ctx, name, "replica-announce-ip")
			if err != nil {
				return err
			}
			if got != ip {
				return fmt.Errorf("replica-announce-ip of %s is %q, its address is %s", name, got, ip)
			}
			replication, err := s.redis(ctx, "redis-0", "INFO", "replication")
			if err != nil {
				return err
			}
			if !strings.Contains(replication, "connected_slaves:1") || !strings.Contains(replication, "slave0:ip="+ip+",") {
				return fmt.Errorf("the master does not say slave0:ip=%s, but:\n%s", ip, replication)
			}
			return nil
		})
}

func (s *scenario) deleteMaster(ctx context.Context) (string, error) {
	before, after, err := s.deletePod(ctx, "redis-0")
	if err != nil {
		return "", err
	}
	// A master's own address matters when it becomes a replica.
	ip := after.Status.PodIP
	err = eventually(ctx, 30*time.Second, func(ctx context.Context) error {
		got, err := s.configGet(ctx, "redis-0", "replica-announce-ip")
		if err == nil && got != ip {
			err = fmt.Errorf("replica-announce-ip of redis-0 is %q, its address is %s", got, ip)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s -> %s, announced; %d keys", before.Status.PodIP, ip, keys), s.bothWell(ctx)
}

// deletePod deletes a pod and waits for its successor.
func (s *scenario) deletePod(ctx context.Context, name string) (before, after pod, err error) {
	if before, err = s.pod(ctx, name); err != nil {
		return before, after, err
	}
	if _, err = s.do(ctx, "delete", "pod", name, "--wait=false"); err != nil {
		return before, after, err
	}
	after, err = s.waitReady(ctx, name, before.Metadata.UID, 3*time.Minute)
	return before, after, err
}

// bothWell waits until both pods are Ready, the replica is connected under its
// own address, and both hold the keys.
func (s *scenario) bothWell(ctx context.Context) error {
	if _, err := s.waitReady(ctx, "redis-0", "", time.Minute); err != nil {
		return err
	}
	replica, err := s.waitReady(ctx, "redis-1", "", time.Minute)
	if err != nil {
		return err
	}
	if err := s.announced(ctx, replica); err != nil {
		return err
	}
	for _, pod := range []string{"redis-0", "redis-1"} {
		if err := s.sameData(ctx, pod); err != nil {
			return err
		}
	}
	return nil
}

// killSidecar kills the sidecar's process from the redis container, as the
// kernel would when memory is short.
func (s *scenario) killSidecar(ctx context.Context) (string, error) {
	before, err := s.pod(ctx, "redis-0")
	if err != nil {
		return "", err
	}
	runID, err := s.infoField(ctx, "redis-0", "server", "run_id")
	if err != nil {
		return "", err
	}
	const script = `for p in /proc/[0-9]*; do if [ "$(cat $p/comm)" = redis-sidecar ]; then kill -9 ${p#/proc/} && echo killed ${p#/proc/}; fi; done`
	said, err := s.exec(ctx, "redis-0", "redis", "sh", "-c", script)
	if err != nil {
		return "", err
	}
	if !strings.Contains(said, "killed") {
		return "", errors.New("no process redis-sidecar was found in the pod")
	}
	start := time.Now()
	var after pod
	err = eventually(ctx, 2*time.Minute, func(ctx context.Context) error {
		if after, err = s.pod(ctx, "redis-0"); err != nil {
			return err
		}
		if after.container("sidecar").RestartCount == before.container("sidecar").RestartCount {
			return errors.New("the sidecar has not been restarted")
		}
		_, err := s.do(ctx, "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/redis-0:9121/proxy/readyz", s.namespace))
		return err
	})
	if err != nil {
		return "", err
	}
	back := time.Since(start)
	if got, want := after.container("redis").RestartCount, before.container("redis").RestartCount; got != want {
		return "", fmt.Errorf("the redis container was restarted: %d times, before %d", got, want)
	}
	now, err := s.infoField(ctx, "redis-0", "server", "run_id")
	if err != nil {
		return "", err
	}
	if now != runID {
		return "", fmt.Errorf("run id of the server was %s, is %s", runID, now)
	}
	return fmt.Sprintf("%s; /readyz again after %.1f s; restarts: sidecar %d, redis %d", said, back.Seconds(),
		after.container("sidecar").RestartCount, after.container("redis").RestartCount), s.bothWell(ctx)
}
