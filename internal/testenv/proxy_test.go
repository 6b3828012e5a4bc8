package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// proxied starts a server that answers with 1 MiB, and a proxy before it.
func proxied(t *testing.T) (*Proxy, *http.Client) {
	t.Helper()
	body := bytes.Repeat([]byte("x"), 1<<20)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Received", fmt.Sprint(n))
		_, _ = w.Write(body)
	}))
	t.Cleanup(srv.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return StartProxy(t, srv.Listener.Addr().String()), &http.Client{Transport: transport}
}

func get(c *http.Client, url string) (int, error) {
	resp, err := c.Get(url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	return int(n), err
}

func TestProxyForwards(t *testing.T) {
	p, c := proxied(t)
	if n, err := get(c, p.URL()); err != nil || n != 1<<20 {
		t.Fatalf("got %d bytes, %v", n, err)
	}
	if up, down := p.Passed(); up == 0 || down <= 1<<20 {
		t.Errorf("Passed: got %d, %d", up, down)
	}
}

func TestProxyCuts(t *testing.T) {
	p, c := proxied(t)
	p.Set(Fault{Kind: Cut, AfterDownload: 100_000})
	n, err := get(c, p.URL())
	if err == nil || n > 100_000 {
		t.Errorf("got %d bytes, %v; want at most 100000 and an error", n, err)
	}
	if _, down := p.Passed(); down != 100_000 {
		t.Errorf("%d bytes passed, want exactly 100000", down)
	}
	if _, err := get(c, p.URL()); err == nil {
		t.Error("a new connection works during the fault")
	}
	p.Set(Fault{})
	if _, err := get(c, p.URL()); err != nil {
		t.Errorf("after the fault: %v", err)
	}

	p.Set(Fault{Kind: Cut, AfterUpload: 100_000, Once: true})
	if resp, err := c.Post(p.URL(), "", bytes.NewReader(make([]byte, 1<<20))); err == nil {
		resp.Body.Close()
		t.Error("an upload of 1 MiB got through a proxy that cuts it at 100000")
	}
	if n, err := get(c, p.URL()); err != nil || n != 1<<20 {
		t.Errorf("after one cut: %d bytes, %v", n, err)
	}
}

func TestProxyHangs(t *testing.T) {
	p, _ := proxied(t)
	conn, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p.Set(Fault{Kind: Hang})
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %d bytes, %v; want a hang", n, err)
	}
	p.Set(Fault{})
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 12)
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 200" {
		t.Errorf("after the hang: %q, %v", head, err)
	}
}

func TestProxyAnswers(t *testing.T) {
	p, c := proxied(t)
	p.Set(Fault{Kind: Answer, Status: http.StatusServiceUnavailable, Body: S3Error("SlowDown", "wait"), Once: true})
	resp, err := c.Post(p.URL(), "", bytes.NewReader(make([]byte, 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusServiceUnavailable || err != nil || !strings.Contains(string(body), "<Code>SlowDown</Code>") {
		t.Errorf("got %s, %s, %v", resp.Status, body, err)
	}
	if n, err := get(c, p.URL()); err != nil || n != 1<<20 {
		t.Errorf("after one answer: %d bytes, %v", n, err)
	}
}

func TestProxyDelays(t *testing.T) {
	p, c := proxied(t)
	p.Set(Fault{Delay: 20 * time.Millisecond})
	start := time.Now()
	if _, err := get(c, p.URL()); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 40*time.Millisecond {
		t.Errorf("took %s, want a delay in each direction", d)
	}
}
