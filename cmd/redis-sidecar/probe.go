package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/probe"
	"github.com/redis-sidecar/redis-sidecar/internal/web"
)

func probeCommand() *command {
	var base string
	var timeout time.Duration
	return &command{
		name: "probe", args: "startup|liveness|readiness", summary: "Ask for a verdict on redis-server, as an exec probe.",
		text: "Asks the running agent, so that the verdict is the one of /startupz, /livez and /readyz. When no agent answers, it looks\n" +
			"at the server once by itself; liveness then fails only when nothing listens there.",
		flags: "  --url URL\n        Where the agent listens. The default follows from web.listen-address, on loopback.\n" +
			"  --timeout DURATION\n        For the whole probe, 2s by default. Keep it below the probe's timeoutSeconds.\n",
		exits:    "  0  yes\n  1  no; the reason is on standard output\n  2  a setting or the command line is wrong\n",
		sections: []string{"redis", "web", "probe", "log"},
		run: func(ctx context.Context, e *env, args []string) error {
			l, err := load(e, args, func(fs *flag.FlagSet) {
				fs.StringVar(&base, "url", "", "")
				fs.DurationVar(&timeout, "timeout", 2*time.Second, "")
			})
			if err != nil {
				return err
			}
			name, err := oneArgument(l.rest, "startup, liveness or readiness")
			if err != nil {
				return err
			}
			kind := probe.Kind(name)
			if !slices.Contains(probe.Kinds(), kind) {
				return withCode(exitUsage, fmt.Errorf("unknown probe %q: startup, liveness or readiness", name))
			}
			var socket string
			if base == "" {
				base, socket = l.loopbackURL()
			}
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			v, err := ask(ctx, l, base, socket, kind, timeout)
			if err != nil {
				return err
			}
			fmt.Fprintln(e.stdout, v.Line(kind))
			if !v.OK {
				return errors.New(name + ": no")
			}
			return nil
		},
	}
}

// ask asks the agent, and without one the server, in half of the time each.
func ask(ctx context.Context, l *loaded, base, socket string, kind probe.Kind, timeout time.Duration) (probe.Verdict, error) {
	half, cancel := context.WithTimeout(ctx, timeout/2)
	defer cancel()
	// The certificate is one for clients from outside, not for loopback, and a
	// verdict is no secret.
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // see above
	if socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}
	}
	if v, err := probe.Ask(half, &http.Client{Transport: transport}, base, kind); err == nil {
		return v, nil
	}
	if err := l.errNoServer(); err != nil {
		return probe.Verdict{}, err
	}
	client := l.clientNamed("")
	defer client.Close()
	return probe.Once(ctx, client, l.probePolicy()).Of(kind), nil
}

func (l *loaded) probePolicy() probe.Policy {
	p := probe.DefaultPolicy()
	p.DeadAfter, p.LoadingStuck = l.Probe.LivenessTimeout, l.Probe.LoadingTimeout
	p.MaxLag, p.AllowStale, p.UnreadyOnMisconf = l.Probe.MaxLag, l.Probe.AllowStale, l.Probe.UnreadyOnMisconf
	return p
}

// loopbackURL is where a process of the same pod reaches the agent, and the
// socket to dial when it listens on none but sockets.
func (l *loaded) loopbackURL() (base, socket string) {
	scheme := "http"
	if l.Web.ConfigFile != "" && web.UsesTLS(l.Web.ConfigFile) || l.Web.ConfigFile == "" && webDirect(l.Settings).UsesTLS() {
		scheme = "https"
	}
	for _, addr := range l.Web.ListenAddress {
		if path, ok := strings.CutPrefix(addr, "unix://"); ok {
			socket = cmp.Or(socket, path)
			continue
		}
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			host, port = "", "9121"
		}
		if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
			host = "127.0.0.1"
		}
		return scheme + "://" + net.JoinHostPort(host, port), ""
	}
	return scheme + "://localhost", socket
}
