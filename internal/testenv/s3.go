package testenv

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const installS3 = "make tools, or GOBIN=$PWD/bin go install github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// S3 is a real S3 server (versitygw) on 127.0.0.1 over a directory of its own.
type S3 struct {
	Endpoint  string // http://127.0.0.1:port
	AccessKey string
	SecretKey string
	Region    string
	Root      string // every directory in it is a bucket, every file below an object

	accounts string // directory of the users
	port     int
	proc     *process
}

// StartS3 starts an empty S3 server and stops it when the test ends. It takes
// bin/versitygw of the repository or versitygw of the PATH; without one the test
// fails.
func StartS3(tb testing.TB) *S3 {
	tb.Helper()
	s := &S3{
		AccessKey: "test-access-key",
		SecretKey: rand.Text() + rand.Text(),
		Region:    "us-east-1",
		Root:      filepath.Join(tb.TempDir(), "s3"),
	}
	s.accounts = filepath.Join(tb.TempDir(), "accounts")
	for _, dir := range []string{s.Root, s.accounts} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			tb.Fatalf("make a directory of the S3 server: %v", err)
		}
	}
	s.Start(tb)
	return s
}

// Start starts the server again after Stop, on the same port and directory.
func (s *S3) Start(tb testing.TB) {
	tb.Helper()
	const attempts = 5 // a free port can be taken by somebody else before the server binds it
	for attempt := 1; ; attempt++ {
		port := s.port
		if port == 0 {
			port = FreePort(tb)
		}
		// Only this process knows the path, so an answer is never a stranger's.
		health := "/" + strings.ToLower(rand.Text())
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		cmd := exec.Command(Program(tb, "versitygw", installS3),
			"--port", addr, "--region", s.Region, "--health", health, "--keep-alive", "--quiet",
			"--iam-dir", s.accounts, "--iam-cache-disable",
			"posix", s.Root)
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"),
			"ROOT_ACCESS_KEY=" + s.AccessKey,
			"ROOT_SECRET_KEY=" + s.SecretKey,
		}
		proc := startProcess(tb, cmd)
		err := waitHealthy("http://"+addr+health, proc.exited)
		if err == nil {
			s.port, s.proc, s.Endpoint = port, proc, "http://"+addr
			return
		}
		proc.kill()
		if attempt == attempts {
			tb.Fatalf("versitygw did not start: %v\n%s", err, proc.output)
		}
	}
}

// Stop kills the server; its objects stay. Connections to it are refused until
// Start.
func (s *S3) Stop(tb testing.TB) {
	tb.Helper()
	s.proc.kill()
}

// Addr returns host:port, as StartProxy wants it.
func (s *S3) Addr() string { return strings.TrimPrefix(s.Endpoint, "http://") }

// CreateBucket makes an empty bucket.
func (s *S3) CreateBucket(tb testing.TB, name string) {
	tb.Helper()
	if err := os.Mkdir(filepath.Join(s.Root, name), 0o755); err != nil {
		tb.Fatalf("create bucket: %v", err)
	}
}

// CreateUser adds a user who may do nothing with existing buckets.
func (s *S3) CreateUser(tb testing.TB, access, secret string) {
	tb.Helper()
	out, err := exec.Command(Program(tb, "versitygw", installS3), "admin",
		"--access", s.AccessKey, "--secret", s.SecretKey, "--region", s.Region, "--endpoint-url", s.Endpoint,
		"create-user", "--access", access, "--secret", secret, "--role", "user").CombinedOutput()
	if err != nil {
		tb.Fatalf("create user: %v: %s", err, out)
	}
}

// URL returns the store URL of a prefix in a bucket.
func (s *S3) URL(bucket, prefix string) string { return StoreURL(s.Endpoint, s.Region, bucket, prefix) }

// StoreURL returns the store URL of a bucket behind any endpoint, such as the
// URL of a Proxy. The region may be empty.
func StoreURL(endpoint, region, bucket, prefix string) string {
	u := url.URL{Scheme: "s3", Host: bucket}
	if prefix != "" {
		u.Path = "/" + prefix
	}
	q := url.Values{}
	q.Set("endpoint", endpoint)
	if region != "" {
		q.Set("region", region)
	}
	q.Set("path-style", "true")
	u.RawQuery = q.Encode()
	return u.String()
}

// Getenv answers like os.Getenv in an environment that holds the server's
// credentials and nothing else.
func (s *S3) Getenv(name string) string {
	switch name {
	case "AWS_ACCESS_KEY_ID":
		return s.AccessKey
	case "AWS_SECRET_ACCESS_KEY":
		return s.SecretKey
	}
	return ""
}

// Environ returns the server's credentials as KEY=value, for a child process.
func (s *S3) Environ() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey}
}

// waitHealthy polls url until it answers 200 or the process has ended.
func waitHealthy(url string, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("GET %s: %s", url, resp.Status)
		}
		select {
		case <-exited:
			return fmt.Errorf("it exited: %w", err)
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
