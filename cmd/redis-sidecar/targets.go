package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/settings"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/web"
)

// Limits of what one reply may bring. A list of 20,000 clients has 8 MB.
const (
	scrapeReplyLimit     = 8 << 20
	backgroundReplyLimit = 32 << 20
)

// exporterClient opens a connection for the exporter of a server.
func (a *agent) exporterClient(o redis.Options, limit int64) *redis.Client {
	o.ReplyLimit = limit
	if !a.l.Exporter.SetClientName {
		o.Name = ""
	}
	c := redis.New(o)
	a.clients = append(a.clients, c)
	return c
}

// backgroundOptions let a reply take as long as a whole turn may: a script, say.
func (l *loaded) backgroundOptions(o redis.Options) redis.Options {
	o.Timeout = max(o.Timeout, l.Exporter.Budget)
	return o
}

// addScrapes adds the metrics of the further targets, each at a path of its own,
// and /scrape. main is the handler of the server's metrics, export its exporter;
// both are nil without a server.
func (a *agent) addScrapes(routes *web.Routes, export *exporter.Exporter, main http.Handler) {
	s := &exporter.Scraper{Own: map[string]http.Handler{}, Canonical: canonical, Rejected: export.Rejected}
	own := map[string]settings.Target{} // by the keys of s.Own
	add := func(t settings.Target, h http.Handler) {
		if t.Name != "" {
			s.Own[t.Name], own[t.Name] = h, t
		}
		for _, address := range bothSchemes(t.Addr) {
			s.Own[address], own[address] = h, t
		}
	}
	if main != nil {
		add(settings.Target{Addr: a.l.Redis.Addr}, main)
	}
	for _, t := range a.l.Exporter.Targets {
		rep := a.board.Register(status.Job(string(status.Exporter)+":"+t.Name), exporter.Reasons()...)
		o := a.l.exporterOptions()
		o.Background = exporter.BackgroundOptions{} // those look at the keys of redis.addr
		o.Files = exporter.FileOptions{}
		h := exporter.NewHandler(exporter.New(a.exporterClient(a.l.targetOptions(t, "redis-sidecar:exporter"), scrapeReplyLimit), rep, o), nil)
		add(t, h)
		routes.Pages[a.targetPath(t)] = h
	}
	if a.l.Exporter.ScrapeOff {
		return
	}
	allowed := map[string]bool{}
	for _, address := range a.l.Exporter.ScrapeAllow {
		if c, err := canonical(address); err == nil && strings.Contains(address, "://") {
			allowed[c] = true
			continue
		}
		for _, c := range bothSchemes(address) {
			allowed[c] = true
		}
	}
	s.Allowed = func(address string) bool { return allowed[address] }
	s.Open = func(r exporter.Request) (exporter.Opened, error) {
		if t, ok := own[r.Target]; ok {
			return a.open(r, a.l.targetOptions(t, ""))
		}
		return a.open(r, a.l.strangerOptions(r))
	}
	routes.Pages["/scrape"] = s
	a.add(s.Run)
}

// targetPath is where the metrics of one of exporter.targets are.
func (a *agent) targetPath(t settings.Target) string {
	return strings.TrimSuffix(a.l.Web.TelemetryPath, "/") + "/" + t.Name
}

// targetStatus is one of exporter.targets in /status.
type targetStatus struct {
	Name    string `json:"name"`
	Address string `json:"address"` // without a password
	Path    string `json:"path"`    // of its metrics
}

func (a *agent) targets() []targetStatus {
	var out []targetStatus
	for _, t := range a.l.Exporter.Targets {
		out = append(out, targetStatus{Name: t.Name, Address: settings.RedactURL(t.Addr), Path: a.targetPath(t)})
	}
	return out
}

// open makes an exporter for /scrape, with connections of its own.
func (a *agent) open(r exporter.Request, conn redis.Options) (exporter.Opened, error) {
	o := a.l.exporterOptions()
	o.Files = exporter.FileOptions{}
	// What is dear runs where the settings say, and here only what the request does.
	b := o.Background
	o.Background = exporter.BackgroundOptions{
		Interval: b.Interval, Budget: b.Budget, ScanRate: b.ScanRate, BatchSize: b.BatchSize, ReplicaOnly: b.ReplicaOnly,
		Keys:    exporter.KeyOptions{HideValues: b.Keys.HideValues},
		Streams: exporter.StreamOptions{NoConsumers: b.Streams.NoConsumers},
	}
	for param, into := range map[string]*[]exporter.Key{
		"check-keys": &o.Background.Keys.Check, "check-single-keys": &o.Background.Keys.Single, "count-keys": &o.Background.Keys.Count,
		"check-streams": &o.Background.Streams.Check, "check-single-streams": &o.Background.Streams.Single,
	} {
		text, ok := r.Checks[param]
		if !ok {
			continue
		}
		keys, err := settings.ParseKeys(text)
		if err != nil {
			if h, ok := errors.AsType[interface {
				error
				Hint() string
			}](err); ok {
				err = fmt.Errorf("%w: %s", err, h.Hint())
			}
			return exporter.Opened{}, fmt.Errorf("%s: %w", param, err)
		}
		*into = exporterKeys(keys)
	}
	if r.TLSServerName != "" && conn.TLS != nil {
		files := conn.TLS
		conn.TLS = func() (*tls.Config, error) {
			cfg, err := files()
			if err != nil {
				return nil, err
			}
			cfg.ServerName = r.TLSServerName
			return cfg, nil
		}
	}
	conn.Name, conn.ReplyLimit = "redis-sidecar:scrape", scrapeReplyLimit
	if !a.l.Exporter.SetClientName {
		conn.Name = ""
	}
	kept := redis.New(conn)
	conn.ReplyLimit = backgroundReplyLimit
	background := redis.New(a.l.backgroundOptions(conn))
	o.Background.Server, o.Background.Gate = background, a.gate
	board := status.NewBoard(a.l.log.With("target", r.Target), nil)
	return exporter.Opened{
		Exporter: exporter.New(kept, board.Register(status.Exporter, exporter.Reasons()...), o),
		Close:    func() { _ = kept.Close(); _ = background.Close() },
	}, nil
}

// targetOptions are for redis.addr, a target without a name, or for one of
// exporter.targets. The latter gets redis.password-file's password only when that
// lists its address.
func (l *loaded) targetOptions(t settings.Target, name string) redis.Options {
	if t.Name == "" {
		return l.redisOptions(name)
	}
	o, user, password := l.optionsFor(t.Addr, name)
	switch {
	case t.PasswordFile != "":
		o.Credentials = fromFile(t.PasswordFile, t.Addr, user)
	case password != "":
		o.Credentials = func() (string, string, error) { return user, password, nil }
	default:
		o.Credentials = l.listed(t.Addr, user)
	}
	return o
}

// strangerOptions are for a server of exporter.scrape-allow.
func (l *loaded) strangerOptions(r exporter.Request) redis.Options {
	o, _, _ := l.optionsFor(r.Target, "")
	o.Credentials = l.listed(r.Target, r.User)
	return o
}

// listed gives a server the password that the map of redis.password-file has for
// it, or none.
func (l *loaded) listed(addr, user string) func() (string, string, error) {
	if l.Redis.PasswordFile == "" {
		if user == "" {
			return nil
		}
		return func() (string, string, error) { return user, "", nil }
	}
	return func() (string, string, error) {
		password, _, err := redis.ListedPassword(l.Redis.PasswordFile, addr, user)
		if err != nil {
			return "", "", redis.CredentialsError(err)
		}
		return user, password, nil
	}
}

// canonical writes an address in one way, without user, password and database.
func canonical(address string) (string, error) {
	a, err := redis.ParseAddress(address)
	if err != nil {
		return "", err
	}
	return scheme(a) + "://" + a.Addr, nil
}

func scheme(a redis.Address) string {
	switch {
	case a.Network == "unix":
		return "unix"
	case a.TLS:
		return "rediss"
	}
	return "redis"
}

// bothSchemes returns the forms of an address with and without TLS: one's own
// server is meant, however it is spelt.
func bothSchemes(address string) []string {
	a, err := redis.ParseAddress(address)
	switch {
	case err != nil:
		return nil
	case a.Network == "unix":
		return []string{"unix://" + a.Addr}
	}
	return []string{"redis://" + a.Addr, "rediss://" + a.Addr}
}

// reload is the handler of /-/reload. Password files are read at every new
// connection, so there is nothing to keep: it says whether they can be.
func (a *agent) reload(w http.ResponseWriter, _ *http.Request) {
	var checks []func() error
	if file, addr := a.l.Redis.PasswordFile, a.l.Redis.Addr; file != "" {
		checks = append(checks, func() error {
			if addr == "" || a.l.Redis.Password != "" { // then it is for others only
				_, _, err := redis.ListedPassword(file, "localhost", "")
				return err
			}
			return readable(file, addr, a.l.Redis.User)
		})
	}
	for _, t := range a.l.Exporter.Targets {
		if t.PasswordFile != "" {
			checks = append(checks, func() error { return readable(t.PasswordFile, t.Addr, "") })
		}
	}
	if len(checks) == 0 {
		http.Error(w, "400: there is no password file: redis.password-file is not set", http.StatusBadRequest)
		return
	}
	for _, check := range checks {
		if err := check(); err != nil {
			http.Error(w, "500: the password file cannot be used: "+err.Error(), http.StatusInternalServerError)
			return
		}
	}
	_, _ = w.Write([]byte("ok\n"))
}

// readable tells whether a file has a password for the server at addr. Without a
// user it is that of the address.
func readable(file, addr, user string) error {
	if at, err := redis.ParseAddress(addr); err == nil && user == "" {
		user = at.User
	}
	_, err := redis.PasswordFromFile(file, addr, user)
	return err
}
