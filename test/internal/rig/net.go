package rig

import (
	"context"
	"fmt"
	"net"
	"time"
)

// FreePorts returns ports of loopback that nobody listened on a moment ago.
func FreePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // together, so that no port is given twice
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

// Listens waits until the child listens at addr.
func (c *Child) Listens(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		if c.Ended() {
			return fmt.Errorf("%s ended:\n%s", c.cmd.Path, c.Log())
		}
		if waitErr := Wait(ctx, 50*time.Millisecond); waitErr != nil {
			return fmt.Errorf("%s does not listen: %w\n%s", c.cmd.Path, err, c.Log())
		}
	}
}

// Wait waits for d, or until ctx ends.
func Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
