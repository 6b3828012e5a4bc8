package main

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/test/internal/rig"
)

const bucket = "bench"

// bench is everything that runs.
type bench struct {
	options
	rig.Children

	data      string // directory of redis-server
	redisAddr string
	redis     *rig.Child
	client    *redis.Client
}

func (b *bench) dump() string { return filepath.Join(b.data, "dump.rdb") }

// start starts redis-server. The caller stops it.
func start(ctx context.Context, o options) (b *bench, err error) {
	dir, err := os.MkdirTemp(o.dir, "benchbackup-")
	if err != nil {
		return nil, err
	}
	b = &bench{options: o, Children: rig.Children{Dir: dir}, data: filepath.Join(dir, "data")}
	defer func() {
		if err != nil {
			b.stop()
		}
	}()
	if err := os.Mkdir(b.data, 0o755); err != nil {
		return nil, err
	}
	ports, err := rig.FreePorts(1)
	if err != nil {
		return nil, err
	}
	b.redisAddr = "127.0.0.1:" + ports[0]
	lzf := map[bool]string{true: "yes", false: "no"}[o.lzf]
	b.redis, err = b.Start("redis-server", []string{"PATH=" + os.Getenv("PATH")}, "redis-server",
		"--bind", "127.0.0.1", "--port", ports[0], "--dir", b.data, "--save", "", "--rdbcompression", lzf)
	if err != nil {
		return nil, err
	}
	b.client = redis.New(redis.Options{Addr: b.redisAddr, Timeout: time.Minute})
	return b, b.redis.Listens(ctx, b.redisAddr)
}

func (b *bench) stop() {
	if b.client != nil {
		_ = b.client.Close()
	}
	b.Children.Stop()
	_ = os.RemoveAll(b.Dir)
}

// s3 is one S3 server with an empty bucket.
type s3 struct {
	*bench
	kind     string
	child    *rig.Child
	root     string
	endpoint string
	access   string
	secret   string
	copied   int64 // size in bytes of the last dump that aws or rclone has stored
}

func (b *bench) startS3(ctx context.Context, kind string) (*s3, error) {
	ports, err := rig.FreePorts(1)
	if err != nil {
		return nil, err
	}
	s := &s3{bench: b, kind: kind, root: filepath.Join(b.Dir, kind), access: crand.Text(), secret: crand.Text(), endpoint: "http://127.0.0.1:" + ports[0]}
	if err := os.Mkdir(s.root, 0o755); err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + ports[0]
	switch kind {
	case "versitygw":
		s.child, err = b.Start(kind, []string{"ROOT_ACCESS_KEY=" + s.access, "ROOT_SECRET_KEY=" + s.secret}, "bin/versitygw", "--quiet", "--port", addr, "posix", s.root)
	case "minio":
		s.child, err = b.Start(kind, []string{"HOME=" + s.root, "MINIO_ROOT_USER=" + s.access, "MINIO_ROOT_PASSWORD=" + s.secret, "MINIO_BROWSER=off", "MINIO_UPDATE=off"},
			"bin/minio", "server", "--quiet", "--address", addr, "--console-address", "127.0.0.1:0", s.root)
	default:
		return nil, fmt.Errorf("S3 server %q is neither versitygw nor minio", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: make tools", err)
	}
	if err := s.child.Listens(ctx, addr); err != nil {
		return nil, err
	}
	if b.mbit > 0 {
		linked, err := startLink(ctx, addr, b.mbit)
		if err != nil {
			return nil, err
		}
		s.endpoint = "http://" + linked
	}
	for try := 0; ; try++ { // MinIO listens before it is ready
		_, err := s.run(ctx, "aws", "--endpoint-url", s.endpoint, "s3", "mb", "s3://"+bucket)
		if err == nil {
			return s, nil
		}
		if try == 10 {
			return nil, err
		}
		if err := rig.Wait(ctx, 300*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func (s *s3) stop() {
	s.child.Kill()
	_ = os.RemoveAll(s.root)
}

func (s *s3) environ() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir,
		"AWS_ACCESS_KEY_ID=" + s.access, "AWS_SECRET_ACCESS_KEY=" + s.secret, "AWS_DEFAULT_REGION=us-east-1",
		"RCLONE_CONFIG_B_TYPE=s3", "RCLONE_CONFIG_B_PROVIDER=Other", "RCLONE_CONFIG_B_ENDPOINT=" + s.endpoint, "RCLONE_CONFIG_B_REGION=us-east-1",
		"RCLONE_CONFIG_B_ACCESS_KEY_ID=" + s.access, "RCLONE_CONFIG_B_SECRET_ACCESS_KEY=" + s.secret,
		"POD_NAME=redis-0", "POD_IP=127.0.0.1",
		"REDIS_SIDECAR_REDIS_ADDR=" + s.redisAddr,
		"REDIS_SIDECAR_BACKUP_STORE=s3://" + bucket + "/sidecar?region=us-east-1&endpoint=" + s.endpoint,
		"REDIS_SIDECAR_BACKUP_RETENTION_KEEP_LAST=1",
	}
}

// cost is what one program took.
type cost struct {
	wall time.Duration
	cpu  time.Duration
	peak int64 // bytes resident
	rdb  int64 // bytes of the RDB that was made, copied or read
	said string
}

// plus is one after the other.
func (c cost) plus(d cost) cost {
	return cost{wall: c.wall + d.wall, cpu: c.cpu + d.cpu, peak: max(c.peak, d.peak), said: d.said}
}

// run runs a program to its end.
func (s *s3) run(ctx context.Context, program string, args ...string) (cost, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = s.environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	said, err := cmd.CombinedOutput()
	wall := time.Since(began)
	if err != nil {
		return cost{}, fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, said)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return cost{}, errors.New("the kernel says nothing about the memory of a child")
	}
	return cost{wall: wall, cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), peak: usage.Maxrss << 10, said: string(said)}, nil
}

// bgsave has the server save, and waits for it.
func (b *bench) bgsave(ctx context.Context) (cost, error) {
	began := time.Now()
	if _, err := b.client.Do(ctx, "BGSAVE"); err != nil {
		return cost{}, err
	}
	for {
		in, err := b.client.Info(ctx, "persistence")
		if err != nil {
			return cost{}, err
		}
		if in.Get("rdb_bgsave_in_progress") == "0" {
			if in.Get("rdb_last_bgsave_status") != "ok" {
				return cost{}, fmt.Errorf("BGSAVE failed:\n%s", b.redis.Log())
			}
			return cost{wall: time.Since(began)}, nil
		}
		if err := rig.Wait(ctx, 10*time.Millisecond); err != nil {
			return cost{}, err
		}
	}
}
