package exporter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

const (
	// idleShare is how many times as long as a read took the next one waits: the
	// server spends at most a tenth of its time on the background collectors.
	idleShare = 9
	// maxPause bounds that wait.
	maxPause = 5 * time.Second
	// detailBatch is how many keys are asked about in one pipeline: the server
	// serves no one else meanwhile.
	detailBatch = 100
	// refusalLimit is how many refusals are remembered; some are for one key.
	refusalLimit = 10_000
)

// session is what the background collectors know of their connection. One
// goroutine uses it.
type session struct {
	server Server
	rate   int // keys per second, 0 for no limit
	batch  int // COUNT of SCAN

	strayed   bool            // the connection may be on another database than 0
	tried     map[string]bool // names of commands that were sent
	refused   map[string]refusal
	outcomes  map[string]status.Reason
	notBefore time.Time     // when the server may be asked again
	sent      time.Time     // when the last pipeline was sent
	waited    time.Duration // how long it took

	// of the present run
	target target
	looked int64 // keys that SCAN passed
	total  int64 // keys that it will pass in all
}

// refusal is a command that the server does not allow, or not for some key.
type refusal struct {
	err   error
	again time.Time
}

// target is the server, as it is at the beginning of a run.
type target struct {
	sentinel, cluster, replica bool
	keys                       map[int]int64 // by database, for those that have some
}

func newSession(opts BackgroundOptions) *session {
	return &session{
		server: opts.Server, rate: opts.ScanRate, batch: opts.BatchSize,
		tried: make(map[string]bool), refused: make(map[string]refusal), outcomes: make(map[string]status.Reason),
	}
}

// outcome notes how a collector's run ended and tells whether that is new.
func (s *session) outcome(collector string, reason status.Reason) bool {
	was := s.outcomes[collector]
	s.outcomes[collector] = reason
	return was != reason
}

// begin starts a run: it learns what the server is now. A kept connection that
// broke since the last run says nothing about the server now: it is asked again.
func (s *session) begin(ctx context.Context) error {
	s.looked, s.total = 0, 0
	s.target = target{}
	sections := []command{
		{"info", []string{"INFO", "server"}}, {"info", []string{"INFO", "replication"}}, {"info", []string{"INFO", "keyspace"}},
	}
	replies, err := s.do(ctx, 0, sections...)
	if status.ReasonOf(err) == status.ReasonUnreachable && ctx.Err() == nil {
		replies, err = s.do(ctx, 0, sections...)
	}
	if err != nil {
		return err
	}
	t := target{keys: make(map[int]int64)}
	for _, reply := range replies {
		if err, failed := reply.(error); failed {
			return err
		}
		text, ok := reply.(string)
		if !ok {
			return odd("INFO", reply)
		}
		in := info.Parse(text)
		t.sentinel = t.sentinel || in.Mode() == "sentinel"
		t.cluster = t.cluster || in.Mode() == "cluster"
		t.replica = t.replica || in.Get("role") == "slave"
		for name, line := range in.Section("keyspace") {
			db, err := strconv.Atoi(strings.TrimPrefix(name, "db"))
			keys, _, _ := strings.Cut(strings.TrimPrefix(line, "keys="), ",")
			if n, ok := number(keys); ok && err == nil && db >= 0 && db < maxDatabases {
				t.keys[db] = int64(n)
			}
		}
	}
	s.target = t
	return nil
}

// maxDatabases bounds a number of databases that the server names.
const maxDatabases = 1 << 16

// do sends commands to be executed in a database and returns their replies in
// order; one is an error where the server answered with one, or was not asked
// because it refused that lately. The second result is not nil when there are no
// replies at all.
//
// Of a command that this connection has not yet sent one goes ahead, so that a
// refusal does not come a hundred times.
func (s *session) do(ctx context.Context, db int, commands ...command) ([]any, error) {
	var first, rest []int
	now := time.Now()
	replies := make([]any, len(commands))
	for i, c := range commands {
		switch tried := s.tried[c.name]; {
		case tried:
			rest = append(rest, i)
		case slices.ContainsFunc(first, func(j int) bool { return commands[j].name == c.name }):
			rest = append(rest, i)
		default:
			first = append(first, i)
		}
	}
	for _, some := range [][]int{first, rest} {
		asked := some[:0]
		for _, i := range some {
			if err := s.remembered(commands[i], now); err != nil {
				replies[i] = err
				continue
			}
			asked = append(asked, i)
		}
		if err := s.ask(ctx, db, commands, asked, replies); err != nil {
			return nil, err
		}
	}
	return replies, nil
}

// ask sends some of the commands in one write and notes their replies. Every
// write chooses its database itself and goes back to 0, since a connection that
// breaks is replaced by one that is on 0.
func (s *session) ask(ctx context.Context, db int, commands []command, asked []int, replies []any) error {
	if len(asked) == 0 {
		return nil
	}
	var prologue []command
	if db != 0 || s.strayed {
		prologue = append(prologue, command{"select", []string{"SELECT", strconv.Itoa(db)}})
	}
	if s.target.cluster && s.target.replica {
		// Without it a replica sends everyone who asks for a key to its master.
		prologue = append(prologue, command{"readonly", []string{"READONLY"}})
	}
	send := make([][]string, 0, len(prologue)+len(asked)+1)
	for _, c := range prologue {
		if err := s.remembered(c, time.Now()); err != nil {
			return err
		}
		send = append(send, c.args)
	}
	for _, i := range asked {
		send = append(send, commands[i].args)
	}
	if db != 0 {
		send = append(send, []string{"SELECT", "0"})
	}
	got, err := s.pipeline(ctx, send)
	if err != nil {
		return err
	}
	if db != 0 {
		s.strayed = got[len(got)-1] != "OK"
	}
	now := time.Now()
	for i, c := range prologue {
		if err, failed := got[i].(error); failed {
			// What came after it may be of another database.
			s.remember(c, err, now)
			return err
		}
	}
	if db == 0 {
		s.strayed = false
	}
	for j, i := range asked {
		replies[i] = got[len(prologue)+j]
		s.tried[commands[i].name] = true
		if err, failed := replies[i].(error); failed {
			s.remember(commands[i], err, now)
		}
	}
	return nil
}

// pipeline sends commands when the pause after the last ones is over.
func (s *session) pipeline(ctx context.Context, commands [][]string) ([]any, error) {
	if err := wait(ctx, time.Until(s.notBefore)); err != nil {
		return nil, err
	}
	s.sent = time.Now()
	replies, err := s.server.Pipeline(ctx, commands...)
	s.waited = time.Since(s.sent)
	s.notBefore = time.Now().Add(min(idleShare*s.waited, maxPause))
	if err == nil && len(replies) != len(commands) {
		err = status.WithReason(status.ReasonProtocol, fmt.Errorf("%d replies to %d commands", len(replies), len(commands)))
	}
	if err != nil {
		// Who answers next may be another server, or know another user.
		clear(s.refused)
		clear(s.tried)
		s.strayed = false
		return nil, err
	}
	return replies, nil
}

// remembered returns why a command is not sent, or nil.
func (s *session) remembered(c command, now time.Time) error {
	if len(s.refused) == 0 {
		return nil
	}
	if r, ok := s.refused[c.name]; ok && now.Before(r.again) {
		return r.err
	}
	if r, ok := s.refused[c.line()]; ok && now.Before(r.again) {
		return r.err
	}
	return nil
}

// remember notes a refusal that will hold for a while: of a command, or of a
// command with these arguments.
func (s *session) remember(c command, err error, now time.Time) {
	key := c.name
	switch reason := status.ReasonOf(err); {
	case reason == status.ReasonUnknownCmd:
	case reason == status.ReasonNoPerm && strings.Contains(err.Error(), "to run the"):
	case reason == status.ReasonNoPerm, errorCode(err) == "MOVED", c.name == "select":
		key = c.line()
	default:
		return
	}
	if len(s.refused) >= refusalLimit {
		clear(s.refused)
	}
	s.refused[key] = refusal{err, now.Add(refusalExpiry)}
	if key == c.name {
		delete(s.tried, c.name) // when it is asked again, one goes ahead
	}
}

// line is the whole command.
func (c command) line() string { return c.name + "\x00" + strings.Join(c.args, "\x00") }

// errorCode returns the first word of an error reply.
func errorCode(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			code, _, _ := strings.Cut(err.Error(), " ")
			return code
		}
		err = inner
	}
}

// elsewhere tells whether a node of a cluster says that a key is not its own.
func elsewhere(err error) bool {
	switch errorCode(err) {
	case "MOVED", "ASK", "TRYAGAIN":
		return true
	}
	return false
}

// judge decides what an error reply to a question about one key means: it
// returns the error when it ends the run, notes it in out when it costs only
// some series, and drops it when the key is another node's, or changed its type
// between two questions.
func judge(err error, out *recorder) error {
	switch status.ReasonOf(err) {
	case status.ReasonNoPerm, status.ReasonUnknownCmd:
		out.note(err)
		return nil
	case status.ReasonRedis:
		if !elsewhere(err) && errorCode(err) != "WRONGTYPE" {
			out.note(err)
		}
		return nil
	}
	return err
}

// slow puts off what comes next until the time is over that the keys of one
// batch take at the agreed rate.
func (s *session) slow() {
	if s.rate <= 0 {
		return
	}
	if t := s.sent.Add(time.Duration(s.batch) * time.Second / time.Duration(s.rate)); t.After(s.notBefore) {
		s.notBefore = t
	}
}

// scan calls each with the keys of a database that match a pattern, and are of
// a type unless that is "". A key may come more than once.
func (s *session) scan(ctx context.Context, db int, pattern, kind string, each func(keys []any) error) error {
	s.total += s.target.keys[db]
	if s.target.keys[db] == 0 {
		return nil // a database that does not exist cannot be selected, either
	}
	args := []string{"SCAN", "0", "MATCH", pattern, "COUNT", strconv.Itoa(s.batch)}
	if pattern == "" || pattern == "*" {
		args = []string{"SCAN", "0", "COUNT", strconv.Itoa(s.batch)}
	}
	if kind != "" {
		args = append(args, "TYPE", kind) // since 6.0
	}
	for {
		replies, err := s.do(ctx, db, command{"scan", args})
		if err != nil {
			return err
		}
		s.slow()
		if err, failed := replies[0].(error); failed {
			return err
		}
		reply, _ := replies[0].([]any)
		if len(reply) != 2 {
			return odd("SCAN", replies[0])
		}
		cursor, ok1 := reply[0].(string)
		keys, ok2 := reply[1].([]any)
		if !ok1 || !ok2 {
			return odd("SCAN", reply[0])
		}
		s.looked += int64(s.batch)
		if err := each(keys); err != nil {
			return err
		}
		if cursor == "0" {
			return nil
		}
		args = append([]string{"SCAN", cursor}, args[2:]...)
	}
}
