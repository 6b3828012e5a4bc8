package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Limits of a connection. A scrape may take long, a request header may not.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 2 * time.Minute
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	keepAlivePeriod   = 30 * time.Second
)

// Options configure a Server.
type Options struct {
	// Addresses are host:port, :port or unix:///path, at least one. Port 0 takes a
	// free one.
	Addresses []string
	// ConfigFile is a file in the format of exporter-toolkit. With "", Direct
	// says what it would.
	ConfigFile string
	// Direct is TLS and a user without a file. The zero value is plain HTTP for
	// everyone.
	Direct Direct
	// BearerPaths check the bearer token of a request themselves: one that has a
	// token needs no password there.
	BearerPaths []string
	// ShutdownTimeout is how long running requests may take to end. The default
	// is 5 s.
	ShutdownTimeout time.Duration
}

// Server serves one handler at several addresses.
type Server struct {
	opt    Options
	log    *slog.Logger
	files  *reloader // nil without a configuration file
	server *http.Server

	listeners []net.Listener
}

// New reads the configuration file. The error lists all that is wrong with it.
func New(o Options, h http.Handler, log *slog.Logger) (*Server, error) {
	if len(o.Addresses) == 0 {
		return nil, errors.New("web: no address to listen on")
	}
	if o.ShutdownTimeout <= 0 {
		o.ShutdownTimeout = 5 * time.Second
	}
	s := &Server{opt: o, log: log.With("job", "web")}
	s.server = &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// A client that fails its handshake is not the operator's business.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	name, load := o.ConfigFile, func() (*state, []stamp, error) { return load(o.ConfigFile) }
	if o.ConfigFile == "" {
		if !o.Direct.UsesTLS() && o.Direct.Username == "" {
			return s, nil
		}
		name, load = "flags", o.Direct.load
	}
	files, err := newReloader(name, load, s.log)
	if err != nil {
		return nil, fmt.Errorf("web configuration: %w", err)
	}
	files.bearer = o.BearerPaths
	s.files = files
	s.server.Handler = files.guard(h)
	if st := files.get(); st.tls != nil {
		s.server.TLSConfig = &tls.Config{
			MinVersion: tls.VersionTLS12, // of the state, see GetConfigForClient
			NextProtos: st.tls.NextProtos,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return files.get().tls, nil
			},
		}
	} else if len(st.users) > 0 {
		s.log.Warn("passwords cross the network in clear: basic authentication without TLS", "file", name)
	}
	return s, nil
}

// Listen takes all addresses, or none, and returns them with the ports that they
// got. What it took, Run gives back.
func (s *Server) Listen(ctx context.Context) ([]string, error) {
	lc := net.ListenConfig{KeepAlive: keepAlivePeriod}
	var got []string
	for _, addr := range s.opt.Addresses {
		l, err := listen(ctx, lc, addr)
		if err != nil {
			for _, l := range s.listeners {
				_ = l.Close()
			}
			s.listeners = nil
			return nil, listenError(addr, err)
		}
		s.listeners = append(s.listeners, l)
		if l.Addr().Network() == "unix" {
			got = append(got, addr)
			continue
		}
		got = append(got, l.Addr().String())
	}
	return got, nil
}

// listen takes one address. A socket that a killed process left is replaced; one
// that somebody answers is not.
func listen(ctx context.Context, lc net.ListenConfig, addr string) (net.Listener, error) {
	path, ok := strings.CutPrefix(addr, "unix://")
	if !ok {
		return lc.Listen(ctx, "tcp", addr)
	}
	l, err := lc.Listen(ctx, "unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	if st, statErr := os.Lstat(path); statErr != nil || st.Mode()&os.ModeSocket == 0 {
		return nil, err
	}
	var d net.Dialer
	c, dialErr := d.DialContext(ctx, "unix", path)
	if dialErr == nil {
		_ = c.Close()
	}
	if !errors.Is(dialErr, syscall.ECONNREFUSED) {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return lc.Listen(ctx, "unix", path)
}

// listenError says which address, why, and what to do about it.
func listenError(addr string, err error) error {
	hint := "web.listen-address is host:port or :port"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "another process listens there (ss -ltnp shows which): end it, or choose another web.listen-address"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "this host does not have the address: choose another web.listen-address, such as :9121"
	case errors.Is(err, os.ErrPermission):
		hint = "ports below 1024 need a privilege, and a socket a directory that may be written: choose another web.listen-address, such as :9121"
	}
	if se, ok := errors.AsType[*os.SyscallError](err); ok {
		err = se.Err // "bind: " adds nothing
	} else if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	return status.WithHint(status.ReasonInternal, hint, fmt.Errorf("listen on %s: %w", addr, err))
}

// Run serves until ctx ends, then lets running requests end, for
// Options.ShutdownTimeout. Listen comes first. The error is not nil when serving
// stopped for another reason.
func (s *Server) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	withTLS := s.server.TLSConfig != nil // asked once: Serve sets one of its own, for HTTP/2
	for _, l := range s.listeners {
		g.Go(func() error {
			var err error
			if withTLS {
				err = s.server.ServeTLS(l, "", "")
			} else {
				err = s.server.Serve(l)
			}
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("serve %s: %w", l.Addr(), err)
		})
	}
	g.Go(func() error {
		<-gctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opt.ShutdownTimeout)
		defer cancel()
		if err := s.server.Shutdown(ctx); err != nil {
			s.log.Warn("requests were cut off", "after", s.opt.ShutdownTimeout)
			return s.server.Close()
		}
		return nil
	})
	return g.Wait()
}

// isPublic tells whether a path answers without a password: the kubelet has
// none, and these tell no more than yes, no and why.
func isPublic(path string) bool {
	switch path {
	case "/startupz", "/livez", "/readyz":
		return true
	}
	return slices.Contains(healthPaths(), path)
}
