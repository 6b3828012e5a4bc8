// Package rig starts the real program beside a real redis-server and a real S3
// server, with every job on, and reads what the kernel knows of them. It is what
// the measuring programs share.
package rig

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
)

// Options are the settings of Servers.
type Options struct {
	// Binary is the program, as make build makes it.
	Binary string
	// Config are lines of redis.conf.
	Config string
	// Schedule is when the agent takes snapshots.
	Schedule string
}

// Servers are redis-server, the S3 server and the agent, with all their files in
// one temporary directory.
type Servers struct {
	Children // with its Dir

	Bucket    string // directory of the objects
	RedisAddr string
	Redis     *Child
	AgentURL  string // without the path; set by StartAgent

	binary  string
	environ []string // the agent's settings
}

// Start starts redis-server and the S3 server. The caller stops them.
func Start(ctx context.Context, o Options) (s *Servers, err error) {
	dir, err := os.MkdirTemp("", "redis-sidecar-rig-")
	if err != nil {
		return nil, err
	}
	s = &Servers{binary: o.Binary, Children: Children{Dir: dir}, Bucket: filepath.Join(dir, "objects", "rig")}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	data := filepath.Join(dir, "data")
	for _, d := range []string{data, s.Bucket} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	ports, err := FreePorts(2)
	if err != nil {
		return nil, err
	}
	s.RedisAddr = "127.0.0.1:" + ports[0]

	conf := filepath.Join(dir, "redis.conf")
	text := "bind 127.0.0.1\nport " + ports[0] + "\ndir " + data + "\nsave \"\"\n" + o.Config
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	if s.Redis, err = s.Children.Start("redis-server", nil, "redis-server", conf); err != nil {
		return nil, err
	}
	accessKey, secretKey := rand.Text(), rand.Text()
	gateway := "bin/versitygw"
	if _, err := os.Stat(gateway); err != nil {
		return nil, fmt.Errorf("%w: make tools", err)
	}
	s3Addr := "127.0.0.1:" + ports[1]
	s3, err := s.Children.Start("versitygw", []string{"ROOT_ACCESS_KEY=" + accessKey, "ROOT_SECRET_KEY=" + secretKey},
		gateway, "--port", s3Addr, "posix", filepath.Dir(s.Bucket))
	if err != nil {
		return nil, err
	}
	s.environ = []string{
		"AWS_ACCESS_KEY_ID=" + accessKey,
		"AWS_SECRET_ACCESS_KEY=" + secretKey,
		"POD_NAME=redis-0",
		"POD_IP=127.0.0.1",
		"REDIS_SIDECAR_REDIS_ADDR=" + s.RedisAddr,
		"REDIS_SIDECAR_ANNOUNCE_MODE=auto",
		"REDIS_SIDECAR_CONFIG_PATH=" + conf,
		"REDIS_SIDECAR_BACKUP_SCHEDULE=" + o.Schedule,
		"REDIS_SIDECAR_BACKUP_STORE=s3://rig/redis?region=us-east-1&endpoint=http://" + s3Addr,
		"REDIS_SIDECAR_BACKUP_RETENTION_KEEP_LAST=2",
	}
	if err := s.Redis.Listens(ctx, s.RedisAddr); err != nil {
		return nil, err
	}
	return s, s3.Listens(ctx, s3Addr)
}

// StartAgent starts the program under measurement with every job on. args are
// further flags.
func (s *Servers) StartAgent(ctx context.Context, args ...string) (*Child, error) {
	ports, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + ports[0]
	args = append([]string{"run", "--web.listen-address=" + addr}, args...)
	child, err := s.Children.Start("agent", s.environ, s.binary, args...)
	if err != nil {
		return nil, err
	}
	s.AgentURL = "http://" + addr
	return child, child.Listens(ctx, addr)
}

// Command runs the program once and returns its time and its peak of memory.
func (s *Servers) Command(ctx context.Context, args ...string) (time.Duration, int64, error) {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Env = s.environ
	start := time.Now()
	if said, err := cmd.CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("%s %s: %w\n%s", s.binary, strings.Join(args, " "), err, said)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, 0, errors.New("the kernel says nothing about the memory of a child")
	}
	return time.Since(start), usage.Maxrss << 10, nil
}

// Stop kills all servers, waits for them and removes their files.
func (s *Servers) Stop() {
	s.Children.Stop()
	_ = os.RemoveAll(s.Dir)
}

// Fill replaces the data by size bytes of values that do not compress.
func (s *Servers) Fill(ctx context.Context, size int64) error {
	client := redis.New(redis.Options{Addr: s.RedisAddr, Timeout: time.Minute})
	defer client.Close()
	if _, err := client.Do(ctx, "FLUSHALL"); err != nil {
		return err
	}
	const valueSize, batch = 10 << 10, 100
	value := make([]byte, valueSize)
	for n := 0; int64(n)*valueSize < size; {
		commands := make([][]string, 0, batch)
		for range batch {
			_, _ = rand.Read(value) // it never fails
			commands = append(commands, []string{"SET", "key:" + strconv.Itoa(n), string(value)})
			n++
		}
		if _, err := client.Pipeline(ctx, commands...); err != nil {
			return err
		}
	}
	return nil
}
