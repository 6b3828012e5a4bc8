package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
)

// servers are redis-server, the S3 server and the agent, with all their files in
// one temporary directory.
type servers struct {
	binary, dir, bucket string

	redisAddr, agentURL string
	environ             []string // the agent's settings
	children            []*exec.Cmd
}

func startServers(ctx context.Context, binary string) (s *servers, err error) {
	dir, err := os.MkdirTemp("", "redis-sidecar-size-")
	if err != nil {
		return nil, err
	}
	s = &servers{binary: binary, dir: dir, bucket: filepath.Join(dir, "objects", "size")}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	data := filepath.Join(dir, "data")
	for _, d := range []string{data, s.bucket} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	s.redisAddr, s.agentURL = "127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[2]

	conf := filepath.Join(dir, "redis.conf")
	text := "bind 127.0.0.1\nport " + ports[0] + "\ndir " + data + "\nsave \"\"\nrdbcompression no\nmaxmemory 8gb\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	if _, err := s.start("redis-server", nil, "redis-server", conf); err != nil {
		return nil, err
	}
	accessKey, secretKey := rand.Text(), rand.Text()
	gateway := "bin/versitygw"
	if _, err := os.Stat(gateway); err != nil {
		return nil, fmt.Errorf("%w: make tools", err)
	}
	if _, err := s.start("versitygw", []string{"ROOT_ACCESS_KEY=" + accessKey, "ROOT_SECRET_KEY=" + secretKey},
		gateway, "--port", "127.0.0.1:"+ports[1], "posix", filepath.Dir(s.bucket)); err != nil {
		return nil, err
	}
	s.environ = []string{
		"AWS_ACCESS_KEY_ID=" + accessKey,
		"AWS_SECRET_ACCESS_KEY=" + secretKey,
		"POD_NAME=redis-0",
		"POD_IP=127.0.0.1",
		"REDIS_SIDECAR_REDIS_ADDR=" + s.redisAddr,
		"REDIS_SIDECAR_WEB_LISTEN_ADDRESS=127.0.0.1:" + ports[2],
		"REDIS_SIDECAR_ANNOUNCE_MODE=auto",
		"REDIS_SIDECAR_CONFIG_PATH=" + conf,
		"REDIS_SIDECAR_BACKUP_SCHEDULE=@every 1m",
		"REDIS_SIDECAR_BACKUP_STORE=s3://size/redis?region=us-east-1&endpoint=http://127.0.0.1:" + ports[1],
		"REDIS_SIDECAR_BACKUP_RETENTION_KEEP_LAST=2",
	}
	for _, port := range ports[:2] {
		if err := listens(ctx, "127.0.0.1:"+port); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// startAgent starts the program under measurement with every job on.
func (s *servers) startAgent(ctx context.Context) (process, error) {
	cmd, err := s.start("agent", s.environ, s.binary, "run")
	if err != nil {
		return process{}, err
	}
	if err := listens(ctx, strings.TrimPrefix(s.agentURL, "http://")); err != nil {
		return process{}, fmt.Errorf("%w\n%s", err, s.agentLog())
	}
	return process{cmd.Process.Pid}, nil
}

// command runs the program once and returns its time and its peak of memory.
func (s *servers) command(ctx context.Context, args ...string) (time.Duration, int64, error) {
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

// start starts a child that writes to a file of its name and does not outlive
// this program.
func (s *servers) start(name string, environ []string, program string, args ...string) (*exec.Cmd, error) {
	out, err := os.Create(filepath.Join(s.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Env = environ
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.children = append(s.children, cmd)
	return cmd, nil
}

// stop kills all children, waits for them and removes their files.
func (s *servers) stop() {
	for _, cmd := range s.children {
		_ = cmd.Process.Kill() // an error means that it has gone
		_ = cmd.Wait()
	}
	_ = os.RemoveAll(s.dir)
}

func (s *servers) agentLog() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "agent.log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// fill replaces the data by size bytes of values that do not compress.
func (s *servers) fill(ctx context.Context, size int64) error {
	client := redis.New(redis.Options{Addr: s.redisAddr, Timeout: time.Minute})
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

// freePorts returns ports of loopback that nobody listened on a moment ago.
func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // together, so that no port is given twice
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

// listens waits until somebody listens at addr.
func listens(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		if waitErr := wait(ctx, 50*time.Millisecond); waitErr != nil {
			return err
		}
	}
}
