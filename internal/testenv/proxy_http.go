package testenv

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Moment is when in the course of a request a Rule strikes.
type Moment int

// The moments, in their order.
const (
	AtRequest  Moment = iota // the request's header has come, the server was not asked
	InUpload                 // half of the request's body has passed
	AtAnswer                 // the server has answered, the client does not know
	InDownload               // half of the answer's body has passed
)

// Kinds of fault that only an HTTPProxy makes, besides those of a Proxy.
const (
	Truncate FaultKind = iota + 100 // the body ends at its half, announced as if that were all
	Alter                           // one bit in the middle of the body is another one
)

// Rule is the trouble an HTTPProxy makes of some requests.
type Rule struct {
	// Which requests: those of this method, with these texts in path and query.
	// What is "" fits all.
	Method, Path, Query string
	// Skip is how many of these pass before the first that is struck, Times how
	// many are struck then; 0 is all.
	Skip, Times int

	At Moment
	// Do is called at that moment, before anything else is done; it may be nil.
	Do func()
	// Delay passes next.
	Delay time.Duration
	// Kind is Pass, Cut, Hang, Answer, Truncate or Alter. The last two change the
	// body of the request or of the answer, whichever the moment says; requests
	// without a body are not struck. Answer replies with Status and Body, in place
	// of the server's answer if there is one already.
	Kind   FaultKind
	Status int
	Body   string
}

func (r *Rule) fits(req *http.Request) bool {
	return (r.Method == "" || r.Method == req.Method) && strings.Contains(req.URL.Path, r.Path) && strings.Contains(req.URL.RawQuery, r.Query)
}

// HTTPProxy is a proxy of HTTP/1.1 that can be told to misbehave for requests of
// a kind. Host and all other headers pass unchanged, and so do signatures.
type HTTPProxy struct {
	Addr string // 127.0.0.1:port

	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu       sync.Mutex
	rules    []rule
	requests []string
	struck   int
	changed  chan struct{} // closed, and replaced, by Set; closed by Close
	conns    map[net.Conn]struct{}
	closed   bool
}

type rule struct {
	Rule
	seen int // requests that fit
}

// StartHTTPProxy listens on a free port of 127.0.0.1 and forwards to target
// (host:port). It is closed when the test ends.
func StartHTTPProxy(tb testing.TB, target string) *HTTPProxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("start proxy: %v", err)
	}
	p := &HTTPProxy{Addr: l.Addr().String(), target: target, listener: l, changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	tb.Cleanup(p.Close)
	return p
}

// URL returns http:// and the proxy's address.
func (p *HTTPProxy) URL() string { return "http://" + p.Addr }

// Set replaces the rules and begins to count anew. The first rule that fits a
// request is the one that counts it. Requests that hang go on. Set() mends
// everything.
func (p *HTTPProxy) Set(rules ...Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.rules, p.requests, p.struck = nil, nil, 0
	for _, r := range rules {
		p.rules = append(p.rules, rule{Rule: r})
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// Struck returns how many requests were struck since Set.
func (p *HTTPProxy) Struck() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.struck
}

// Requests returns the requests that came since Set, as "METHOD /path?query".
func (p *HTTPProxy) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// Close stops listening, resets all connections and waits for their end.
func (p *HTTPProxy) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.changed)
		for c := range p.conns {
			reset(c)
		}
	}
	p.mu.Unlock()
	_ = p.listener.Close() // closed twice at worst
	p.wg.Wait()
}

// track notes a connection for Close; untrack ends it.
func (p *HTTPProxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *HTTPProxy) untrack(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // RST, as from a host that died
	}
	_ = c.Close()
}

// take notes a request and returns the rule that strikes it; Kind Pass without Do
// and Delay when none does.
func (p *HTTPProxy) take(req *http.Request) Rule {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, req.Method+" "+req.URL.RequestURI())
	for i := range p.rules {
		r := &p.rules[i]
		if !r.fits(req) || r.At == InUpload && req.ContentLength == 0 {
			continue
		}
		r.seen++
		if n := r.seen - r.Skip; n > 0 && (r.Times == 0 || n <= r.Times) {
			p.struck++
			return r.Rule
		}
		return Rule{}
	}
	return Rule{}
}

// errCut ends a connection by a reset.
var errCut = errors.New("cut")

// serve forwards the requests of one connection, one after the other.
func (p *HTTPProxy) serve(client net.Conn) {
	if !p.track(client) {
		return
	}
	defer p.untrack(client)
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		reset(client)
		return
	}
	if !p.track(server) {
		return
	}
	defer p.untrack(server)
	x := exchange{p: p, client: client, server: server, fromClient: bufio.NewReader(client), fromServer: bufio.NewReader(server)}
	for {
		goOn, err := x.one()
		if errors.Is(err, errCut) {
			reset(client)
			reset(server)
		}
		if err != nil || !goOn {
			return
		}
	}
}

// exchange is one connection of a client.
type exchange struct {
	p                      *HTTPProxy
	client, server         net.Conn
	fromClient, fromServer *bufio.Reader
}

// one serves one request.
func (x *exchange) one() (goOn bool, err error) {
	req, err := http.ReadRequest(x.fromClient)
	if err != nil {
		return false, err
	}
	r := x.p.take(req)
	if r.At == AtRequest {
		if err := x.strike(r); err != nil {
			return false, err
		}
		if r.Kind == Answer {
			// A client that waits for "100 Continue" gets the answer instead.
			if !strings.EqualFold(req.Header.Get("Expect"), "100-continue") {
				_, _ = io.Copy(io.Discard, req.Body)
			}
			return false, x.answer(req, r)
		}
	}
	if strings.EqualFold(req.Header.Get("Expect"), "100-continue") {
		if _, err := io.WriteString(x.client, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return false, err
		}
	}
	if r.At == InUpload {
		body, length, err := x.body(r, req.Body, req.ContentLength)
		if err != nil {
			return false, err
		}
		req.Body, req.ContentLength = body, length
	}
	// Without a User-Agent of the client's, Go would add its own.
	if len(req.Header["User-Agent"]) == 0 {
		req.Header["User-Agent"] = []string{""}
	}
	// A server may answer before it has read all, and then read no more.
	written := make(chan error, 1)
	go func() { written <- req.Write(x.server) }()
	resp, err := x.response(req)
	if err != nil {
		reset(x.server)
		return false, errors.Join(err, <-written, errCut)
	}
	defer resp.Body.Close()
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case err := <-written:
		resp.Close = resp.Close || err != nil
	case <-timer.C:
		resp.Close = true
		defer func() {
			_ = x.server.Close()
			if <-written == nil {
				return // it was only slow
			}
			// A reset would take the answer away from a client that still sends.
			_ = x.client.SetReadDeadline(time.Now().Add(20 * time.Second))
			_, _ = io.Copy(io.Discard, x.fromClient)
		}()
	}
	if r.At == InUpload && r.Kind == Answer {
		return false, x.answer(req, r)
	}
	if r.At == AtAnswer {
		if r.Kind == Answer || r.Kind == Cut {
			_, _ = io.Copy(io.Discard, resp.Body) // the server has done all
		}
		if err := x.strike(r); err != nil {
			return false, err
		}
		if r.Kind == Answer {
			return false, x.answer(req, r)
		}
	}
	if r.At == InDownload && req.Method != http.MethodHead {
		body, length, err := x.body(r, resp.Body, resp.ContentLength)
		if err != nil {
			return false, err
		}
		resp.Body, resp.ContentLength = body, length
		if resp.Header.Get("Content-Length") != "" {
			resp.Header.Set("Content-Length", fmt.Sprint(length))
		}
	}
	if err := resp.Write(x.client); err != nil {
		return false, errors.Join(err, errCut)
	}
	return !req.Close && !resp.Close, nil
}

// response reads the answer, past any "100 Continue".
func (x *exchange) response(req *http.Request) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(x.fromServer, req)
		if err != nil || resp.StatusCode >= 200 {
			return resp, err
		}
	}
}

// strike does what a rule says but for what concerns bodies and answers.
func (x *exchange) strike(r Rule) error {
	if r.Do != nil {
		r.Do()
	}
	x.p.mu.Lock()
	changed := x.p.changed
	x.p.mu.Unlock()
	if r.Delay > 0 {
		timer := time.NewTimer(r.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-changed:
		}
	}
	switch r.Kind {
	case Cut:
		reset(x.client)
		reset(x.server)
		return errCut
	case Hang:
		<-changed
	}
	return nil
}

// body returns a body that is struck at its half, and its length.
func (x *exchange) body(r Rule, body io.ReadCloser, length int64) (io.ReadCloser, int64, error) {
	if length < 0 { // chunked
		all, err := io.ReadAll(body)
		if err != nil {
			return nil, 0, err
		}
		body, length = io.NopCloser(bytes.NewReader(all)), int64(len(all))
	}
	struck := &struckBody{ReadCloser: body, x: x, r: r, left: length / 2}
	if r.Kind == Truncate {
		return struck, length / 2, nil
	}
	return struck, length, nil
}

// struckBody is a body to which a rule happens when left bytes have been read.
type struckBody struct {
	io.ReadCloser
	x    *exchange
	r    Rule
	left int64
	done bool
}

func (b *struckBody) Read(p []byte) (int, error) {
	if b.left > 0 {
		n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		if b.left == 0 && b.r.Kind == Truncate {
			// Whoever has these bytes has all that were announced, and goes on.
			if struck := b.strike(); struck != nil {
				return 0, struck
			}
		}
		return n, err
	}
	alter := b.r.Kind == Alter && !b.done
	if err := b.strike(); err != nil {
		return 0, err
	}
	if b.r.Kind == Truncate {
		// The rest is taken, and goes nowhere.
		_, err := io.Copy(io.Discard, b.ReadCloser)
		if err == nil {
			err = io.EOF
		}
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	if alter && n > 0 {
		p[0] ^= 1
	}
	return n, err
}

// strike is that of the exchange, once.
func (b *struckBody) strike() error {
	if b.done {
		return nil
	}
	b.done = true
	return b.x.strike(b.r)
}

// answer answers in place of the server and ends the connection.
func (x *exchange) answer(req *http.Request, r Rule) error {
	body := r.Body
	if req.Method == http.MethodHead {
		body = ""
	}
	_, err := fmt.Fprintf(x.client, "HTTP/1.1 %d %s\r\nContent-Type: application/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		r.Status, http.StatusText(r.Status), len(body), body)
	return err
}
