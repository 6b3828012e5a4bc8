// Command demo shows redis-sidecar's main job on this machine, with a real
// redis-server and a real S3 server on loopback: keys, a snapshot, a live change
// of redis.conf, metrics, the loss of the data and its restore. It touches only
// servers that it started, in a directory of its own, and ends them all.
//
// It stays up afterwards until it is interrupted, unless standard input is no
// terminal or DEMO_EXIT=1 is set.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	d := &demo{start: time.Now()}
	err := d.run(ctx)
	d.end()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

const (
	accessKey, secretKey = "demo", "demo-secret-key"
	keys                 = 20000
	wait                 = 20 * time.Second
)

type demo struct {
	start time.Time
	step  int
	whole bool // every step succeeded

	bin, dir                       string // programs; everything the demo writes
	redisPort, s3Port, sidecarPort int
	running                        []*process // in order of their start
	redisProcess                   *process
	client                         *redis.Client
}

// process is one that the demo started.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

func (d *demo) run(ctx context.Context) error {
	var err error
	if d.bin, err = filepath.Abs("bin"); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "redis-sidecar-demo-"); err != nil {
		return err
	}
	for _, dir := range []string{"data", "conf", "s3/redis-backups", "logs"} {
		if err := os.MkdirAll(d.path(dir), 0o700); err != nil {
			return err
		}
	}
	d.redisPort, d.s3Port, d.sidecarPort = port(16379), port(17070), port(9121)
	d.client = redis.New(redis.Options{Addr: d.redisAddr(), Timeout: 10 * time.Second})
	defer d.client.Close()

	for _, step := range []func(context.Context) error{d.servers, d.write, d.backup, d.configure, d.metrics, d.loseAndRestore} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.whole = true
	fmt.Printf("\nDone in %.1f s.\n", time.Since(d.start).Seconds())
	if os.Getenv("DEMO_EXIT") == "1" || !isTerminal(os.Stdin) {
		return nil
	}
	fmt.Printf("\n  status page   %s/\n  metrics       %s/metrics\n  readiness     %s/readyz\n  redis         redis-cli -p %d\n  redis.conf    %s  (edit it and watch the page)\n\nCtrl-C ends it all and removes %s.\n",
		d.url(), d.url(), d.url(), d.redisPort, d.path("conf/redis.conf"), d.dir)
	<-ctx.Done()
	return nil
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }
func (d *demo) redisAddr() string       { return "127.0.0.1:" + strconv.Itoa(d.redisPort) }
func (d *demo) url() string             { return "http://127.0.0.1:" + strconv.Itoa(d.sidecarPort) }

// title begins a step.
func (d *demo) title(text string) {
	d.step++
	fmt.Printf("\n%d. %s\n", d.step, text)
}

func evidence(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

func (d *demo) servers(ctx context.Context) error {
	d.title("A Redis, an S3 server and the sidecar start on loopback")
	if err := d.conf("100mb", "noeviction"); err != nil {
		return err
	}
	if err := d.startRedis(ctx); err != nil {
		return err
	}
	s3, err := d.spawn("versitygw", []string{"ROOT_ACCESS_KEY=" + accessKey, "ROOT_SECRET_KEY=" + secretKey},
		filepath.Join(d.bin, "versitygw"), "--port", "127.0.0.1:"+strconv.Itoa(d.s3Port), "posix", d.path("s3"))
	if err != nil {
		return err
	}
	if err := d.until(ctx, s3, func() error { return dial(d.s3Port) }); err != nil {
		return err
	}
	evidence("S3 server     http://127.0.0.1:%d, bucket redis-backups", d.s3Port)
	sidecar, err := d.spawn("redis-sidecar", d.sidecarEnv(), d.sidecar(), "run",
		"--config.path="+d.path("conf/redis.conf"), "--backup.schedule=@hourly", "--announce.address=127.0.0.1",
		"--web.listen-address=127.0.0.1:"+strconv.Itoa(d.sidecarPort))
	if err != nil {
		return err
	}
	if err := d.until(ctx, sidecar, func() error { _, err := get(d.url() + "/readyz"); return err }); err != nil {
		return err
	}
	body, err := get(d.url() + "/readyz")
	if err != nil {
		return err
	}
	evidence("redis-sidecar %s, /readyz says %q", d.url(), strings.TrimSpace(body))
	return nil
}

func (d *demo) startRedis(ctx context.Context) error {
	p, err := d.spawn("redis-server", nil, "redis-server", d.path("conf/redis.conf"))
	if err != nil {
		return err
	}
	if err := d.until(ctx, p, func() error { _, err := d.client.Do(ctx, "PING"); return err }); err != nil {
		return err
	}
	d.redisProcess = p
	in, err := d.client.Info(ctx, "server")
	if err != nil {
		return err
	}
	evidence("redis-server  %s at %s, pid %d", in.Get("redis_version"), d.redisAddr(), p.cmd.Process.Pid)
	return nil
}

// conf writes redis.conf as a tool would: a new file, renamed into place.
func (d *demo) conf(maxmemory, policy string) error {
	text := fmt.Sprintf("bind 127.0.0.1\nport %d\ndir %s\nappendonly yes\nenable-debug-command local\nmaxmemory %s\nmaxmemory-policy %s\n",
		d.redisPort, d.path("data"), maxmemory, policy)
	if err := os.WriteFile(d.path("conf/.new"), []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(d.path("conf/.new"), d.path("conf/redis.conf"))
}

func (d *demo) write(ctx context.Context) error {
	d.title("Keys are written")
	const batch = 1000
	for i := 0; i < keys; i += batch {
		cmds := make([][]string, 0, batch)
		for j := i; j < i+batch; j++ {
			n := strconv.Itoa(j)
			switch j % 4 {
			case 0:
				cmds = append(cmds, []string{"SET", "session:" + n, strings.Repeat("s"+n+" ", 20), "EX", "86400"})
			case 1:
				cmds = append(cmds, []string{"HSET", "user:" + n, "name", "user " + n, "visits", n})
			case 2:
				cmds = append(cmds, []string{"ZADD", "scores:" + n, n, "a", "1", "b"})
			default:
				cmds = append(cmds, []string{"RPUSH", "queue:" + n, "x", n})
			}
		}
		if _, err := d.client.Pipeline(ctx, cmds...); err != nil {
			return err
		}
	}
	n, err := d.dbsize(ctx)
	if err != nil {
		return err
	}
	evidence("%d keys: strings that expire, hashes, sorted sets, lists", n)
	return nil
}

func (d *demo) backup(ctx context.Context) error {
	d.title("A snapshot is taken, uploaded, read back and verified")
	out, err := d.cli(ctx, "backup", "now")
	if err != nil {
		return err
	}
	evidence("backup now     %s", out)
	if out, err = d.cli(ctx, "backup", "verify", "latest"); err != nil {
		return err
	}
	evidence("backup verify  %s", out)
	return nil
}

func (d *demo) configure(ctx context.Context) error {
	d.title("redis.conf changes on disk, the running server follows")
	before, err := d.client.ConfigGet(ctx, "maxmemory", "maxmemory-policy")
	if err != nil {
		return err
	}
	if err := d.conf("200mb", "allkeys-lru"); err != nil {
		return err
	}
	changed := time.Now()
	var after map[string]string
	if err := d.until(ctx, d.redisProcess, func() error {
		if after, err = d.client.ConfigGet(ctx, "maxmemory", "maxmemory-policy"); err != nil {
			return err
		}
		if after["maxmemory"] == before["maxmemory"] {
			return errors.New("maxmemory is still " + after["maxmemory"])
		}
		return nil
	}); err != nil {
		return err
	}
	evidence("maxmemory %s → %s, maxmemory-policy %s → %s, %.2f s after the file, same process",
		before["maxmemory"], after["maxmemory"], before["maxmemory-policy"], after["maxmemory-policy"], time.Since(changed).Seconds())
	return nil
}

func (d *demo) metrics(context.Context) error {
	d.title("Prometheus metrics, under the names of redis_exporter")
	body, err := get(d.url() + "/metrics")
	if err != nil {
		return err
	}
	wanted := []string{"redis_up ", `redis_db_keys{db="db0"} `, "redis_config_maxmemory ", `redis_sidecar_job_state{name="backup",state="ok"} `}
	for line := range strings.Lines(body) {
		for _, w := range wanted {
			if strings.HasPrefix(line, w) {
				evidence("%s", strings.TrimSpace(line))
			}
		}
	}
	evidence("… %d lines in all", strings.Count(body, "\n"))
	return nil
}

func (d *demo) loseAndRestore(ctx context.Context) error {
	d.title("The server and all of its data are lost, and restored")
	keysBefore, digestBefore, err := d.state(ctx)
	if err != nil {
		return err
	}
	d.stop(d.redisProcess)
	if err := os.RemoveAll(d.path("data")); err != nil {
		return err
	}
	if err := os.Mkdir(d.path("data"), 0o700); err != nil {
		return err
	}
	evidence("before         %d keys, digest %s; then the process was ended and its directory deleted", keysBefore, digestBefore)
	out, err := d.cli(ctx, "restore", "--restore.dir="+d.path("data"), "--restore.redis-conf="+d.path("conf/redis.conf"))
	if err != nil {
		return err
	}
	evidence("restore        %s", out)
	if err := d.startRedis(ctx); err != nil {
		return err
	}
	keysAfter, digestAfter, err := d.state(ctx)
	if err != nil {
		return err
	}
	evidence("after          %d keys, digest %s", keysAfter, digestAfter)
	if keysBefore != keysAfter || digestBefore != digestAfter {
		return errors.New("the restored data is not the data that was lost")
	}
	evidence("equal")
	return nil
}

func (d *demo) dbsize(ctx context.Context) (int64, error) {
	v, err := d.client.Do(ctx, "DBSIZE")
	n, _ := v.(int64)
	return n, err
}

func (d *demo) state(ctx context.Context) (keys int64, digest string, err error) {
	if keys, err = d.dbsize(ctx); err != nil {
		return 0, "", err
	}
	v, err := d.client.Do(ctx, "DEBUG", "DIGEST")
	digest, _ = v.(string)
	return keys, digest, err
}

func (d *demo) sidecar() string { return filepath.Join(d.bin, "redis-sidecar") }

// sidecarEnv is what the agent and the commands have in common.
func (d *demo) sidecarEnv() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey, "POD_NAME=demo-0",
		"REDIS_ADDR=redis://" + d.redisAddr(),
		fmt.Sprintf("REDIS_SIDECAR_BACKUP_STORE=s3://redis-backups/demo?endpoint=http://127.0.0.1:%d", d.s3Port),
	}
}

// cli runs a command of redis-sidecar to its end and returns its output.
func (d *demo) cli(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.sidecar(), args...)
	cmd.Env = append(os.Environ(), d.sidecarEnv()...)
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("redis-sidecar %s: %w\n%s", strings.Join(args, " "), err, log.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// spawn starts a program that ends with the demo, whatever ends the demo.
func (d *demo) spawn(name string, env []string, program string, args ...string) (*process, error) {
	log, err := os.CreateTemp(d.path("logs"), name+"-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, log: log.Name(), done: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(p.done) }()
	d.running = append(d.running, p)
	return p, nil
}

// until polls ready while p runs.
func (d *demo) until(ctx context.Context, p *process, ready func() error) error {
	deadline := time.Now().Add(wait)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after %s: %w; its log is %s", p.name, wait, err, p.log)
		}
		select {
		case <-p.done:
			text, _ := os.ReadFile(p.log)
			return fmt.Errorf("%s ended:\n%s", p.name, text)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends a process, politely first.
func (d *demo) stop(p *process) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// end ends everything, the last one first, and removes the files unless a step
// failed: then the logs are worth reading.
func (d *demo) end() {
	for _, p := range slices.Backward(d.running) {
		d.stop(p)
	}
	if d.whole {
		_ = os.RemoveAll(d.dir)
	} else if d.dir != "" {
		fmt.Fprintf(os.Stderr, "\nlogs and data are in %s\n", d.dir)
	}
}

// port returns the wanted port if it is free, or any free one.
func port(wanted int) int {
	for _, p := range []int{wanted, 0} {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p))
		if err == nil {
			defer l.Close()
			return l.Addr().(*net.TCPAddr).Port
		}
	}
	return wanted
}

func dial(port int) error {
	c, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(port), time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

func get(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, strings.TrimSpace(string(body)))
	}
	return string(body), err
}

func isTerminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull && !isNull(st)
}

// isNull tells /dev/null, a character device too, from a terminal.
func isNull(st os.FileInfo) bool {
	null, err := os.Stat(os.DevNull)
	return err == nil && os.SameFile(st, null)
}
