package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/settings"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

const (
	redisPort    = "6379"
	sentinelPort = "26379"
)

// peers are whom restore asks before it writes.
func (l *loaded) peers() (backup.PeerOptions, error) {
	o := backup.PeerOptions{
		Master: l.Restore.SentinelMaster, Wait: l.Restore.PeersWait,
		IfData: backup.IfPeers(l.Restore.IfPeers), IfUnclear: backup.IfPeers(l.Restore.IfPeersUnclear),
		Dial: l.dialPeer,
	}
	var problems settings.Problems
	add := func(name string, list []string, sentinel bool) {
		for _, text := range list {
			a, err := l.peerAddress(text, sentinel)
			if err != nil {
				problems = append(problems, settings.Problem{Name: name, What: fmt.Sprintf("%s: %v", text, err), Hint: "for example redis-1.redis-pods:6379"})
				continue
			}
			o.Addresses = append(o.Addresses, a)
		}
	}
	add("restore.peers", l.Restore.Peers, false)
	add("restore.sentinels", l.Restore.Sentinels, true)
	if len(problems) > 0 {
		return o, problems
	}
	own, port := l.ownAddresses()
	o.Own = func(ip netip.Addr, p string) bool { return own[ip.Unmap()] && p == port }
	return o, nil
}

// peerAddress reads one item of restore.peers or restore.sentinels.
func (l *loaded) peerAddress(text string, sentinel bool) (backup.PeerAddress, error) {
	a, err := redis.ParseAddress(text)
	if err != nil {
		return backup.PeerAddress{}, err
	}
	if a.Network != "tcp" {
		return backup.PeerAddress{}, fmt.Errorf("a %s socket is no address of another server", a.Network)
	}
	host, port, err := net.SplitHostPort(a.Addr)
	if err != nil {
		return backup.PeerAddress{}, err
	}
	if sentinel && port == redisPort && !strings.Contains(text, ":"+redisPort) {
		port = sentinelPort
	}
	if !strings.Contains(text, "://") {
		main, err := redis.ParseAddress(l.Redis.Addr)
		a.TLS = err == nil && main.TLS
	}
	return backup.PeerAddress{Host: host, Port: port, TLS: a.TLS, Sentinel: sentinel}, nil
}

// ownAddresses are those of this pod, and the port of its server. Loopback is
// none: nobody else would give it as this pod's.
func (l *loaded) ownAddresses() (own map[netip.Addr]bool, port string) {
	own, port = map[netip.Addr]bool{}, redisPort
	if ip, err := netip.ParseAddr(l.Pod.IP); err == nil {
		own[ip.Unmap()] = true
	}
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		l.log.Debug("own addresses", "error", err)
	}
	for _, a := range interfaces {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
			own[p.Addr().Unmap()] = true
		}
	}
	if a, err := redis.ParseAddress(l.Redis.Addr); err == nil && a.Network == "tcp" {
		if _, p, err := net.SplitHostPort(a.Addr); err == nil {
			port = p
		}
	}
	return own, port
}

// dialPeer returns a connection to one address of a peer.
func (l *loaded) dialPeer(peer backup.PeerAddress, ip string) backup.PeerConn {
	o := redis.Options{Addr: net.JoinHostPort(ip, peer.Port), Timeout: l.Redis.Timeout}
	scheme := "redis"
	if peer.TLS {
		scheme = "rediss"
		t := l.Redis.TLS
		files := redis.TLSFiles{CA: t.CAFile, Cert: t.CertFile, Key: t.KeyFile, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify}
		if files.ServerName == "" {
			files.ServerName = peer.Host // a certificate seldom names the address of the day
		}
		o.TLS = func() (*tls.Config, error) { return files.Config() }
	}
	stranger := o
	o.Credentials = l.peerCredentials(scheme + "://" + net.JoinHostPort(peer.Host, peer.Port))
	c := &peerConn{Client: redis.New(o)}
	if o.Credentials != nil {
		c.stranger = redis.New(stranger)
	}
	return c
}

// peerCredentials are those of redis.addr, unless the map of redis.password-file
// has others for the peer.
func (l *loaded) peerCredentials(addr string) func() (string, string, error) {
	file, user := l.Redis.PasswordFile, l.Redis.User
	var main func() (string, string, error)
	switch {
	case l.Redis.Addr != "":
		main = l.redisOptions("").Credentials
	case l.Redis.Password != "":
		main = func() (string, string, error) { return user, l.Redis.Password.Reveal(), nil } //nolint:unparam // the type of Options.Credentials
	case file != "":
		main = fromFile(file, addr, user)
	}
	if main == nil || l.Redis.Password != "" || file == "" {
		return main
	}
	return func() (string, string, error) {
		password, found, err := redis.ListedPassword(file, addr, user)
		switch {
		case err != nil:
			return "", "", redis.CredentialsError(err)
		case found:
			return user, password, nil
		}
		return main()
	}
}

// peerConn asks once more without the password when a server does not take it: a
// Sentinel has often none.
type peerConn struct {
	*redis.Client
	stranger *redis.Client // nil: there is no password anyway
}

func (c *peerConn) Do(ctx context.Context, args ...string) (any, error) {
	v, err := c.Client.Do(ctx, args...)
	if c.stranger == nil || status.ReasonOf(err) != status.ReasonAuth {
		return v, err
	}
	if again, errAgain := c.stranger.Do(ctx, args...); errAgain == nil {
		return again, nil
	}
	return v, err
}

func (c *peerConn) Close() error {
	if c.stranger != nil {
		_ = c.stranger.Close()
	}
	return c.Client.Close()
}
