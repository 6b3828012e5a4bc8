package main

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis-sidecar/redis-sidecar/test/internal/rig"
)

// delayer is a TCP proxy that makes every round trip longer: it holds the first
// bytes that a client sends after a reply. A pipeline is one round trip.
type delayer struct {
	addr string

	listener net.Listener
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

// startDelayer forwards from a free port of loopback to target, until close or the
// end of ctx.
func startDelayer(ctx context.Context, target string, delay time.Duration) (*delayer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	d := &delayer{addr: l.Addr().String(), listener: l, cancel: cancel}
	d.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			d.wg.Go(func() { forward(ctx, client, target, delay) })
		}
	})
	return d, nil
}

// close ends all connections and waits until they have ended.
func (d *delayer) close() {
	d.cancel()
	d.listener.Close()
	d.wg.Wait()
}

func forward(ctx context.Context, client net.Conn, target string, delay time.Duration) {
	var replies sync.WaitGroup
	defer replies.Wait() // which end when both connections are closed
	defer client.Close()
	var dialer net.Dialer
	server, err := dialer.DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); server.Close() })
	defer stop()

	var turn atomic.Bool // what the client sends next begins a round trip
	turn.Store(true)
	replies.Go(func() {
		defer client.Close()
		_, _ = io.Copy(client, &watched{server, &turn})
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if n > 0 && turn.Swap(false) {
			if rig.Wait(ctx, delay) != nil {
				return
			}
		}
		if n > 0 {
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// watched notes that something was read.
type watched struct {
	io.Reader
	seen *atomic.Bool
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if n > 0 {
		w.seen.Store(true)
	}
	return n, err
}
