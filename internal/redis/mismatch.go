package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// A client with TLS and a server without, or the other way round, get no error
// that says so: the one waits, the other hangs up, like servers that are hung or
// broken. Where it may be that, a second connection is made, once for each that
// failed, to look what the port speaks. It carries no credentials.

var (
	errPlainServer = errors.New("the server answers without TLS")
	errTLSServer   = errors.New("the server answers with TLS only")
)

const (
	// minPatience and maxPatience bound how long a handshake may be silent before
	// the look; in between it is half of the time that there is.
	minPatience = 300 * time.Millisecond
	maxPatience = 2 * time.Second
	// lookTimeout bounds the look itself.
	lookTimeout = time.Second
)

// hello is the connection below TLS. Redis (7.0.15) takes a ClientHello for the
// begin of an inline command and waits for its end: the zero bytes hide any line end
// in it. So when nothing at all comes, hello looks once whether the port answers
// without TLS; if not, it goes on waiting.
type hello struct {
	net.Conn
	due time.Time // of the look; zero: no more look
	end time.Time // of the time that there is for it
}

// newHello returns a connection for a handshake that ends with ctx, which has a
// deadline, and is of use to its caller until then, if that is not zero.
func newHello(ctx context.Context, c net.Conn, until time.Time) *hello {
	now := time.Now()
	end, _ := ctx.Deadline()
	if until.After(now) && until.Before(end) { // a caller whose time is over has left
		end = until
	}
	return &hello{Conn: c, due: now.Add(min(max(end.Sub(now)/2, minPatience), maxPatience)), end: end}
}

// Read returns what the server sent.
func (h *hello) Read(p []byte) (int, error) {
	if h.due.IsZero() {
		return h.Conn.Read(p)
	}
	_ = h.SetReadDeadline(h.due)
	n, err := h.Conn.Read(p)
	_ = h.SetReadDeadline(time.Time{}) // the handshake has none: it is closed when its time is over
	h.due = time.Time{}
	if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	if answersPlain(h.RemoteAddr(), h.end) {
		return 0, errPlainServer
	}
	return h.Conn.Read(p)
}

// ended returns why the server ended a connection on which it said nothing, given
// the error that this was.
func (c *conn) ended(err error) error {
	hungUp := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	if !c.lookable || !hungUp {
		return err
	}
	c.lookable = false
	if answersTLS(c.RemoteAddr(), c.host, c.until) {
		return errTLSServer
	}
	return err
}

// answersPlain tells whether a server answers a command without TLS. The command
// is QUIT: it needs no password and no right, so that it counts in no statistics
// of errors.
func answersPlain(server net.Addr, end time.Time) bool {
	c, err := look(server, end)
	if err != nil {
		return false
	}
	defer c.Close()
	var b [1]byte
	if _, err := io.WriteString(c, "QUIT\r\n"); err != nil {
		return false
	}
	_, err = io.ReadFull(c, b[:])
	return err == nil && (b[0] == '+' || b[0] == '-')
}

// answersTLS tells whether a server answers a ClientHello by any record of TLS: its
// own hello, or an alert. host is its name.
func answersTLS(server net.Addr, host string, end time.Time) bool {
	c, err := look(server, end)
	if err != nil {
		return false
	}
	defer c.Close()
	first := &firstRecord{Conn: c}
	// Nothing is verified because nothing is said: the handshake ends at the
	// server's first bytes.
	_ = tls.Client(first, &tls.Config{InsecureSkipVerify: true, ServerName: host}).HandshakeContext(context.Background()) //nolint:gosec // see above
	return isRecord(first.begin[:])
}

// look makes the second connection. It has a deadline: end, if that is not zero,
// or sooner.
func look(server net.Addr, end time.Time) (net.Conn, error) {
	if latest := time.Now().Add(lookTimeout); end.IsZero() || end.After(latest) {
		end = latest
	}
	d := net.Dialer{Deadline: end}
	c, err := d.DialContext(context.Background(), server.Network(), server.String())
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(end); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// firstRecord keeps how the server's first record begins, and ends the handshake
// there.
type firstRecord struct {
	net.Conn
	begin [2]byte
}

func (f *firstRecord) Read([]byte) (int, error) {
	_, err := io.ReadFull(f.Conn, f.begin[:])
	if err == nil {
		err = io.EOF
	}
	return 0, err
}

// isRecord tells whether bytes begin as the first record of a TLS server does: an
// alert or a handshake message, version 3.x. No reply of Redis does.
func isRecord(p []byte) bool {
	const alert, handshake = 21, 22
	return len(p) >= 2 && (p[0] == alert || p[0] == handshake) && p[1] == 3
}
