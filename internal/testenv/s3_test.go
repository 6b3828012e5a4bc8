package testenv

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestS3StopsAndStarts(t *testing.T) {
	for kind, start := range map[string]func(testing.TB) *S3{
		"versitygw": StartS3,
		"minio":     func(tb testing.TB) *S3 { tb.Helper(); return StartMinIO(tb, MinIO{}) },
	} {
		t.Run(kind, func(t *testing.T) { stopsAndStarts(t, start(t)) })
	}
}

func stopsAndStarts(t *testing.T, s *S3) {
	t.Helper()
	s.CreateBucket(t, "bucket")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
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

func TestS3Buckets(t *testing.T) {
	for kind, s := range map[string]*S3{"versitygw": StartS3(t), "minio": StartMinIO(t, MinIO{TLS: true})} {
		s.CreateLockedBucket(t, "locked")
		s.CreateVersionedBucket(t, "versioned")
		s.CreateBucket(t, "plain")
		for bucket, want := range map[string]bool{"locked": true, "versioned": true, "plain": false} {
			answer := s.request(t, http.MethodGet, "/"+bucket, "versioning=", nil, "")
			if got := strings.Contains(answer, "<Status>Enabled</Status>"); got != want {
				t.Errorf("%s, %s: got %s", kind, bucket, answer)
			}
		}
		if answer := s.request(t, http.MethodGet, "/locked", "object-lock=", nil, ""); !strings.Contains(answer, "<ObjectLockEnabled>Enabled</ObjectLockEnabled>") {
			t.Errorf("%s: got %s", kind, answer)
		}
	}
}

func TestS3Users(t *testing.T) {
	s := StartS3(t)
	s.CreateBucket(t, "bucket")
	s.CreateAdmin(t, "second", "seconds-secret")
	second := *s
	second.AccessKey, second.SecretKey = "second", "seconds-secret"
	second.request(t, http.MethodGet, "/bucket", "versioning=", nil, "")
	s.DeleteUser(t, "second")
	req, err := second.signed(t.Context(), http.MethodGet, "/bucket", "versioning=", nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := second.do(req); err == nil {
		t.Errorf("a user who was deleted gets %s", answer)
	}
}
