package testenv

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// echo starts a server that answers what it was sent, and a proxy before it.
// asked counts the requests that the server has read whole.
func echo(t *testing.T) (p *HTTPProxy, post func(path, body string) (string, error), asked func() int) {
	t.Helper()
	n := make(chan int, 1)
	n <- 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		n <- <-n + 1
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body)
	}))
	t.Cleanup(srv.Close)
	p = StartHTTPProxy(t, srv.Listener.Addr().String())
	transport := &http.Transport{ExpectContinueTimeout: 10 * time.Second, DisableKeepAlives: true} // net/http repeats a request whose kept connection is cut
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	return p, func(path, body string) (string, error) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL()+path, struct{ io.Reader }{strings.NewReader(body)})
			if err != nil {
				return "", err
			}
			req.ContentLength = int64(len(body))
			req.Header.Set("Expect", "100-continue")
			resp, err := client.Do(req)
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if resp.StatusCode != http.StatusOK {
				return fmt.Sprint(resp.StatusCode, " ", string(got)), err
			}
			return string(got), err
		}, func() int {
			v := <-n
			n <- v
			return v
		}
}

func TestHTTPProxyRules(t *testing.T) {
	const body = "0123456789"
	for _, test := range []struct {
		name string
		rule Rule
		want string // "" is an error
		// How often the server was asked.
		asked int
	}{
		{"none", Rule{Path: "/other", Kind: Cut}, body, 1},
		{"another method", Rule{Method: http.MethodGet, Kind: Cut}, body, 1},
		{"another query", Rule{Query: "uploads", Kind: Cut}, body, 1},
		{"answered", Rule{Path: "/key", Query: "id=7", Kind: Answer, Status: 503, Body: "SlowDown"}, "503 SlowDown", 0},
		{"answered at the half", Rule{At: InUpload, Kind: Answer, Status: 500}, "500 ", 1},
		{"answer replaced", Rule{At: AtAnswer, Kind: Answer, Status: 500, Body: "x"}, "500 x", 1},
		{"cut before", Rule{Kind: Cut}, "", 0},
		{"cut in the upload", Rule{At: InUpload, Kind: Cut}, "", 0},
		{"cut at the answer", Rule{At: AtAnswer, Kind: Cut}, "", 1},
		{"cut in the download", Rule{At: InDownload, Kind: Cut}, "", 1},
		{"upload truncated", Rule{At: InUpload, Kind: Truncate}, "01234", 1},
		{"download truncated", Rule{At: InDownload, Kind: Truncate}, "01234", 1},
		{"upload altered", Rule{At: InUpload, Kind: Alter}, "0123446789", 1},
		{"download altered", Rule{At: InDownload, Kind: Alter}, "0123446789", 1},
		{"late", Rule{At: AtAnswer, Delay: time.Millisecond}, body, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, post, asked := echo(t)
			done := 0
			test.rule.Do = func() { done++ }
			p.Set(test.rule)
			got, err := post("/a/key?id=7", body)
			if got != test.want && (test.want != "" || err == nil) || err != nil && test.want != "" {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
			if n := asked(); n != test.asked {
				t.Errorf("the server was asked %d times, want %d", n, test.asked)
			}
			if p.Struck() != done || (done == 0) != (test.rule.Path == "/other" || test.rule.Method != "" || test.rule.Query == "uploads") {
				t.Errorf("struck %d, done %d", p.Struck(), done)
			}
			if got := p.Requests(); len(got) != 1 || got[0] != "POST /a/key?id=7" {
				t.Errorf("requests: %q", got)
			}
			p.Set()
			if got, err := post("/", body); err != nil || got != body {
				t.Errorf("after Set(): %q, %v", got, err)
			}
		})
	}
}

func TestHTTPProxyCounts(t *testing.T) {
	p, post, _ := echo(t)
	p.Set(Rule{Path: "a", Skip: 1, Times: 2, Kind: Answer, Status: 500}, Rule{Kind: Answer, Status: 404})
	var got []string
	for _, path := range []string{"/a", "/a", "/b", "/a", "/a", "/b"} {
		answer, err := post(path, "ok")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.TrimSpace(answer))
	}
	if want := "[ok 500 404 500 ok 404]"; fmt.Sprint(got) != want || p.Struck() != 4 {
		t.Errorf("got %v, want %s; struck %d", got, want, p.Struck())
	}
}

func TestHTTPProxyHangs(t *testing.T) {
	p, post, _ := echo(t)
	hangs := make(chan struct{})
	p.Set(Rule{At: AtAnswer, Kind: Hang, Do: func() { close(hangs) }})
	done := make(chan error, 1)
	go func() {
		got, err := post("/", "x")
		if err == nil && got != "x" {
			err = fmt.Errorf("got %q", got)
		}
		done <- err
	}()
	<-hangs
	select {
	case err := <-done:
		t.Fatalf("no hang: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	p.Set()
	if err := <-done; err != nil {
		t.Errorf("after the hang: %v", err)
	}
}

// A server that answers before it has read all, and closes.
func TestHTTPProxyEarlyAnswer(t *testing.T) {
	addr := Listen(t, func(_ context.Context, c net.Conn) {
		if _, err := c.Read(make([]byte, 100)); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		}
	})
	p := StartHTTPProxy(t, addr)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Post(p.URL(), "", bytes.NewReader(make([]byte, 8<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "no" || resp.StatusCode != http.StatusForbidden {
		t.Errorf("%s %q, %v", resp.Status, got, err)
	}
}

// Chunked bodies have no length to take a half of.
func TestHTTPProxyChunked(t *testing.T) {
	p, _, _ := echo(t)
	p.Set(Rule{At: InUpload, Kind: Alter})
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Post(p.URL(), "", struct{ io.Reader }{bytes.NewReader(make([]byte, 100_000))})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || len(got) != 100_000 || bytes.Count(got, []byte{1}) != 1 || got[50_000] != 1 {
		t.Errorf("%d bytes, %d of them altered, %v", len(got), bytes.Count(got, []byte{1}), err)
	}
}
