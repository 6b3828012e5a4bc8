package redis

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// The replication protocol, as far as a snapshot needs it. What was seen of Redis
// 6.2 to 8.0 and Valkey 7.2 to 9:
//
//	REPLCONF capa eof capa psync2   +OK
//	REPLCONF rdb-only 1             +OK: the data set, and no commands after it
//	PSYNC ? -1                      an empty line every second, while it waits:
//	                                repl-diskless-sync-delay, another child
//	                                +FULLRESYNC <replication id> <offset>
//	                                sent just before the fork
//	                                $EOF:<mark of 40 bytes> <the RDB> <mark>
//	                                or $<length> <the RDB>, when
//	                                repl-diskless-sync is no
//
// With rdb-only the server then closes the connection.

const (
	// maxSilence is how long the server may send nothing before the RDB begins. It
	// sends a line end every second unless its main thread is held up.
	maxSilence = time.Minute
	// maxReplicationLine bounds a line before the RDB.
	maxReplicationLine = 1 << 10
	markSize           = 40
)

// Replicate asks for the whole data set, as a replica does, on a connection of its
// own, and returns it as an RDB. began is called when the server forks: what is
// written from then on is not in the RDB. offset is that of the replication
// stream at this moment.
//
// Before that the server waits for repl-diskless-sync-delay and for the end of
// other children, for which ctx is the only bound. The reader returns io.EOF only
// after the mark, or the length, that the server has announced; ctx ends its
// reading, too, with its cause. It must be closed, which any goroutine may do.
//
// port is what the server then shows as the replica's port: see
// docs/backup.md on Sentinel. 0 is not to say any.
func (c *Client) Replicate(ctx context.Context, port int, began func(id string, offset int64)) (io.ReadCloser, error) {
	o := c.opts
	o.ReplyLimit = -1
	conn, err := dial(ctx, o, o.Network, o.Addr, time.Time{})
	if err != nil {
		return nil, classify([]string{"PSYNC"}, err)
	}
	r := &replication{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), rename: c.rename}
	stop := context.AfterFunc(ctx, func() {
		if c, ok := conn.(interface{ expire() }); ok {
			c.expire()
		}
	})
	r.release = func() { stop() }
	r.ended = func() error { return context.Cause(ctx) }
	if err = r.handshake(o, port); err == nil {
		err = r.request(began)
	}
	if err != nil {
		_ = r.Close() // nothing was kept on it
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return r, nil
}

// replication is a connection that gets the data set.
type replication struct {
	conn    net.Conn
	in      *bufio.Reader
	rename  map[string]string
	release func()
	ended   func() error // why the context ended, nil while it has not

	mark []byte // after the RDB; nil when its length is known
	left int64  // bytes to come when there is no mark
	safe int    // bytes in the buffer that are known to be before the mark
	done bool   // the mark was seen
	got  int64  // bytes of the RDB
}

// Close ends the connection. The server then kills the child that serves it only.
func (r *replication) Close() error {
	r.release()
	return r.conn.Close()
}

// handshake makes the connection that of a replica.
func (r *replication) handshake(o Options, port int) error {
	if o.Credentials != nil {
		user, password, err := o.Credentials()
		if err != nil {
			return classify([]string{"AUTH"}, CredentialsError(err))
		}
		switch {
		case user != "":
			_, err = r.call(o.Timeout, "AUTH", user, password)
		case password != "":
			_, err = r.call(o.Timeout, "AUTH", password)
		}
		if err != nil {
			return err
		}
	}
	if o.Name != "" {
		// A courtesy, as in New.
		if _, err := r.call(o.Timeout, "CLIENT", "SETNAME", o.Name); err != nil && (!IsReply(err) || status.ReasonOf(err) == status.ReasonAuth) {
			return err
		}
	}
	if port != 0 {
		if _, err := r.call(o.Timeout, "REPLCONF", "listening-port", strconv.Itoa(port)); err != nil {
			return err
		}
	}
	if _, err := r.call(o.Timeout, "REPLCONF", "capa", "eof", "capa", "psync2"); err != nil {
		return err
	}
	// A server that does not know it keeps the commands since for this replica,
	// up to client-output-buffer-limit, until the connection is closed.
	if _, err := r.call(o.Timeout, "REPLCONF", "rdb-only", "1"); err != nil && (!IsReply(err) || status.ReasonOf(err) != status.ReasonRedis) {
		return err
	}
	return nil
}

// call sends a command whose reply is one line, and returns that.
func (r *replication) call(timeout time.Duration, args ...string) (string, error) {
	if err := r.send(timeout, args); err != nil {
		return "", err
	}
	return r.line(timeout, args)
}

func (r *replication) send(timeout time.Duration, args []string) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for i, a := range args {
		if name, ok := r.rename[a]; ok && i == 0 {
			a = name
		}
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if err := r.deadline(timeout); err != nil {
		return err
	}
	_, err := r.conn.Write(b.Bytes())
	return classify(args, err)
}

// deadline bounds the next read and write, unless the context has ended: then the
// deadline that this has set stands.
func (r *replication) deadline(d time.Duration) error {
	at := time.Time{}
	if d > 0 {
		at = time.Now().Add(d)
	}
	if err := r.conn.SetDeadline(at); err != nil {
		return classify([]string{"PSYNC"}, err)
	}
	return r.ended() // looked at last: what comes after this sets the deadline again
}

// line returns the next line that is not empty, of the reply to args. An error
// reply is an error.
func (r *replication) line(timeout time.Duration, args []string) (string, error) {
	for {
		if err := r.deadline(timeout); err != nil {
			return "", err
		}
		line, err := r.readLine()
		if err != nil {
			return "", classify(args, err)
		}
		switch {
		case line == "": // life, before the reply to PSYNC
			continue
		case line[0] == '-':
			return "", classifyReply(args, line[1:])
		case line[0] != '+' && line[0] != '$':
			return "", status.WithReason(status.ReasonProtocol, fmt.Errorf("%s: unexpected reply %.60q", operation(args), line))
		}
		return line, nil
	}
}

// readLine reads up to a line feed, which is not returned.
func (r *replication) readLine() (string, error) {
	var line []byte
	for len(line) <= maxReplicationLine {
		b, err := r.in.ReadByte()
		if err != nil {
			return "", err
		}
		if b == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		line = append(line, b)
	}
	return "", errReplyLimit
}

// request asks for the data set and reads up to its first byte.
func (r *replication) request(began func(id string, offset int64)) error {
	args := []string{"PSYNC", "?", "-1"}
	line, err := r.call(maxSilence, args...)
	if err != nil {
		return explain(err)
	}
	unexpected := func() error {
		return status.WithReason(status.ReasonProtocol, fmt.Errorf("PSYNC: unexpected reply %.60q", line))
	}
	if _, renamed := r.rename[args[0]]; renamed && line[0] == '$' {
		return status.WithReason(status.ReasonUnknownCmd, errors.New("PSYNC: the server has given it another name, and so takes it for SYNC, which does not tell of what moment the data is"))
	}
	word, rest, _ := strings.Cut(line, " ")
	id, text, _ := strings.Cut(rest, " ")
	offset, err := strconv.ParseInt(text, 10, 64)
	if word != "+FULLRESYNC" || len(id) != 40 || err != nil {
		return unexpected()
	}
	began(id, offset)
	if line, err = r.line(maxSilence, args); err != nil {
		return explain(err)
	}
	if mark, ok := strings.CutPrefix(line, "$EOF:"); ok {
		if len(mark) != markSize {
			return unexpected()
		}
		r.mark = []byte(mark)
	} else {
		text, ok := strings.CutPrefix(line, "$")
		if r.left, err = strconv.ParseInt(text, 10, 64); !ok || err != nil || r.left < 0 {
			return unexpected()
		}
	}
	return r.deadline(0) // the caller decides how long nothing may come
}

// explain gives the error replies to PSYNC the reasons they have, and says what a
// connection that just ends means here.
func explain(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return status.WithHint(status.ReasonOf(err), "most often its child was killed (memory), repl-timeout had passed, or it was itself ended; see the log of redis-server",
			fmt.Errorf("the server cut the stream before any data came: %w", err))
	}
	reply, ok := errors.AsType[*replyError](err)
	if !ok {
		return err
	}
	switch {
	case strings.HasPrefix(reply.text, "NOMASTERLINK"):
		return status.WithHint(status.ReasonMasterDown, "mend the replication first, or take snapshots of the master: backup.role", err)
	case strings.Contains(reply.text, "BGSAVE failed"):
		return status.WithHint(status.ReasonSave, "see the log of redis-server; most often there is not enough memory for a fork: set vm.overcommit_memory=1 or raise the memory limit", err)
	}
	return err
}

// Read returns the RDB.
func (r *replication) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.read(p)
	r.got += int64(n)
	if err == nil || err == io.EOF { //nolint:errorlint // read returns io.EOF itself
		return n, err
	}
	if why := r.ended(); why != nil {
		return n, why
	}
	if errors.Is(err, net.ErrClosed) {
		return n, classify([]string{"PSYNC"}, err)
	}
	return n, status.WithHint(status.ReasonSave, "FLUSHALL does that, the full resync of a replica, and repl-timeout when the store takes nothing for so long; see the log of redis-server",
		fmt.Errorf("the server ended its stream after %d bytes: %w", r.got, err))
}

func (r *replication) read(p []byte) (int, error) {
	if r.mark == nil {
		if r.left == 0 {
			return 0, io.EOF
		}
		n, err := r.in.Read(p[:min(int64(len(p)), r.left)])
		r.left -= int64(n)
		if n > 0 {
			return n, nil
		}
		return 0, unexpectedEnd(err)
	}
	for r.safe == 0 && !r.done {
		if err := r.search(); err != nil {
			return 0, unexpectedEnd(err)
		}
	}
	if r.safe == 0 {
		return 0, io.EOF
	}
	n, err := r.in.Read(p[:min(len(p), r.safe)]) // buffered: it does not block
	r.safe -= n
	return n, err
}

// search makes the buffer hold as much as a mark, and sets how much of it is known
// to come before the mark.
func (r *replication) search() error {
	_, err := r.in.Peek(markSize)
	window, _ := r.in.Peek(r.in.Buffered()) // what is there is there without an error
	switch at := bytes.Index(window, r.mark); {
	case at >= 0:
		r.safe, r.done = at, true
	case err != nil:
		return err
	default:
		r.safe = len(window) - (markSize - 1) // these may be the begin of one
	}
	return nil
}

func unexpectedEnd(err error) error {
	if err == io.EOF { //nolint:errorlint // an io.Reader returns io.EOF itself
		return io.ErrUnexpectedEOF
	}
	return err
}
