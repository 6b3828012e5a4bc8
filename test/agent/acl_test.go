package agent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// administrator is a client with every right, for when the default user is off.
func administrator(t *testing.T, srv *testenv.Redis) func(args ...string) any {
	t.Helper()
	srv.Do(t, "ACL", "SETUSER", "admin", "on", ">all", "~*", "&*", "+@all")
	c := redis.New(redis.Options{Addr: srv.Addr, Credentials: func() (string, string, error) { return "admin", "all", nil }})
	t.Cleanup(func() { _ = c.Close() })
	return func(args ...string) any {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		v, err := c.Do(ctx, args...)
		if err != nil {
			t.Fatalf("%s: %v", strings.Join(args, " "), err)
		}
		return v
	}
}

// printedRule returns the words of the rule that check prints, as redis-cli
// reads them, with a password.
func printedRule(t *testing.T, env []string, flags ...string) []string {
	t.Helper()
	out := mustRun(t, env, append([]string{"check"}, flags...)...)
	line := regexp.MustCompile(`(?m)^ACL SETUSER .*$`).FindString(out)
	if line == "" {
		t.Fatalf("check prints no rule:\n%s", out)
	}
	var words []string
	for _, w := range regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\S+`).FindAllString(line, -1) {
		if strings.HasPrefix(w, `"`) {
			plain, err := strconv.Unquote(w)
			if err != nil {
				t.Fatal(err)
			}
			w = plain
		}
		words = append(words, strings.Replace(w, ">PASSWORD", ">hush", 1))
	}
	return words
}

// The printed rule is enough: no command is refused, in 100 scrapes and whatever
// the jobs do. And it is no more than that: every command in it is sent.
func TestPrintedRuleIsEnoughAndNoMore(t *testing.T) {
	t.Parallel()
	granted, called := map[string]bool{}, map[string]bool{}
	scenario := func(name string, srv *testenv.Redis, flags []string, change func(t *testing.T, a *agent, admin func(...string) any)) {
		t.Run(name, func(t *testing.T) {
			env := []string{"REDIS_ADDR=redis://" + srv.Addr, "REDIS_USER=sidecar", "REDIS_PASSWORD=hush", "POD_NAME=redis-0",
				"REDIS_SIDECAR_BACKUP_STORE=file://" + t.TempDir()}
			flags := append([]string{"--backup.schedule=* * * * *", "--announce.address=127.0.0.1", "--ping-on-connect"}, flags...)
			admin := administrator(t, srv)
			rule := printedRule(t, env, flags...)
			if rule[2] != "sidecar" {
				t.Fatalf("the rule is for %q", rule[2])
			}
			admin(rule...)
			admin("ACL", "SETUSER", "default", "off")
			admin("CONFIG", "RESETSTAT") // also what the administrator did

			a := start(t, env, flags...)
			for _, job := range []string{"announce", "probe", "backup"} {
				a.waitJob(t, 20*time.Second, job, "ok", "")
			}
			change(t, a, admin)
			for _, source := range []string{"bgsave", "stream"} {
				mustRun(t, env, "backup", "now", "--wait", "--backup.role=any", "--backup.source="+source) // it may be the agent's minute
			}
			for range 100 {
				a.wantMetric(t, "redis_up", "1")
			}
			if r, err := a.job("exporter"); err != nil || r.State != "ok" {
				t.Errorf("exporter is %s: %s %v", r.State, r.Message, err)
			}
			in := info.Parse(admin("INFO", "ALL").(string))
			if n := in.Get("errorstat_NOPERM"); n != "" {
				t.Errorf("errorstat_NOPERM: %s", n)
			}
			if log := admin("ACL", "LOG").([]any); len(log) > 0 {
				t.Errorf("ACL LOG: %v", log)
			}
			for name := range in.Section("commandstats") {
				called[strings.TrimPrefix(name, "cmdstat_")] = true
			}
			for _, w := range rule {
				if command, ok := strings.CutPrefix(w, "+"); ok {
					granted[command] = true
				}
			}
			t.Logf("%s", strings.Join(rule, " "))
			t.Logf("100 scrapes: errorstats %v", errorStats(in))
		})
	}

	conf := filepath.Join(t.TempDir(), "redis.conf")
	writeFile := func(t *testing.T, text string) {
		t.Helper()
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, "maxmemory 100mb\n")
	primary := testenv.StartRedis(t)
	replica := testenv.StartRedisIn(t, t.TempDir(), conf, "--replicaof", "127.0.0.1 "+strconv.Itoa(primary.Port), "--replica-announce-ip", "10.9.9.9",
		"--repl-diskless-sync-delay", "0")
	testenv.Eventually(t, 20*time.Second, func() error {
		if in := replica.Do(t, "INFO", "replication").(string); !strings.Contains(in, "master_link_status:up") {
			return errors.New(in)
		}
		return nil
	})
	scenario("replica", replica, []string{"--config.path=" + conf, "--backup.role=any"}, func(t *testing.T, a *agent, admin func(...string) any) {
		a.waitJob(t, 20*time.Second, "config", "ok", "")
		writeFile(t, "maxmemory 200mb\n")
		a.eventually(t, 20*time.Second, func() error {
			if got := fmt.Sprint(admin("CONFIG", "GET", "maxmemory")); !strings.Contains(got, "209715200") {
				return errors.New(got)
			}
			return nil
		})
		a.eventually(t, 20*time.Second, func() error { // the link was cut, so that the master learns the address
			if !strings.Contains(admin("INFO", "commandstats").(string), "cmdstat_client|kill") {
				return errors.New("no CLIENT KILL yet")
			}
			return nil
		})
		a.waitJob(t, 20*time.Second, "announce", "ok", "")
		a.eventually(t, 20*time.Second, func() error {
			if in := admin("INFO", "replication").(string); !strings.Contains(in, "master_link_status:up") {
				return errors.New(in)
			}
			return nil
		})
	})

	node := testenv.StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(testenv.FreePort(t)), "--repl-diskless-sync-delay", "0")
	node.Do(t, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	scenario("cluster node", node, nil, func(t *testing.T, a *agent, _ func(...string) any) {
		a.eventually(t, 20*time.Second, func() error { return a.want("/readyz", 200) })
	})

	if t.Failed() {
		return
	}
	for command := range granted {
		if !called[command] {
			t.Errorf("+%s is granted and never sent", command)
		}
	}
}

func errorStats(in info.Info) []string {
	var out []string
	for name, value := range in.Section("errorstats") {
		out = append(out, name+":"+value)
	}
	slices.Sort(out)
	return out
}

// With everything on that looks at keys, clients and scripts, too.
func TestPrintedRuleForTheBackground(t *testing.T) {
	t.Parallel()
	srv := testenv.StartRedis(t)
	srv.Do(t, "SET", "user:1", "x")
	srv.Do(t, "PFADD", "user:2", "a", "b")
	srv.Do(t, "RPUSH", "one two", "a")
	srv.Do(t, "XADD", "stream:1", "*", "a", "b")
	srv.Do(t, "XGROUP", "CREATE", "stream:1", "group", "0")
	script := filepath.Join(t.TempDir(), "script.lua")
	if err := os.WriteFile(script, []byte(`return {"a", "1"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	admin := administrator(t, srv)
	env := []string{"REDIS_ADDR=redis://" + srv.Addr, "REDIS_USER=sidecar", "REDIS_PASSWORD=hush", "POD_NAME=redis-0"}
	flags := []string{"--announce.address=127.0.0.1", "--check-keys=user:*,db1=none:*", "--check-single-keys=one%20two", "--check-streams=stream:*", "--count-keys=*",
		"--script=" + script, "--lua-script-read-only", "--export-client-list", "--include-config-metrics", "--exporter.interval=1s"}
	rule := printedRule(t, env, flags...)
	admin(rule...)
	admin("ACL", "SETUSER", "default", "off")

	a := start(t, env, flags...)
	a.waitJob(t, 20*time.Second, "announce", "ok", "")
	a.eventually(t, 20*time.Second, func() error { // every one of them has something to show
		body := a.mustGet(t, "/metrics", 200)
		for _, want := range []string{
			`redis_key_size{db="db0",key="user:1"} 1`, `redis_key_size{db="db0",key="user:2"} 2`, `redis_key_size{db="db0",key="one two"} 1`,
			`redis_keys_count{db="db0",key="*"} 4`, `redis_stream_length{db="db0",stream="stream:1"} 1`,
			`redis_script_values{filename="` + script + `",key="a"} 1`, "redis_connected_client_info{", "redis_config_value{",
		} {
			if !strings.Contains(body, "\n"+want) {
				return errors.New("no " + want)
			}
		}
		return nil
	})
	for range 100 {
		a.wantMetric(t, "redis_up", "1")
	}
	if log := admin("ACL", "LOG").([]any); len(log) > 0 {
		t.Errorf("ACL LOG: %v", log)
	}
	if n := info.Parse(admin("INFO", "errorstats").(string)).Get("errorstat_NOPERM"); n != "" {
		t.Errorf("errorstat_NOPERM: %s", n)
	}

	// What the collectors of the background send is allowed, and nothing near it.
	for command, allowed := range map[string]bool{
		"SCAN 0": true, "SELECT 1": true, "TYPE user:1": true, "MEMORY USAGE user:1": true, "STRLEN user:1": true, "GETRANGE user:1 0 3": true,
		"PFCOUNT user:2": true, "LLEN one\x00two": true, "XINFO STREAM stream:1": true, "XINFO GROUPS stream:1": true,
		"XINFO CONSUMERS stream:1 group": true, "CLIENT LIST": true, "EVAL_RO return{} 0": true,
		"GETRANGE other 0 3": false, "SET user:1 y": false, "DEL user:1": false, "GET user:1": false, "EVAL return{} 0": false, "CLIENT KILL ID 1": true,
		"CONFIG REWRITE": false, "FLUSHALL": false, "ACL LIST": false, "KEYS *": false,
	} {
		args := strings.Fields(command)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "\x00", " ")
		}
		got := fmt.Sprint(admin(append([]string{"ACL", "DRYRUN", "sidecar"}, args...)...))
		if (got == "OK") != allowed {
			t.Errorf("%s: %s, want allowed %v", command, got, allowed)
		}
	}
}
