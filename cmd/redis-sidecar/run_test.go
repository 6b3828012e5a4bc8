package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// The agent ends when it is told to, and every goroutine that it started with it.
func TestAgentEndsWhole(t *testing.T) {
	srv := testenv.StartRedis(t)
	conf := srv.WriteFile(t, "redis.conf", "hz 20\n")
	port := strconv.Itoa(testenv.FreePort(t))
	before := goleak.IgnoreCurrent()

	ctx, cancel := context.WithCancel(t.Context())
	var out, log bytes.Buffer
	ended := make(chan int)
	go func() {
		ended <- run(ctx, &env{stdout: &out, stderr: &log, hurry: make(chan struct{})}, []string{
			"run", "--redis.addr=" + srv.Addr, "--web.listen-address=127.0.0.1:" + port, "--announce.address=127.0.0.1",
			"--config.path=" + conf, "--backup.store=file://" + t.TempDir(), "--backup.schedule=@hourly", "--exporter.targets=again=" + srv.Addr,
		})
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	for _, path := range []string{"/readyz", "/metrics/again", "/scrape?target=again&check-keys=*&count-keys=*", "/scrape?target=" + srv.Addr + "&check-single-streams=a"} {
		testenv.Eventually(t, time.Minute, func() error {
			resp, err := client.Get("http://127.0.0.1:" + port + path)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return errors.New(path + ": " + resp.Status)
			}
			return nil
		})
	}
	cancel()
	select {
	case code := <-ended:
		if code != exitOK {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(time.Minute):
		t.Fatal("the agent does not end")
	}
	goleak.VerifyNone(t, before)
	if t.Failed() {
		t.Logf("%s%s", out.String(), log.String())
	}
}
