// Package redis is everything that is said to redis-server. It is the only
// importer of go-redis, and it gives every error a status.Reason.
package redis

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
)

// Options say how to reach a server.
type Options struct {
	// Network is tcp (the default) or unix.
	Network string
	// Addr is host:port, or the path of a unix socket.
	Addr string
	// Credentials is asked at every new connection, so that a password that
	// rotates is picked up. Nil means no password. An empty user is the default
	// user.
	Credentials func() (user, password string, err error)
	// TLS is asked at every new connection. Nil means no TLS.
	TLS func() (*tls.Config, error)
	// Timeout bounds the dial, and each write and read for which the context
	// has no nearer deadline. The default is 5 s.
	Timeout time.Duration
	// Name is set by CLIENT SETNAME, so that CLIENT LIST tells who this is. May
	// be empty.
	Name string
	// Rename maps a command's name, in upper case, to the one that rename-command
	// gave it in this server's redis.conf. May be nil.
	Rename map[string]string
	// Lifetime is after what time the next call makes the connection anew. The
	// default is one hour with TLS, so that a certificate that either side has
	// renewed comes into use and CertificateExpiry tells of it, and 0, for ever,
	// without. Less than 0 is for ever, too.
	Lifetime time.Duration
	// ReplyLimit is how many bytes one command or pipeline may bring back before
	// the connection is closed. The default is 64 MiB.
	ReplyLimit int64
}

// Client is one connection to one server, kept for Options.Lifetime. A call on a
// broken connection dials again, once; nothing is retried after it was sent. Its
// methods may be called from any goroutine; concurrent calls wait for each other.
type Client struct {
	opts   Options // with their defaults
	db     *goredis.Client
	rename map[string]string

	until       atomic.Int64 // Unix time in nanoseconds, of the end of the last call's context; 0 = none
	connectTime atomic.Int64 // nanoseconds, of the last new connection
	expiry      atomic.Int64 // Unix time, of the server's certificate; 0 = none
}

// New returns a client. It does not connect: the first call does.
func New(o Options) *Client {
	silence.Do(func() { goredis.SetLogger(noLog{}) })
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.ReplyLimit == 0 {
		o.ReplyLimit = 64 << 20
	}
	network := o.Network
	if network == "" {
		network = "tcp"
	}
	o.Network = network
	c := &Client{opts: o, rename: o.Rename}
	opt := &goredis.Options{
		Network: network,
		Addr:    o.Addr,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			began := time.Now()
			conn, err := dial(ctx, o, network, addr, c.waitsUntil())
			c.connectTime.Store(int64(time.Since(began)))
			if err != nil {
				// The pool answers with a remembered dial error, and dials behind
				// the caller's back, once a dial failed. A connection that fails at
				// its first use keeps every call's error its own and new.
				return failed{err: err}, nil //nolint:nilerr // see above
			}
			c.expiry.Store(certificateExpiry(conn))
			return conn, nil
		},
		OnConnect: func(ctx context.Context, cn *goredis.Conn) error {
			if o.Name == "" {
				return nil
			}
			// A name is a courtesy: a user without +client|setname works without.
			// Given as ClientName, a refusal would end the connection. One that
			// nobody logged in on is not kept: the next has the password of then.
			if err := cn.ClientSetName(ctx, o.Name).Err(); err != nil && (isConnError(err) || goredis.IsAuthError(err)) {
				return err
			}
			return nil
		},
		// RESP2: one shape of replies for every server version.
		Protocol: 2,
		// CLIENT SETINFO is an unknown command before 7.2 and would count as an
		// error in the server's own statistics.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		// Deadlines come from the caller, failures are reported, not repeated.
		ContextTimeoutEnabled: true,
		MaxRetries:            -1,
		DialerRetries:         1,
		DialTimeout:           o.Timeout,
		ReadTimeout:           o.Timeout,
		WriteTimeout:          o.Timeout,
		PoolTimeout:           o.Timeout,
		// One connection, kept: it survives maxclients and costs one AUTH.
		PoolSize:         1,
		MaxActiveConns:   1,
		PipelinePoolSize: -1,
		ConnMaxIdleTime:  -1,
		ConnMaxLifetime:  o.lifetime(),
		ReadBufferSize:   16 << 10,
		WriteBufferSize:  4 << 10,
	}
	if o.Credentials != nil {
		opt.CredentialsProviderContext = func(context.Context) (string, string, error) { return o.Credentials() }
	}
	c.db = goredis.NewClient(opt)
	return c
}

// lifetime returns Lifetime or its default.
func (o Options) lifetime() time.Duration {
	if o.Lifetime == 0 && o.TLS != nil {
		return time.Hour
	}
	return o.Lifetime
}

// silence switches off go-redis' own log, a global of that package, once: what
// it would print is in the errors that the callers report.
var silence sync.Once //nolint:gochecknoglobals // guards a global of another package

type noLog struct{}

func (noLog) Printf(context.Context, string, ...any) {}

// Close closes the connection.
func (c *Client) Close() error { return c.db.Close() }

// ConnectTime returns how long the last new connection took to make, TLS
// included. 0 means that there was none yet.
func (c *Client) ConnectTime() time.Duration { return time.Duration(c.connectTime.Load()) }

// CertificateExpiry returns when the certificate ends that the server showed for
// the last new connection, in whole seconds. Without TLS it is the zero time.
func (c *Client) CertificateExpiry() time.Time {
	if at := c.expiry.Load(); at != 0 {
		return time.Unix(at, 0)
	}
	return time.Time{}
}

// Do sends one command and returns its reply: a string, an int64, nil or a
// []any of these. An error reply is an error for which IsReply is true.
func (c *Client) Do(ctx context.Context, args ...string) (any, error) {
	replies, err := c.Pipeline(ctx, args)
	if err != nil {
		return nil, err
	}
	if err, failed := replies[0].(error); failed {
		return nil, err
	}
	return replies[0], nil
}

// Pipeline sends all commands in one write and returns their replies in order,
// as Do does; an element is an error for a command that the server answered
// with one. The second result is not nil only when the connection failed; then
// there are no replies.
func (c *Client) Pipeline(ctx context.Context, cmds ...[]string) ([]any, error) {
	c.waits(ctx)
	pipe := c.db.Pipeline()
	// Raw: package goredis makes an object of every number and string in a reply.
	out := make([]*goredis.RawCmd, len(cmds))
	for i, args := range cmds {
		out[i] = goredis.NewRawCmd(ctx, c.words(args)...)
		_ = pipe.Process(ctx, out[i])
	}
	_, failed := pipe.Exec(ctx)
	replies := make([]any, len(cmds))
	if failed != nil && !slices.ContainsFunc(out, func(c *goredis.RawCmd) bool { return c.Err() != nil }) {
		// Nothing was sent: the handshake of a new connection was refused.
		err := classify(cmds[0], failed)
		if !IsReply(err) {
			return nil, err
		}
		for i, args := range cmds {
			replies[i] = classify(args, failed)
		}
		return replies, nil
	}
	for i, cmd := range out {
		raw, err := cmd.Result()
		if err != nil {
			return nil, classify(cmds[i], err)
		}
		v, err := decode(raw)
		if err != nil {
			return nil, classify(cmds[i], err)
		}
		if e, ok := v.(*replyError); ok {
			v = classifyReply(cmds[i], e.text)
		}
		replies[i] = v
	}
	return replies, nil
}

// waits notes until when a call waits, for the dial that it may cause. Of calls
// that wait for each other the last one counts; only the time of a look depends
// on it, see hello.
func (c *Client) waits(ctx context.Context) {
	at := int64(0)
	if deadline, ok := ctx.Deadline(); ok {
		at = deadline.UnixNano()
	}
	c.until.Store(at)
}

// waitsUntil returns what waits noted; zero means for ever.
func (c *Client) waitsUntil() time.Time {
	if at := c.until.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// Info sends INFO with the given sections and parses the reply. Several
// sections in one command need Redis 7.0; none means the default ones.
func (c *Client) Info(ctx context.Context, sections ...string) (info.Info, error) {
	v, err := c.Do(ctx, append([]string{"INFO"}, sections...)...)
	if err != nil {
		return info.Info{}, err
	}
	text, ok := v.(string)
	if !ok {
		return info.Info{}, unexpected("INFO", v)
	}
	return info.Parse(text), nil
}

// ConfigGet returns the parameters that match any of the patterns. Several
// patterns in one command need Redis 7.0.
func (c *Client) ConfigGet(ctx context.Context, patterns ...string) (map[string]string, error) {
	v, err := c.Do(ctx, append([]string{"CONFIG", "GET"}, patterns...)...)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok || len(list)%2 != 0 {
		return nil, unexpected("CONFIG GET", v)
	}
	out := make(map[string]string, len(list)/2)
	for i := 0; i < len(list); i += 2 {
		name, ok1 := list[i].(string)
		value, ok2 := list[i+1].(string)
		if !ok1 || !ok2 {
			return nil, unexpected("CONFIG GET", v)
		}
		out[name] = value
	}
	return out, nil
}

// ConfigSet sets parameters, given as name, value, name, value … in one command.
// From Redis 7.0 on that is all or nothing; before, only one pair is accepted.
func (c *Client) ConfigSet(ctx context.Context, pairs ...string) error {
	_, err := c.Do(ctx, append([]string{"CONFIG", "SET"}, pairs...)...)
	return err
}

// words returns the command as it is sent.
func (c *Client) words(args []string) []any {
	out := make([]any, len(args))
	for i, a := range args {
		out[i] = a
	}
	if len(args) > 0 {
		if name, ok := c.rename[args[0]]; ok {
			out[0] = name
		}
	}
	return out
}
