package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// kube runs kubectl.
type kube struct{ program, namespace string }

// do runs kubectl in the namespace and returns its output without white space
// around it. The error says what kubectl said.
func (k *kube) do(ctx context.Context, args ...string) (string, error) {
	return k.feed(ctx, "", append([]string{"--namespace", k.namespace}, args...)...)
}

// feed runs kubectl with text on its standard input.
func (k *kube) feed(ctx context.Context, text string, args ...string) (string, error) {
	return command(ctx, text, k.program, args...)
}

// command runs a program and returns what it printed.
func command(ctx context.Context, stdin, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String() + "\n" + stdout.String())
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said)
	}
	return strings.TrimSpace(stdout.String()), nil
}

// check says early, and clearly, that there is no cluster.
func (k *kube) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := k.feed(ctx, "", "get", "--raw", "/readyz"); err != nil {
		return fmt.Errorf("the cluster of KUBECONFIG does not answer: %w", err)
	}
	return nil
}

// apply applies manifests.
func (k *kube) apply(ctx context.Context, yaml string) error {
	_, err := k.feed(ctx, yaml, "--namespace", k.namespace, "apply", "-f", "-")
	return err
}

// get decodes what kubectl get -o json prints.
func (k *kube) get(ctx context.Context, v any, args ...string) error {
	text, err := k.do(ctx, append(append([]string{"get"}, args...), "-o", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), v)
}

// exec runs a command in a container of a pod.
func (k *kube) exec(ctx context.Context, pod, container string, args ...string) (string, error) {
	return k.do(ctx, append([]string{"exec", pod, "-c", container, "--"}, args...)...)
}

// redis runs redis-cli in a pod. An error reply is an error.
func (k *kube) redis(ctx context.Context, pod string, args ...string) (string, error) {
	return k.exec(ctx, pod, "redis", append([]string{"redis-cli", "-e"}, args...)...)
}

// configGet returns one value of CONFIG GET.
func (k *kube) configGet(ctx context.Context, pod, name string) (string, error) {
	text, err := k.redis(ctx, pod, "CONFIG", "GET", name)
	if err != nil {
		return "", err
	}
	_, value, _ := strings.Cut(text, "\n")
	return value, nil
}

// infoField returns one field of INFO.
func (k *kube) infoField(ctx context.Context, pod, section, field string) (string, error) {
	text, err := k.redis(ctx, pod, "INFO", section)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			return value, nil
		}
	}
	return "", fmt.Errorf("INFO %s of %s has no %s", section, pod, field)
}

// pod is what the steps want to know of a pod.
type pod struct {
	Metadata struct{ Name, UID, DeletionTimestamp string }
	Status   struct {
		PodIP      string
		Conditions []struct{ Type, Status string }

		InitContainerStatuses, ContainerStatuses []containerStatus
	}
}

type containerStatus struct {
	Name         string
	RestartCount int
	State        struct {
		Waiting struct{ Reason, Message string }
	}
}

func (p pod) ready() error {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" && c.Status == "True" && p.Metadata.DeletionTimestamp == "" {
			return nil
		}
	}
	for _, c := range p.containers() {
		if w := c.State.Waiting; w.Reason != "" && w.Reason != "PodInitializing" {
			return fmt.Errorf("%s is not Ready: container %s waits: %s %s", p.Metadata.Name, c.Name, w.Reason, w.Message)
		}
	}
	return fmt.Errorf("%s is not Ready", p.Metadata.Name)
}

// containers returns the status of all containers, init containers first.
func (p pod) containers() []containerStatus {
	return slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses)
}

// container returns the status of one container.
func (p pod) container(name string) containerStatus {
	for _, c := range p.containers() {
		if c.Name == name {
			return c
		}
	}
	return containerStatus{}
}

func (k *kube) pod(ctx context.Context, name string) (pod, error) {
	var p pod
	err := k.get(ctx, &p, "pod", name)
	return p, err
}

// waitReady waits until the pod of that name is Ready; with a uid, until it is
// another one than that.
func (k *kube) waitReady(ctx context.Context, name, notUID string, timeout time.Duration) (pod, error) {
	var p pod
	err := eventually(ctx, timeout, func(ctx context.Context) error {
		var err error
		if p, err = k.pod(ctx, name); err != nil {
			return err
		}
		if p.Metadata.UID == notUID {
			return fmt.Errorf("%s has not gone yet", name)
		}
		return p.ready()
	})
	return p, err
}

// eventually calls check until it returns nil, and after timeout returns what it
// said last.
func eventually(ctx context.Context, timeout time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		// At the deadline a check fails because it was cut off: what it said before tells more.
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				return fmt.Errorf("not within %s: %w", timeout, last)
			}
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}
