package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/announce"
	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/probe"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/settings"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/store"
	"github.com/redis-sidecar/redis-sidecar/internal/web"
)

// loaded is what every command begins with.
type loaded struct {
	*settings.Settings
	log  *slog.Logger
	rest []string // arguments that are no flags
	// elsewhere tells that announce.mode was auto and is off, as the server is on
	// another host.
	elsewhere bool
	// cores is how many the process may use, before it restrains itself.
	cores int
}

// beside tells whether redis.addr is on this host, as far as that can be told
// without asking anybody. The image may stand in for a redis_exporter that asks a
// server far away: the address of this pod must not be announced there.
func (l *loaded) beside() bool {
	a, err := redis.ParseAddress(l.Redis.Addr)
	if err != nil || a.Network == "unix" {
		return true
	}
	host, _, err := net.SplitHostPort(a.Addr)
	if err != nil {
		return false
	}
	if name, err := os.Hostname(); host == "localhost" || host == l.Pod.IP || err == nil && host == name {
		return true
	}
	ip := net.ParseIP(host)
	if ip == nil || ip.IsLoopback() || ip.IsUnspecified() {
		return ip != nil
	}
	own, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(own, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}

// load reads the settings for a command, whose own flags extra adds.
func load(e *env, args []string, extra func(*flag.FlagSet)) (*loaded, error) {
	s, rest, err := settings.Load(settings.Input{Args: args, Environ: e.environ, Extra: extra, Checks: checks(), Together: together, Defaults: e.defaults()})
	if err != nil {
		return nil, err
	}
	if s.Pod.Name == "" {
		if s.Pod.Name, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("pod.name is not set, and the host has no name: %w", err)
		}
	}
	if s.Backup.Instance == "" {
		s.Backup.Instance = withoutOrdinal(s.Pod.Name)
	}
	l := &loaded{Settings: s, log: newLogger(e, s.Log), rest: rest, cores: runtime.GOMAXPROCS(0)}
	if l.Announce.Mode == string(announce.Auto) && l.Announce.Address == "" && l.Redis.Addr != "" && !l.beside() {
		l.Announce.Mode = string(announce.Off)
		l.elsewhere = true
		l.Warnings = append(l.Warnings, "announce.mode: is off, because redis.addr is not on this host, whose address would be announced there; announce.mode=replication or cluster says that it is")
	}
	for _, w := range s.Warnings {
		l.log.Warn("settings", "warning", w)
	}
	return l, nil
}

// checks are the rules that need knowledge of other packages.
func checks() map[string]func(string) error {
	return map[string]func(string) error{
		"redis.addr":      func(v string) error { _, err := redis.ParseAddress(v); return err },
		"backup.schedule": func(v string) error { _, err := backup.ParseSchedule(v); return hinted(err) },
		"backup.store":    func(v string) error { _, err := store.ParseURL(v); return hinted(err) },
		"backup.encryption.recipients": func(v string) error {
			var texts []string
			for text := range strings.SplitSeq(v, ",") {
				if text = strings.TrimSpace(text); text != "" {
					texts = append(texts, text)
				}
			}
			return backup.CheckRecipients(texts)
		},
		"restore.store":    func(v string) error { _, err := store.ParseURL(v); return hinted(err) },
		"restore.instance": func(v string) error { return hinted(backup.ValidInstance(v)) },
		"backup.shard":     func(v string) error { return backup.ValidShard(v) },
		"restore.cluster-peers": func(v string) error {
			_, err := backup.ParseClusterPeers(v)
			return err
		},
		"backup.instance":  func(v string) error { return hinted(backup.ValidInstance(v)) },
		"announce.address": func(v string) error { return hinted(announce.Validate(announce.Auto, v)) },
		"web.config-file":  func(v string) error { return hinted(web.Validate(v)) },
		"web.telemetry-path": func(v string) error {
			switch v {
			case "/", "/status", "/health", "/scrape", "/discover-cluster-nodes", "/-/reload", backupPath, "/-/healthy", "/-/ready", probe.Startup.Path(), probe.Liveness.Path(), probe.Readiness.Path():
				return hint{"is the path of something else", "for example /metrics"}
			}
			return nil
		},
		"restore.redis-version": func(v string) error {
			if !serverVersion.MatchString(v) {
				return hint{"is not a version", "as redis-server --version says it: 7.0.15, or valkey 9.0.1"}
			}
			return nil
		},
		"restore.dir": func(v string) error {
			if !filepath.IsAbs(v) {
				return hint{"is not an absolute path", "for example /data"}
			}
			return nil
		},
	}
}

// together are the rules of other packages for several settings at once.
func together(s *settings.Settings) settings.Problems {
	var out settings.Problems
	if announce.Mode(s.Announce.Mode) == announce.Cluster { // otherwise it was checked alone
		if err := announce.Validate(announce.Cluster, s.Announce.Address); err != nil {
			out = append(out, settings.Problem{
				Name: "announce.address", Value: s.Announce.Address, What: err.Error(),
				Hint: "an IP address, or none: then it is the pod's own",
			})
		}
	}
	for _, t := range s.Exporter.Targets {
		if _, err := redis.ParseAddress(t.Addr); err != nil {
			out = append(out, settings.Problem{
				Name: "exporter.targets", What: fmt.Sprintf("%s: %v", t.Name, err),
				Hint: "for example sentinel=redis://127.0.0.1:26379",
			})
		}
	}
	for _, a := range s.Exporter.ScrapeAllow {
		if _, err := redis.ParseAddress(a); err != nil {
			out = append(out, settings.Problem{
				Name: "exporter.scrape-allow", What: fmt.Sprintf("%s: %v", a, err),
				Hint: "for example redis-1.redis:6379 or rediss://other:6380",
			})
		}
	}
	for _, c := range s.Exporter.CollectorsDisabled {
		if known := exporter.Collectors(); !slices.Contains(known, c) {
			out = append(out, settings.Problem{
				Name: "exporter.collectors-disabled", What: fmt.Sprintf("there is no collector %q", c),
				Hint: "one of: " + strings.Join(known, ", "),
			})
		}
	}
	if s.Restore.Shard != "" && (len(s.Restore.Peers) > 0 || len(s.Restore.Sentinels) > 0 || s.Restore.OnlyPod != "") {
		out = append(out, settings.Problem{Name: "restore.shard", Value: s.Restore.Shard, What: "is for a cluster, restore.peers, restore.sentinels and restore.only-pod are for servers without one", Hint: "restore.cluster-peers are asked instead"})
	}
	if s.Restore.RedisServer != "" && s.Restore.RedisVersion != "" {
		out = append(out, settings.Problem{Name: "restore.redis-server", Value: s.Restore.RedisServer, What: "is given beside restore.redis-version", Hint: "one of them says what the other does"})
	}
	direct := webDirect(s)
	if direct.CertFile == "" || direct.KeyFile == "" { // by halves it is a problem already
		direct.CertFile, direct.KeyFile, direct.ClientCAFile = "", "", ""
	}
	if s.Web.ConfigFile == "" {
		if problems, ok := errors.AsType[web.Problems](direct.Validate()); ok {
			for _, p := range problems {
				out = append(out, settings.Problem{Name: cmp.Or(p.Path, "web.tls"), What: p.What})
			}
		}
	}
	return out
}

// webDirect is what the settings say of the web side without a file.
func webDirect(s *settings.Settings) web.Direct {
	return web.Direct{
		CertFile: s.Web.TLS.CertFile, KeyFile: s.Web.TLS.KeyFile, ClientCAFile: s.Web.TLS.ClientCAFile, MinVersion: s.Web.TLS.MinVersion,
		Username: s.Web.BasicAuth.Username, Password: s.Web.BasicAuth.Password, Hash: s.Web.BasicAuth.Hash,
	}
}

// hint is an error with a hint as package settings looks for it.
type hint struct{ what, todo string }

func (h hint) Error() string { return h.what }
func (h hint) Hint() string  { return h.todo }

// hinted carries the hint of a classified error over to package settings.
func hinted(err error) error {
	if err == nil || status.HintOf(err) == "" {
		return err
	}
	return hint{err.Error(), status.HintOf(err)}
}

var serverVersion = regexp.MustCompile(`^(?i:(redis|valkey) )?[0-9]+(\.[0-9]+){1,2}$`)

var ordinal = regexp.MustCompile(`-[0-9]+$`)

// withoutOrdinal turns redis-0 into redis: the pods of a StatefulSet are one
// instance.
func withoutOrdinal(pod string) string { return ordinal.ReplaceAllString(pod, "") }

func newLogger(e *env, l settings.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		level = slog.LevelInfo // package settings allows only names that slog knows
	}
	opt := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(e.stderr, opt))
	}
	return slog.New(slog.NewTextHandler(e.stderr, opt))
}

// errNoServer is why a command can do nothing when redis.addr is empty.
func (l *loaded) errNoServer() error {
	if l.Redis.Addr != "" {
		return nil
	}
	return settings.Problems{{Name: "redis.addr", What: "is empty: there is no server to ask", Hint: "for example --redis.addr=redis://127.0.0.1:6379"}}
}

// clientNamed returns a client of the server beside this agent.
func (l *loaded) clientNamed(name string) *redis.Client {
	return redis.New(l.redisOptions(name))
}

func (l *loaded) redisOptions(name string) redis.Options {
	o, user, password := l.optionsFor(l.Redis.Addr, name)
	if c := l.Redis.ConfigCommand; c != "" && c != "-" {
		o.Rename = map[string]string{"CONFIG": c}
	}
	if l.Redis.User != "" {
		user = l.Redis.User
	}
	switch {
	case l.Redis.Password != "":
		o.Credentials = func() (string, string, error) { return user, l.Redis.Password.Reveal(), nil }
	case l.Redis.PasswordFile != "":
		o.Credentials = fromFile(l.Redis.PasswordFile, l.Redis.Addr, user)
	case user != "" || password != "":
		o.Credentials = func() (string, string, error) { return user, password, nil }
	}
	return o
}

// optionsFor are the options of any server, without credentials: those that its
// address holds are returned besides.
func (l *loaded) optionsFor(addr, name string) (o redis.Options, user, password string) {
	a, err := redis.ParseAddress(addr)
	if err != nil {
		panic("the address was checked: " + err.Error())
	}
	o = redis.Options{Network: a.Network, Addr: a.Addr, Timeout: l.Redis.Timeout, Name: name}
	if a.TLS {
		t := l.Redis.TLS
		files := redis.TLSFiles{CA: t.CAFile, Cert: t.CertFile, Key: t.KeyFile, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify}
		o.TLS = func() (*tls.Config, error) { return files.Config() }
	}
	return o, a.User, a.Password
}

// fromFile reads the password of a user at every new connection.
func fromFile(path, addr, user string) func() (string, string, error) {
	return func() (string, string, error) {
		password, err := redis.PasswordFromFile(path, addr, user)
		if err != nil {
			return "", "", redis.CredentialsError(err)
		}
		return user, password, nil
	}
}

// openStore opens the snapshot store; it does not connect.
func (l *loaded) openStore(ctx context.Context, e *env) (store.Store, error) {
	if l.Backup.Store == "" {
		return nil, settings.Problems{{Name: "backup.store", What: "is not set",
			Hint: "for example --backup.store=s3://bucket/prefix or file:///backups"}}
	}
	return store.Open(ctx, l.Backup.Store, store.Options{Getenv: e.getenv, Version: buildVersion().version})
}

func (l *loaded) openCatalogue(ctx context.Context, e *env) (*backup.Catalogue, error) {
	st, err := l.openStore(ctx, e)
	if err != nil {
		return nil, err
	}
	c, err := backup.NewCatalogue(st, l.Backup.Instance)
	if err != nil {
		return nil, err
	}
	if file := l.Backup.Encryption.IdentityFile; file != "" {
		if w := backup.IdentityFileWarning(file); w != "" {
			l.log.Warn("a secret is not kept secret", "setting", "backup.encryption.identity-file", "why", w)
		}
		c = c.WithIdentityFile(file)
	}
	return c, nil
}

func (e *env) getenv(name string) string {
	for _, kv := range slices.Backward(e.environ) {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}
