package testenv

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// FaultKind is what a Proxy does to its connections.
type FaultKind int

// The kinds of fault.
const (
	Pass   FaultKind = iota // forward
	Cut                     // reset every connection, refuse to talk on new ones
	Hang                    // accept and keep connections, but let no byte pass
	Answer                  // answer every HTTP request with Fault.Status, the server is not asked
)

// Fault is the trouble a Proxy makes.
type Fault struct {
	Kind FaultKind

	// The fault begins once this many bytes have passed since Set, over all
	// connections: AfterUpload counts what clients send, AfterDownload what the
	// server sends. With both zero it begins at once.
	AfterUpload   int64
	AfterDownload int64

	// Once ends the fault when it has struck one connection (Cut) or one
	// request (Answer).
	Once bool

	// Delay holds every chunk that is forwarded, in either direction.
	Delay time.Duration

	// Status and Body are the answer of kind Answer. S3 clients take the error
	// code from an XML body, see S3Error.
	Status int
	Body   string
}

// S3Error returns the body with which an S3 server reports an error code such as
// AccessDenied.
func S3Error(code, message string) string {
	return `<?xml version="1.0" encoding="UTF-8"?>` + "\n<Error><Code>" + code + "</Code><Message>" + message + "</Message></Error>"
}

// Proxy is a TCP proxy that can be told to misbehave.
type Proxy struct {
	Addr string // 127.0.0.1:port

	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu       sync.Mutex
	fault    Fault
	up, down int64         // bytes that passed since Set
	changed  chan struct{} // closed, and replaced, by Set; closed by Close
	conns    map[net.Conn]struct{}
	closed   bool
}

// StartProxy listens on a free port of 127.0.0.1 and forwards to target
// (host:port). It is closed when the test ends.
func StartProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("start proxy: %v", err)
	}
	p := &Proxy{
		Addr:     l.Addr().String(),
		target:   target,
		listener: l,
		changed:  make(chan struct{}),
		conns:    map[net.Conn]struct{}{},
	}
	p.wg.Go(p.accept)
	tb.Cleanup(p.Close)
	return p
}

// URL returns http:// and the proxy's address.
func (p *Proxy) URL() string { return "http://" + p.Addr }

// Set replaces the fault and starts counting bytes anew. Connections that hung
// go on when the new fault lets them. Set(Fault{}) mends everything.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.fault, p.up, p.down = f, 0, 0
	close(p.changed)
	p.changed = make(chan struct{})
	if p.activeLocked() && (f.Kind == Cut || f.Kind == Answer) {
		p.strikeLocked()
	}
}

// Passed returns the bytes forwarded since Set: sent by clients and by the server.
func (p *Proxy) Passed() (up, down int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up, p.down
}

// Close stops listening, resets all connections and waits for their end.
func (p *Proxy) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.changed)
		p.resetLocked()
	}
	p.mu.Unlock()
	_ = p.listener.Close() // closed twice at worst
	p.wg.Wait()
}

// activeLocked tells whether the fault has begun.
func (p *Proxy) activeLocked() bool {
	f := p.fault
	if f.Kind == Pass {
		return false
	}
	if f.AfterUpload == 0 && f.AfterDownload == 0 {
		return true
	}
	return f.AfterUpload > 0 && p.up >= f.AfterUpload || f.AfterDownload > 0 && p.down >= f.AfterDownload
}

// strikeLocked resets the connections at the begin of a fault of kind Cut or Answer.
func (p *Proxy) strikeLocked() {
	struck := len(p.conns) > 0
	p.resetLocked()
	if p.fault.Once && p.fault.Kind == Cut && struck {
		p.fault = Fault{Delay: p.fault.Delay}
	}
}

func (p *Proxy) resetLocked() {
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // RST, as from a host that died
		}
		_ = c.Close()
	}
	clear(p.conns)
}

// track adds a connection; it returns false when the proxy is closed.
func (p *Proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	if !p.track(client) {
		return
	}
	defer p.drop(client)

	p.mu.Lock()
	fault, active := p.fault, p.activeLocked()
	if active && fault.Kind == Cut {
		p.strikeLocked()
	}
	p.mu.Unlock()
	switch {
	case active && fault.Kind == Cut:
		return
	case active && fault.Kind == Answer:
		p.answer(client)
		return
	}

	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.track(server) {
		return
	}
	defer p.drop(server)

	var directions sync.WaitGroup
	directions.Go(func() { p.forward(server, client, &p.up); p.drop(client); p.drop(server) })
	p.forward(client, server, &p.down)
	p.drop(client)
	p.drop(server)
	directions.Wait()
}

// forward copies until either side ends or a fault strikes. passed is p.up or p.down.
func (p *Proxy) forward(dst, src net.Conn, passed *int64) {
	buf := make([]byte, 16<<10)
	for {
		n, err := src.Read(buf)
		for rest := buf[:n]; len(rest) > 0; {
			allowed, ok := p.admit(len(rest), passed)
			if !ok {
				return
			}
			if _, err := dst.Write(rest[:allowed]); err != nil {
				return
			}
			rest = rest[allowed:]
		}
		if err != nil {
			return
		}
	}
}

// admit says how many of n bytes may pass now, at least one, and counts them. It
// blocks while the proxy hangs; ok is false when the connection is to end.
func (p *Proxy) admit(n int, passed *int64) (allowed int, ok bool) {
	if !p.delay() {
		return 0, false
	}
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return 0, false
		}
		if !p.activeLocked() {
			limit := p.fault.AfterUpload
			if passed == &p.down {
				limit = p.fault.AfterDownload
			}
			allowed = n
			if p.fault.Kind != Pass && limit > 0 {
				allowed = int(min(int64(n), limit-*passed))
			}
			*passed += int64(allowed)
			p.mu.Unlock()
			return allowed, true
		}
		if p.fault.Kind != Hang {
			p.strikeLocked()
			p.mu.Unlock()
			return 0, false
		}
		changed := p.changed
		p.mu.Unlock()
		<-changed
	}
}

// delay waits for the fault's Delay; it returns false when the proxy was closed.
func (p *Proxy) delay() bool {
	p.mu.Lock()
	d, changed, closed := p.fault.Delay, p.changed, p.closed
	p.mu.Unlock()
	if closed || d <= 0 {
		return !closed
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	}
	return true
}

// answer answers one HTTP request by itself and ends the connection.
func (p *Proxy) answer(client net.Conn) {
	req, err := http.ReadRequest(bufio.NewReader(client))
	if err != nil {
		return
	}
	p.mu.Lock()
	fault := p.fault
	if fault.Kind == Answer && fault.Once {
		p.fault = Fault{Delay: fault.Delay}
	}
	p.mu.Unlock()
	if fault.Kind != Answer {
		return // mended meanwhile: the client asks again on a new connection
	}
	// A client that waits for "100 Continue" gets the answer instead.
	if !strings.EqualFold(req.Header.Get("Expect"), "100-continue") {
		_, _ = io.Copy(io.Discard, req.Body)
	}
	body := fault.Body
	if req.Method == http.MethodHead {
		body = ""
	}
	_, _ = fmt.Fprintf(client, "HTTP/1.1 %d %s\r\nContent-Type: application/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		fault.Status, http.StatusText(fault.Status), len(body), body)
}
