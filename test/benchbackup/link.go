package main

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// link stands between the clients and an S3 server and carries so many bytes a
// second in each direction, all connections together, as a network does that is
// slower than loopback. It ends with ctx.
type link struct {
	target   string
	up, down bucketOf
}

// bucketOf spreads bytes over time.
type bucketOf struct {
	rate float64 // bytes a second
	mu   sync.Mutex
	paid time.Time
}

// take waits until n bytes have passed.
func (b *bucketOf) take(n int) {
	b.mu.Lock()
	if now := time.Now(); b.paid.Before(now) {
		b.paid = now
	}
	b.paid = b.paid.Add(time.Duration(float64(n) / b.rate * float64(time.Second)))
	left := time.Until(b.paid)
	b.mu.Unlock()
	if left > time.Millisecond {
		timer := time.NewTimer(left)
		<-timer.C
	}
}

// startLink returns the address to use instead of target.
func startLink(ctx context.Context, target string, mbit float64) (addr string, err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	k := &link{target: target}
	k.up.rate, k.down.rate = mbit*1e6/8, mbit*1e6/8
	context.AfterFunc(ctx, func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go k.serve(ctx, c)
		}
	}()
	return l.Addr().String(), nil
}

func (k *link) serve(ctx context.Context, client net.Conn) {
	var d net.Dialer
	server, err := d.DialContext(ctx, "tcp", k.target)
	if err != nil {
		_ = client.Close()
		return
	}
	var both sync.WaitGroup
	carry := func(to, from net.Conn, b *bucketOf) {
		defer both.Done()
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				b.take(n)
				if _, werr := to.Write(buf[:n]); werr != nil {
					err = werr
				}
			}
			if err != nil {
				if t, ok := to.(*net.TCPConn); ok && err == io.EOF { //nolint:errorlint // an io.Reader returns io.EOF itself
					_ = t.CloseWrite()
				} else {
					_ = to.Close()
				}
				return
			}
		}
	}
	both.Add(2)
	go carry(server, client, &k.up)
	go carry(client, server, &k.down)
	both.Wait()
	_, _ = client.Close(), server.Close()
}
