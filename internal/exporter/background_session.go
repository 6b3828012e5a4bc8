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
	// detailBatch is how many keys are asked about in one pipeline: the server
	// serves no one else meanwhile.
	detailBatch = 100
	// minPatience is how long an answer may take however short a turn is.
	minPatience = time.Second
	// refusalLimit is how many refusals are remembered; some are for one key.
	refusalLimit = 10_000
)

// link is what the background collectors of one exporter know of their
// connection. The one whose turn it is uses it.
type link struct {
	server Server
	budget time.Duration
	rate   int // keys per second, 0 for no limit
	batch  int // COUNT of SCAN
	gate   *Gate

	strayed   bool            // the connection may be on another database than 0
	tried     map[string]bool // names of commands that were sent
	refused   map[string]refusal
	trips     trips
	notBefore time.Time // when the agreed rate lets the next read begin
	sent      time.Time // when the last read began
}

// refusal is a command that the server does not allow, or not for some key.
type refusal struct {
	err   error
	again time.Time
}

func newLink(opts BackgroundOptions) *link {
	l := &link{
		server: opts.Server, budget: opts.Budget, rate: opts.ScanRate, batch: opts.BatchSize, gate: opts.Gate,
		tried: make(map[string]bool), refused: make(map[string]refusal),
	}
	if l.gate == nil {
		l.gate = NewGate()
	}
	return l
}

// session is what one pass of a collector knows. It goes on with the pass when
// the collector has its turn, see turn.
type session struct {
	*link
	yield     func(until time.Time) bool // false: there is no next slice
	limit     time.Duration              // of its own time, after which the pass is given up
	offMaster bool                       // it must not read a master

	start    time.Time     // of the slice
	used     time.Duration // in the slices before
	asked    bool          // in this slice
	unsure   bool          // whether the server is still the same
	scanned  bool          // SCAN has answered
	spent    [numSpent]time.Duration
	target   target
	progress *progress
}

// target is the server, as it is at the beginning of a pass.
type target struct {
	runID                      string // of the process; "" when the server has none
	sentinel, cluster, replica bool
	keys                       map[int]int64 // by database, for those that have some
}

// newSession begins a pass and its first slice.
func newSession(l *link, p *progress, yield func(time.Time) bool) *session {
	return &session{link: l, progress: p, yield: yield, start: time.Now()}
}

// begin learns what the server is now. A kept connection that broke since the
// last pass says nothing about the server now: it is asked again.
func (s *session) begin(ctx context.Context) error {
	t, err := s.identify(ctx, "server", "replication", "keyspace")
	if status.ReasonOf(err) == status.ReasonUnreachable && ctx.Err() == nil {
		t, err = s.identify(ctx, "server", "replication", "keyspace")
	}
	if err != nil {
		return err
	}
	s.target = t
	if s.offMaster && !t.replica && !t.sentinel {
		return errMaster
	}
	return nil
}

// identify asks for some sections of INFO. That is next to no work for a server, so
// it does not wait at the gate, where one that is away would keep up all others.
func (s *session) identify(ctx context.Context, sections ...string) (target, error) {
	t := target{keys: make(map[int]int64)}
	commands := make([]command, len(sections))
	send := make([][]string, len(sections))
	for i, section := range sections {
		commands[i] = command{"info", []string{"INFO", section}}
		if err := s.remembered(commands[i], time.Now()); err != nil {
			return t, err
		}
		send[i] = commands[i].args
	}
	replies, worked, err := s.exchange(ctx, send)
	if err != nil {
		return t, err
	}
	s.gate.charge(worked)
	for i, reply := range replies {
		if err, failed := reply.(error); failed {
			s.remember(commands[i], err, time.Now())
			return t, err
		}
		text, ok := reply.(string)
		if !ok {
			return t, odd("INFO", reply)
		}
		t.learn(info.Parse(text))
	}
	return t, nil
}

// learn takes what one section of INFO says.
func (t *target) learn(in info.Info) {
	if id := in.Get("run_id"); id != "" {
		t.runID = strings.Clone(id)
	}
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

// ask sends some of the commands when it is the collector's turn, and notes
// their replies.
func (s *session) ask(ctx context.Context, db int, commands []command, asked []int, replies []any) error {
	if len(asked) == 0 {
		return nil
	}
	return s.patient(ctx, func() error {
		if err := s.write(ctx, db, commands, asked, replies); err != nil {
			return err
		}
		for _, i := range asked {
			if err, failed := replies[i].(error); failed && s.scanned && passing(status.ReasonOf(err)) {
				return err
			}
		}
		return nil
	})
}

// write sends some of the commands at once and notes their replies. Every write
// chooses its database itself and goes back to 0, since a connection that
// breaks is replaced by one that is on 0.
func (s *session) write(ctx context.Context, db int, commands []command, asked []int, replies []any) error {
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
	got, err := s.send(ctx, send)
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

// send sends commands through the gate, when the pauses are over.
func (s *session) send(ctx context.Context, commands [][]string) ([]any, error) {
	s.asked = true
	began := time.Now()
	if err := wait(ctx, time.Until(s.notBefore)); err != nil {
		return nil, err
	}
	s.spent[onRate] += time.Since(began)
	began = time.Now()
	if err := s.gate.enter(ctx); err != nil {
		return nil, err
	}
	s.spent[onPauses] += time.Since(began)
	worked := time.Duration(0)
	defer func() { s.gate.leave(worked) }()
	s.sent = time.Now()
	replies, worked, err := s.exchange(ctx, commands)
	s.spent[onAnswers] += time.Since(s.sent)
	return replies, err
}

// exchange sends commands at once and returns their replies, and how long the
// server worked on them.
func (l *link) exchange(ctx context.Context, commands [][]string) (replies []any, worked time.Duration, err error) {
	patience := max(l.budget, minPatience)
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	replies, err = l.server.Pipeline(within, commands...)
	now := time.Now()
	if err == nil && len(replies) != len(commands) {
		err = status.WithReason(status.ReasonProtocol, fmt.Errorf("%d replies to %d commands", len(replies), len(commands)))
	}
	if err == nil {
		return replies, l.trips.worked(now.Sub(began), now), nil
	}
	if within.Err() != nil && ctx.Err() == nil {
		err = status.WithReason(status.ReasonTimeout, fmt.Errorf("no answer in %s: %w", patience, err))
	}
	// Who answers next may be another server, or know another user.
	clear(l.refused)
	clear(l.tried)
	l.strayed = false
	return nil, now.Sub(began), err
}

// remembered returns why a command is not sent, or nil.
func (l *link) remembered(c command, now time.Time) error {
	if len(l.refused) == 0 {
		return nil
	}
	if r, ok := l.refused[c.name]; ok && now.Before(r.again) {
		return r.err
	}
	if r, ok := l.refused[c.line()]; ok && now.Before(r.again) {
		return r.err
	}
	return nil
}

// remember notes a refusal that will hold for a while: of a command, or of a
// command with these arguments.
func (l *link) remember(c command, err error, now time.Time) {
	key := c.name
	switch reason := status.ReasonOf(err); {
	case reason == status.ReasonUnknownCmd:
	case reason == status.ReasonNoPerm && strings.Contains(err.Error(), "to run the"):
	case reason == status.ReasonNoPerm, errorCode(err) == "MOVED", c.name == "select":
		key = c.line()
	default:
		return
	}
	if len(l.refused) >= refusalLimit {
		clear(l.refused)
	}
	l.refused[key] = refusal{err, now.Add(refusalExpiry)}
	if key == c.name {
		delete(l.tried, c.name) // when it is asked again, one goes ahead
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
func (l *link) slow() {
	if l.rate > 0 {
		l.notBefore = l.sent.Add(time.Duration(l.batch) * time.Second / time.Duration(l.rate))
	}
}

// expect says that SCAN will pass the keys of a database, for the progress.
func (s *session) expect(db int) { s.progress.total.Add(s.target.keys[db]) }

// scan calls each with the keys of a database that match a pattern, and are of
// a type unless that is "". A key may come more than once.
func (s *session) scan(ctx context.Context, db int, pattern, kind string, each func(keys []any) error) error {
	total := s.target.keys[db]
	if total == 0 {
		return nil // a database that does not exist cannot be selected, either
	}
	args := []string{"SCAN", "0", "MATCH", pattern, "COUNT", strconv.Itoa(s.batch)}
	if pattern == "" || pattern == "*" {
		args = []string{"SCAN", "0", "COUNT", strconv.Itoa(s.batch)}
	}
	if kind != "" {
		args = append(args, "TYPE", kind) // since 6.0
	}
	before := s.progress.looked.Load()
	for looked := int64(0); ; {
		replies, err := s.do(ctx, db, command{"scan", args})
		if err != nil {
			return err
		}
		s.slow()
		if err, failed := replies[0].(error); failed {
			return err
		}
		s.scanned = true
		reply, _ := replies[0].([]any)
		if len(reply) != 2 {
			return odd("SCAN", replies[0])
		}
		cursor, ok1 := reply[0].(string)
		keys, ok2 := reply[1].([]any)
		if !ok1 || !ok2 {
			return odd("SCAN", reply[0])
		}
		if err := each(keys); err != nil {
			return err
		}
		if cursor == "0" {
			s.progress.looked.Store(before + total)
			return nil
		}
		looked = min(looked+int64(s.batch), total)
		s.progress.looked.Store(before + looked)
		args = append([]string{"SCAN", cursor}, args[2:]...)
	}
}
