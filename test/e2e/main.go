// Command e2e runs deploy/redis.yaml and deploy/redis-cluster.yaml in a real
// Kubernetes, breaks them in the ways that pods break, and checks what the sidecar
// makes of it.
//
//	KUBECONFIG=... E2E_LOAD="kind load image-archive" go run ./test/e2e
//
// It builds the images from this tree, works in a namespace of its own, prints
// the seconds of each step and removes everything at the end. docs/testing.md
// explains the environment variables and the steps.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		stop()
		os.Exit(1)
	}
}

// run sets up, runs the scenario, shows what there is to see when it failed, and
// clears up.
func run(ctx context.Context, getenv func(string) string, out io.Writer) (err error) {
	o, err := readOptions(getenv)
	if err != nil {
		return err
	}
	k := &kube{program: o.kubectl, namespace: o.id}
	if err := k.check(ctx); err != nil {
		return err
	}

	work, err := os.MkdirTemp("", "redis-sidecar-e2e-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	s := &scenario{options: o, kube: k, work: work, out: out, start: time.Now()}
	defer func() {
		if err != nil && s.deployed {
			s.diagnose(context.WithoutCancel(ctx))
		}
		if o.keep {
			fmt.Fprintf(out, "kept: namespace %s (E2E_KEEP is set)\n", o.id)
			return
		}
		if cleanupErr := s.cleanUp(context.WithoutCancel(ctx)); err == nil {
			err = cleanupErr
		}
	}()
	return s.run(ctx)
}
