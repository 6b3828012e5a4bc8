package testenv

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestS3StopsAndStarts(t *testing.T) {
	s := StartS3(t)
	s.CreateBucket(t, "bucket")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	ask := func() error {
		resp, err := client.Get(s.Endpoint + "/bucket")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden { // the request is not signed
			t.Errorf("got %s, want 403", resp.Status)
		}
		return nil
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	s.Stop(t)
	if err := ask(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after Stop: got %v, want connection refused", err)
	}
	s.Start(t)
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.Root, "bucket")); err != nil {
		t.Error(err)
	}
	if got, want := s.URL("bucket", "a/b"), "s3://bucket/a/b?endpoint=http%3A%2F%2F"; got[:len(want)] != want {
		t.Errorf("got %s, want %s…", got, want)
	}
}
