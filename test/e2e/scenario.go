package main

import (
	"context"
	"fmt"
	"io"
	"time"
)

// scenario is one run in one namespace.
type scenario struct {
	options
	*kube

	work  string // temporary directory
	out   io.Writer
	start time.Time

	deployed bool // something is in the cluster

	password, accessKey, secretKey string
	static                         *staticVolumes // nil: the cluster provides volumes
	checksum                       string         // of all that was written before the snapshot
}

// run runs the steps. Each one leaves the deployment as it found it: both pods
// Ready, with the same data; the last ones are of a cluster beside it.
func (s *scenario) run(ctx context.Context) error {
	steps := []struct {
		name string
		do   func(context.Context) (evidence string, err error)
	}{
		{"images built and loaded", s.loadImages},
		{"S3 server runs, deploy/ is applied, both pods Ready", s.deploy},
		{"/metrics on 9121 of each pod", s.metrics},
		{"keys written on the master, on the replica too", s.writeKeys},
		{"ConfigMap edited: both servers follow, no restart", s.editConfig},
		{"snapshot taken, seen in the S3 server", s.snapshot},
		{"replica's pod deleted: new address announced, data there", s.deleteReplica},
		{"master's pod deleted: back with its data, replica follows", s.deleteMaster},
		{"sidecar killed: it comes back, Redis does not notice", s.killSidecar},
		{"master's volume emptied: the keys come back from the store", s.emptyVolume},
		{"deploy/redis-cluster.yaml is applied, redis-cli makes the cluster of it", s.makeCluster},
		{"keys written to all shards, each shard saved", s.saveCluster},
		{"a primary's pod deleted: all nodes learn its new address", s.deleteClusterPod},
		{"StatefulSet, pods and volumes of the cluster deleted: every key comes back", s.loseCluster},
	}
	for i, step := range steps {
		start := time.Now()
		evidence, err := step.do(ctx)
		took := time.Since(start).Seconds()
		if err != nil {
			fmt.Fprintf(s.out, "FAIL %2d %6.1f s  %s\n", i+1, took, step.name)
			return fmt.Errorf("step %d, %s: %w", i+1, step.name, err)
		}
		fmt.Fprintf(s.out, "PASS %2d %6.1f s  %s\n               %s\n", i+1, took, step.name, evidence)
	}
	fmt.Fprintf(s.out, "%d steps passed in %.0f s\n", len(steps), time.Since(s.start).Seconds())
	return nil
}

// diagnose prints what one would look at first.
func (s *scenario) diagnose(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"get", "pods,pvc", "-o", "wide"},
		{"describe", "pods"},
		{"get", "events", "--sort-by=.lastTimestamp"},
		{"logs", "redis-0", "--all-containers", "--prefix", "--tail=40"},
		{"logs", "redis-0", "-c", "sidecar", "--previous", "--tail=40"},
		{"logs", "redis-1", "--all-containers", "--prefix", "--tail=40"},
		{"logs", "redis-cluster-0", "--all-containers", "--prefix", "--tail=40", "--ignore-errors"},
		{"logs", "redis-cluster-3", "--all-containers", "--prefix", "--tail=40", "--ignore-errors"},
		{"logs", "s3", "--tail=20"},
	} {
		text, err := s.do(ctx, args...)
		if err != nil {
			text = err.Error()
		}
		fmt.Fprintf(s.out, "--- kubectl %v\n%s\n", args, text)
	}
}

// cleanUp removes everything that was made in the cluster.
func (s *scenario) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	_, err := s.do(ctx, "delete", "namespace", s.namespace, "--ignore-not-found")
	if s.static != nil {
		if staticErr := s.static.cleanUp(ctx, s.kube); err == nil {
			err = staticErr
		}
	}
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}
