package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	goredis "github.com/redis/go-redis/v9"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// errMaxClients is what a server says to a connection beyond maxclients, before
// it closes it.
var errMaxClients = errors.New("ERR max number of clients reached")

// errReplyLimit ends a connection whose peer sends more than was agreed.
var errReplyLimit = errors.New("the reply is larger than the limit")

// replyError is an error reply of the server.
type replyError struct{ text string }

func (e *replyError) Error() string { return e.text }

// IsReply tells whether err is an error reply of the server: a proof of life,
// unlike a time-out or a broken connection.
func IsReply(err error) bool {
	_, ok := errors.AsType[*replyError](err)
	return ok || errors.Is(err, errMaxClients)
}

// classify adds the command and a reason to an error. It returns nil for nil.
func classify(args []string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[goredis.Error](err); ok && !isConnError(err) {
		// The text may be wrapped by go-redis ("failed to authenticate: …").
		text := err.Error()
		if inner := innermost(err); inner != nil {
			text = inner.Error()
		}
		return classifyReply(args, text)
	}
	reason, hint := connReason(err)
	return status.WithHint(reason, hint, fmt.Errorf("%s: %w", operation(args), err))
}

// classifyReply is classify for the text of an error reply.
func classifyReply(args []string, text string) error {
	text, _, _ = strings.Cut(text, ", with args beginning with:") // they may hold a secret
	reason, hint := replyReason(text)
	return status.WithHint(reason, hint, fmt.Errorf("%s: %w", operation(args), &replyError{text}))
}

// operation names a command in an error.
func operation(args []string) string {
	return strings.Join(args[:min(len(args), commandWords(args))], " ")
}

// commandWords is how many words of a command are safe and useful to name: two
// for a command with subcommands, so that no value gets into an error.
func commandWords(args []string) int {
	if len(args) == 0 {
		return 0
	}
	switch strings.ToUpper(args[0]) {
	case "CONFIG", "CLUSTER", "CLIENT", "ACL", "LATENCY", "SLOWLOG", "SENTINEL", "DEBUG", "MEMORY", "COMMAND", "INFO":
		return 2
	}
	return 1
}

func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// replyReason classifies an error reply by its code, the first word. Sources:
// server.c and acl.c of Redis 6.2 to 8.x.
func replyReason(text string) (status.Reason, string) {
	code, _, _ := strings.Cut(text, " ")
	switch code {
	case "NOAUTH", "WRONGPASS":
		return status.ReasonAuth, "check redis.user and redis.password or redis.password-file"
	case "NOPERM":
		return status.ReasonNoPerm, "allow the command for this user: ACL SETUSER <user> +<command>"
	case "LOADING":
		return status.ReasonLoading, ""
	case "BUSY":
		return status.ReasonBusy, "a script or function runs too long: SCRIPT KILL or FUNCTION KILL"
	case "MASTERDOWN":
		return status.ReasonMasterDown, ""
	case "MISCONF":
		return status.ReasonMisconf, "the last save failed: look for the cause in the log of redis-server"
	}
	switch {
	case strings.HasPrefix(text, "ERR unknown command"), strings.HasPrefix(text, "ERR unknown subcommand"),
		strings.HasPrefix(text, "ERR Unknown subcommand"):
		return status.ReasonUnknownCmd, "the server is too old for the command, or it was renamed"
	case strings.HasPrefix(text, errMaxClients.Error()):
		return status.ReasonMaxClients, "raise maxclients, or find who keeps the connections: CLIENT LIST"
	case strings.HasPrefix(text, "ERR AUTH <password> called without any password"),
		strings.HasPrefix(text, "ERR invalid password"):
		return status.ReasonAuth, "check redis.user and redis.password or redis.password-file"
	}
	return status.ReasonRedis, ""
}

func isConnError(err error) bool {
	_, ok := errors.AsType[net.Error](err)
	return ok || errors.Is(err, errMaxClients) || errors.Is(err, io.EOF)
}

// connReason classifies an error of the connection.
func connReason(err error) (status.Reason, string) {
	var (
		dns      *net.DNSError
		record   tls.RecordHeaderError
		verify   *tls.CertificateVerificationError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		netErr   net.Error
	)
	switch {
	case errors.Is(err, errMaxClients):
		return status.ReasonMaxClients, "raise maxclients, or find who keeps the connections: CLIENT LIST"
	case errors.Is(err, errCredentials):
		return status.ReasonFile, "check redis.password-file"
	case errors.Is(err, errTLSFiles):
		return status.ReasonTLS, "check redis.tls.*"
	case errors.Is(err, errTLSServer):
		return status.ReasonTLS, "the server speaks TLS on this port: use rediss://"
	case errors.Is(err, errPlainServer), errors.As(err, &record):
		return status.ReasonTLS, "the server does not speak TLS on this port: use redis:// instead of rediss://"
	case isAlert(err), errors.As(err, &verify), errors.As(err, &unknown), errors.As(err, &hostname):
		return status.ReasonTLS, "check redis.tls.ca-file, redis.tls.server-name and the certificates"
	case errors.As(err, &dns):
		return status.ReasonUnreachable, "the name does not resolve: check redis.addr"
	case errors.Is(err, context.Canceled):
		return status.ReasonCanceled, ""
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH),
		errors.Is(err, os.ErrNotExist):
		return status.ReasonUnreachable, "is redis-server running, and is redis.addr right?"
	case errors.Is(err, errHandshake) && errors.As(err, &netErr) && netErr.Timeout():
		return status.ReasonTimeout, "redis-server does not answer: hung, or no TLS on this port"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, goredis.ErrPoolTimeout):
		return status.ReasonTimeout, "redis-server does not answer: hung, stopped or overloaded"
	case errors.As(err, &netErr) && netErr.Timeout():
		return status.ReasonTimeout, "redis-server does not answer: hung, stopped or overloaded"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.Is(err, net.ErrClosed):
		return status.ReasonUnreachable, "redis-server closed the connection"
	case errors.Is(err, errReplyLimit), errors.Is(err, errReplyArray), errors.Is(err, errReplyNesting):
		return status.ReasonProtocol, ""
	}
	if errors.As(err, &netErr) {
		return status.ReasonUnreachable, ""
	}
	return status.ReasonProtocol, "what listens there does not speak the Redis protocol"
}

// isAlert tells whether the server ended the handshake with a TLS alert. Over
// TCP package tls reports one as a net.OpError.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// unexpected is the error for a reply of another type than the command has.
func unexpected(command string, v any) error {
	return status.WithReason(status.ReasonProtocol, fmt.Errorf("%s: unexpected reply of type %T", command, v))
}
