package testenv

import (
	"context"
	"net"
	"sync"
	"testing"
)

// Listen serves every connection to a port of 127.0.0.1 by a function, which may
// misbehave as it likes, and returns the address. When the test ends, ctx does,
// and connections are closed under the function; they are closed when it returns.
func Listen(tb testing.TB, serve func(ctx context.Context, c net.Conn)) (addr string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { _ = c.Close() })()
				serve(ctx, c)
			})
		}
	})
	tb.Cleanup(func() { _ = l.Close(); stop(); serving.Wait() })
	return l.Addr().String()
}
