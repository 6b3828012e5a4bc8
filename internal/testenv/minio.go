package testenv

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// minioVersion is that of the Makefile.
const minioVersion = "v0.0.0-20260212201848-7aac2a2c5b7c"

const installMinIO = "make tools, or GOBIN=$PWD/bin go install github.com/minio/minio@" + minioVersion

// MinIO says what the server of StartMinIO can do more than the plain one.
type MinIO struct {
	TLS    bool   // https, with a certificate of its own; what SSE-C wants
	KMS    string // name of the key of SSE-S3 and SSE-KMS
	Domain string // buckets are also BUCKET.Domain
}

// StartMinIO starts an empty MinIO and stops it when the test ends. It takes
// bin/minio of the repository or minio of the PATH; without one the test fails.
// It has no console, and talks to nobody.
func StartMinIO(tb testing.TB, opts MinIO) *S3 {
	tb.Helper()
	s := newS3(tb, "minio")
	program := Program(tb, s.kind, installMinIO)
	home, certs := tb.TempDir(), tb.TempDir()
	if opts.TLS {
		cert, key := Certificate(tb, certs, "minio", time.Now().Add(time.Hour))
		s.CAFile = filepath.Join(certs, "public.crt")
		for from, to := range map[string]string{cert: s.CAFile, key: filepath.Join(certs, "private.key")} {
			if err := os.Rename(from, to); err != nil {
				tb.Fatal(err)
			}
		}
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + home,
		"MINIO_ROOT_USER=" + s.AccessKey,
		"MINIO_ROOT_PASSWORD=" + s.SecretKey,
		"MINIO_SITE_REGION=" + s.Region,
		"MINIO_BROWSER=off",
		"MINIO_UPDATE=off",
	}
	if opts.KMS != "" {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		env = append(env, fmt.Sprintf("MINIO_KMS_SECRET_KEY=%s:%s", opts.KMS, base64.StdEncoding.EncodeToString(key)))
	}
	if opts.Domain != "" {
		env = append(env, "MINIO_DOMAIN="+opts.Domain)
	}
	s.command = func(addr string) *exec.Cmd {
		cmd := exec.Command(program, "server", "--quiet", "--address", addr, "--console-address", "127.0.0.1:0", "--certs-dir", certs, s.Root)
		cmd.Env = env
		return cmd
	}
	s.healthy = func(ctx context.Context) error {
		// A stranger on the same port does not know the keys.
		req, err := s.signed(ctx, http.MethodGet, "/", "", nil, "")
		if err != nil {
			return err
		}
		_, err = s.do(req)
		return err
	}
	s.Start(tb)
	return s
}
