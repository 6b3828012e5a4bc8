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

// S3 is a real S3 server (versitygw or MinIO) on 127.0.0.1 over a directory of
// its own.
type S3 struct {
	Endpoint  string // http://127.0.0.1:port, or https with CAFile
	AccessKey string
	SecretKey string
	Region    string
	Root      string // every directory in it is a bucket; in that of versitygw every file below is an object
	CAFile    string // certificate of a server with TLS

	kind     string
	command  func(addr string) *exec.Cmd
	healthy  func(ctx context.Context) error // an answer that no stranger gives
	accounts string                          // directory of versitygw's users
	port     int
	proc     *process
}

// StartS3 starts an empty versitygw and stops it when the test ends. It takes
// bin/versitygw of the repository or versitygw of the PATH; without one the test
// fails. Buckets can have versions and object lock.
func StartS3(tb testing.TB) *S3 {
	tb.Helper()
	s := newS3(tb, "versitygw")
	s.accounts = filepath.Join(tb.TempDir(), "accounts")
	versions := filepath.Join(tb.TempDir(), "versions")
	for _, dir := range []string{s.accounts, versions} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			tb.Fatalf("make a directory of the S3 server: %v", err)
		}
	}
	program := Program(tb, s.kind, installS3)
	health := "/" + strings.ToLower(rand.Text()) // only this process knows the path
	s.command = func(addr string) *exec.Cmd {
		cmd := exec.Command(program,
			"--port", addr, "--region", s.Region, "--health", health, "--keep-alive", "--quiet",
			"--iam-dir", s.accounts, "--iam-cache-disable",
			"posix", "--versioning-dir", versions, s.Root)
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"),
			"ROOT_ACCESS_KEY=" + s.AccessKey,
			"ROOT_SECRET_KEY=" + s.SecretKey,
		}
		return cmd
	}
	s.healthy = func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+health, nil)
		if err != nil {
			return err
		}
		_, err = s.do(req)
		return err
	}
	s.Start(tb)
	return s
}

// newS3 returns a server that is not started yet.
func newS3(tb testing.TB, kind string) *S3 {
	tb.Helper()
	s := &S3{
		kind:      kind,
		AccessKey: "test-access-key",
		SecretKey: rand.Text() + rand.Text(),
		Region:    "us-east-1",
		Root:      filepath.Join(tb.TempDir(), "s3"),
	}
	if err := os.Mkdir(s.Root, 0o755); err != nil {
		tb.Fatalf("make the directory of the S3 server: %v", err)
	}
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
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		s.Endpoint = "http://" + addr
		if s.CAFile != "" {
			s.Endpoint = "https://" + addr
		}
		proc := startProcess(tb, s.command(addr))
		err := s.waitHealthy(proc.exited)
		if err == nil {
			s.port, s.proc = port, proc
			return
		}
		proc.kill()
		if attempt == attempts {
			tb.Fatalf("%s did not start: %v\n%s", s.kind, err, proc.output)
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
func (s *S3) Addr() string {
	_, addr, _ := strings.Cut(s.Endpoint, "://")
	return addr
}

// Kind is the name of the program.
func (s *S3) Kind() string { return s.kind }

// CreateBucket makes an empty bucket.
func (s *S3) CreateBucket(tb testing.TB, name string) {
	tb.Helper()
	if err := os.Mkdir(filepath.Join(s.Root, name), 0o755); err != nil {
		tb.Fatalf("create bucket: %v", err)
	}
}

// CreateUser adds a user to versitygw who may do nothing with existing buckets.
func (s *S3) CreateUser(tb testing.TB, access, secret string) {
	tb.Helper()
	s.admin(tb, "create-user", "--access", access, "--secret", secret, "--role", "user")
}

// CreateAdmin adds a user to versitygw who may do everything.
func (s *S3) CreateAdmin(tb testing.TB, access, secret string) {
	tb.Helper()
	s.admin(tb, "create-user", "--access", access, "--secret", secret, "--role", "admin")
}

// DeleteUser removes a user from versitygw, whose keys are not known any more.
func (s *S3) DeleteUser(tb testing.TB, access string) {
	tb.Helper()
	s.admin(tb, "delete-user", "--access", access)
}

func (s *S3) admin(tb testing.TB, args ...string) {
	tb.Helper()
	if s.kind != "versitygw" {
		tb.Fatalf("%s is not versitygw", s.kind)
	}
	out, err := exec.Command(Program(tb, "versitygw", installS3), append([]string{"admin",
		"--access", s.AccessKey, "--secret", s.SecretKey, "--region", s.Region, "--endpoint-url", s.Endpoint}, args...)...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v: %s", args[0], err, out)
	}
}

// URL returns the store URL of a prefix in a bucket.
func (s *S3) URL(bucket, prefix string) string {
	u := StoreURL(s.Endpoint, s.Region, bucket, prefix)
	if s.CAFile != "" {
		u += "&ca-file=" + url.QueryEscape(s.CAFile)
	}
	return u
}

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

// waitHealthy waits until the server answers or its process has ended.
func (s *S3) waitHealthy(exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.healthy(ctx)
		if err == nil {
			return nil
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
