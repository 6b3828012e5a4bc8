package redis

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Address is where a server listens, as one of
//
//	redis://[user[:password]@]host[:port][/db]
//	rediss://…                                 the same over TLS
//	valkey://… valkeys://…                     the same two, other names
//	unix:///path/to/socket
//	host[:port]
type Address struct {
	Network  string // tcp or unix
	Addr     string // host:port, or the path of the socket
	TLS      bool
	User     string // from the URL; may be empty
	Password string // from the URL; may be empty
}

// ParseAddress reads an address. The port is 6379 unless given. Errors do not
// repeat a password that stood in the URL.
func ParseAddress(raw string) (Address, error) {
	if raw == "" {
		return Address{}, errors.New("the address is empty")
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		addr, err := hostPort(raw)
		return Address{Network: "tcp", Addr: addr}, err
	}
	switch scheme {
	case "redis", "rediss", "valkey", "valkeys":
	case "unix":
		path, _, _ := strings.Cut(rest, "?")
		if !strings.HasPrefix(path, "/") {
			return Address{}, errors.New("a unix address needs an absolute path: unix:///run/redis.sock")
		}
		return Address{Network: "unix", Addr: path}, nil
	default:
		return Address{}, fmt.Errorf("unknown scheme %q: use redis://, rediss:// or unix://", scheme)
	}
	u, err := url.Parse(raw)
	if err != nil {
		if strings.Contains(rest, "@") { // the error may quote a part of the password
			return Address{}, errors.New("user and password of a URL must be percent-encoded: %40 for @, %2F for /, %25 for %")
		}
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // without the URL, which stands beside it
		}
		return Address{}, err
	}
	addr, err := hostPort(u.Host)
	if err != nil {
		return Address{}, err
	}
	a := Address{Network: "tcp", Addr: addr, TLS: scheme == "rediss" || scheme == "valkeys"}
	if u.User != nil {
		a.User = u.User.Username()
		a.Password, _ = u.User.Password()
	}
	return a, nil
}

// hostPort adds what is missing of host:port.
func hostPort(s string) (string, error) {
	if s == "" {
		return "localhost:6379", nil
	}
	if strings.Contains(s, "@") { // and do not repeat it
		return "", errors.New("user and password need a scheme: redis://user:password@host:port")
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		// No port: a name, an IPv4 address, or a bare or bracketed IPv6 address.
		host, port = strings.Trim(s, "[]"), "6379"
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", fmt.Errorf("%q is not host:port", s)
		}
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	if host == "" {
		host = "localhost"
	}
	return net.JoinHostPort(host, port), nil
}
