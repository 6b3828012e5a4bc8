package redis

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

var (
	errCredentials = errors.New("read credentials")
	errTLSFiles    = errors.New("read TLS files")
	errHandshake   = errors.New("TLS handshake")
)

// CredentialsError marks an error of Options.Credentials as one of reading a file.
func CredentialsError(err error) error { return fmt.Errorf("%w: %w", errCredentials, err) }

// dial connects and, where asked for, shakes hands, within o.Timeout. until is when
// the caller gives up, which ctx does not tell: the pool dials in a context of its
// own. It may be zero.
func dial(ctx context.Context, o Options, network, addr string, until time.Time) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	d := net.Dialer{Timeout: o.Timeout}
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	host := ""
	if network == "tcp" {
		host, _, _ = net.SplitHostPort(addr)
	}
	if o.TLS != nil {
		cfg, err := o.TLS()
		if err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("%w: %w", errTLSFiles, err)
		}
		if cfg.ServerName == "" {
			cfg = cfg.Clone()
			cfg.ServerName = host
		}
		if network == "tcp" {
			c = newHello(ctx, c, until)
		}
		t := tls.Client(c, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("%w: %w", errHandshake, err)
		}
		c = t
	}
	watched := &conn{Conn: c, limit: o.ReplyLimit, guard: guard{limit: o.ReplyLimit}, unlimited: o.ReplyLimit < 0}
	if raw, ok := c.(syscall.Conn); ok {
		watched.lookable, watched.host = network == "tcp", host
		return plain{watched, raw}, nil
	}
	return watched, nil
}

// certificateExpiry returns the Unix time at which the certificate ends that the
// server showed, 0 without TLS.
func certificateExpiry(c net.Conn) int64 {
	watched, _ := c.(*conn)
	if watched == nil {
		return 0
	}
	t, _ := watched.Conn.(*tls.Conn)
	if t == nil {
		return 0
	}
	if chain := t.ConnectionState().PeerCertificates; len(chain) > 0 {
		return chain[0].NotAfter.Unix()
	}
	return 0
}

// conn watches what the server sends. A server beyond maxclients says so
// unasked and hangs up; without a look at the first bytes that would be no more
// than an end of file. A peer that sends without end, or announces what no server
// does, is cut off. One that hangs up at once may be one that speaks TLS only.
type conn struct {
	net.Conn
	limit int64
	got   int64 // bytes since the last write
	begun bool  // something was read
	guard guard
	// unlimited switches both limits off: its user bounds what it reads.
	unlimited bool

	lookable bool      // TCP without TLS: see ended
	host     string    // of the server, as the caller knows it
	until    time.Time // the deadline that was set last; may be zero
}

// SetDeadline, SetReadDeadline and SetWriteDeadline remember what ended has to
// keep to.

func (c *conn) SetDeadline(t time.Time) error {
	c.until = t
	return c.Conn.SetDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.until = t
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.until = t
	return c.Conn.SetWriteDeadline(t)
}

// expire ends reads and writes that go on, and those to come. Unlike the others
// it may be called while they do.
func (c *conn) expire() { _ = c.Conn.SetDeadline(time.Unix(1, 0)) }

// Write sends a request, which opens a new allowance for the reply.
func (c *conn) Write(p []byte) (int, error) {
	c.got = 0
	n, err := c.Conn.Write(p)
	if err != nil && !c.begun {
		if alert := c.alert(); alert != nil {
			return n, alert
		}
		return n, c.ended(err)
	}
	return n, err
}

// alert returns the TLS alert that waits to be read, or nil. With TLS 1.3 the
// client's handshake is over before the server refuses its certificate: the
// server sends the alert and hangs up, and a write may see the end before a read
// sees the reason.
func (c *conn) alert() error {
	if _, ok := c.Conn.(*tls.Conn); !ok {
		return nil
	}
	const patience = 100 * time.Millisecond
	_ = c.SetReadDeadline(time.Now().Add(patience)) // at worst there is no time at all
	var b [1]byte
	_, err := c.Conn.Read(b[:])
	if !isAlert(err) {
		return nil
	}
	return err
}

// Read returns what the server sent.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.begun && n > 0 {
		c.begun = true
		if bytes.HasPrefix(p[:n], []byte("-"+errMaxClients.Error())) {
			return 0, errMaxClients
		}
		if isRecord(p[:n]) {
			return 0, errTLSServer
		}
	}
	if !c.unlimited {
		if c.got += int64(n); c.got > c.limit {
			return 0, errReplyLimit
		}
		if err := c.guard.check(p[:n]); err != nil {
			return 0, err
		}
	}
	if err != nil && !c.begun {
		return n, c.ended(err)
	}
	return n, err
}

// plain is a conn without TLS. It lets go-redis look, before it uses a kept
// connection, whether the server has closed it meanwhile. Below TLS that look
// would see, and could swallow, records that are not replies.
type plain struct {
	*conn
	syscall.Conn
}

// failed stands for a connection that could not be made: each use returns why. One
// whose caller left before it failed is kept by the pool for the next; SyscallConn
// is where go-redis then looks, as with plain, and finds it broken.
type failed struct{ err error }

func (f failed) SyscallConn() (syscall.RawConn, error) { return nil, f.err }

func (f failed) Read([]byte) (int, error)         { return 0, f.err }
func (f failed) Write([]byte) (int, error)        { return 0, f.err }
func (f failed) Close() error                     { return nil }
func (f failed) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (f failed) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (f failed) SetDeadline(time.Time) error      { return nil }
func (f failed) SetReadDeadline(time.Time) error  { return nil }
func (f failed) SetWriteDeadline(time.Time) error { return nil }
