package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Limits of a request.
const (
	maxWait        = time.Hour
	defaultWait    = 10 * time.Minute
	askPatience    = 10 * time.Second // for the job to take it, and to begin
	minToken       = 16               // bytes: what can be guessed is no secret
	maxToken       = 4 << 10
	writeAllowance = 10 * time.Second
)

// RequestOptions configure a RequestHandler.
type RequestOptions struct {
	// TokenFile holds a secret in one line: who sends it as a bearer token may ask
	// from anywhere. It is read at every request. "": nobody may, but from this
	// host.
	TokenFile string
	Log       *slog.Logger
}

// RequestHandler is an http.Handler that takes a snapshot on POST, and on GET says how the
// job is doing. A POST is allowed from the loopback interface, which is what
// kubectl port-forward comes from, and with the token.
type RequestHandler struct {
	job  *Job
	opts RequestOptions
}

// NewRequestHandler returns the handler for a job.
func NewRequestHandler(j *Job, opts RequestOptions) *RequestHandler {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &RequestHandler{job: j, opts: opts}
}

// NoRequests returns the handler where no snapshots are taken, and says why and what
// to do.
func NoRequests(why, hint string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusServiceUnavailable, requestReply{State: "refused", Error: "no backups are taken: " + why, Hint: hint})
	})
}

// requestReply is the body of every answer.
type requestReply struct {
	State    string           `json:"state"` // idle, waiting, running, done, failed, refused
	Snapshot *snapshotSummary `json:"snapshot,omitempty"`
	Error    string           `json:"error,omitempty"`
	Reason   status.Reason    `json:"reason,omitempty"`
	Hint     string           `json:"hint,omitempty"`

	// Of a GET.
	Job *status.Report `json:"job,omitempty"`
}

// snapshotSummary is a manifest in short.
type snapshotSummary struct {
	ID       string    `json:"id"`
	Created  time.Time `json:"created_at"`
	Source   string    `json:"source"`
	Pod      string    `json:"pod"`
	Role     string    `json:"role"`
	Keys     uint64    `json:"keys"`
	Plain    int64     `json:"plain_bytes"`
	Stored   int64     `json:"stored_bytes"`
	Duration float64   `json:"duration_seconds"`
}

// ServeHTTP implements http.Handler.
func (h *RequestHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if code, err := h.authorise(r); err != nil {
		if code == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="redis-sidecar"`)
		}
		reply(w, code, failure("refused", err))
		return
	}
	switch r.Method {
	case http.MethodGet:
		reply(w, http.StatusOK, h.state())
	case http.MethodPost:
		h.post(w, r)
	default:
		w.Header().Set("Allow", "GET, POST")
		reply(w, http.StatusMethodNotAllowed, failure("refused", errors.New("only GET and POST")))
	}
}

func (h *RequestHandler) post(w http.ResponseWriter, r *http.Request) {
	wait, err := waitOf(r)
	if err != nil {
		reply(w, http.StatusBadRequest, failure("refused", err))
		return
	}
	// The limits of the server are for answers that take no time.
	if wait > 0 {
		c, until := http.NewResponseController(w), time.Now().Add(askPatience+wait+writeAllowance)
		_ = c.SetWriteDeadline(until) // not supported by a recorder
		_ = c.SetReadDeadline(until)
	}
	req, err := h.job.ask(r.Context(), askPatience)
	if err != nil {
		reply(w, statusOf(err), failure("refused", err))
		return
	}
	// From here on it goes on whether or not somebody waits for it.
	h.opts.Log.Info("a snapshot was asked for", "from", r.RemoteAddr, "wait", wait.String())
	if out, ok := req.wait(r.Context(), askPatience, true); ok {
		h.answer(w, out)
		return
	}
	if out, ok := req.wait(r.Context(), wait, false); ok && wait > 0 {
		h.answer(w, out)
		return
	}
	reply(w, http.StatusAccepted, requestReply{State: "running"})
}

// wait waits for the outcome, or only until the snapshot is being taken.
func (r *request) wait(ctx context.Context, d time.Duration, onlyBegun bool) (Outcome, bool) {
	var begun chan struct{}
	if onlyBegun {
		begun = r.begun
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case out := <-r.done:
		return out, true
	case <-begun:
	case <-timer.C:
	case <-ctx.Done():
	}
	return Outcome{}, false
}

func (h *RequestHandler) answer(w http.ResponseWriter, out Outcome) {
	if out.Err != nil {
		state := "failed"
		if errors.Is(out.Err, ErrHeld) || errors.Is(out.Err, ErrStandby) {
			state = "refused"
		}
		reply(w, statusOf(out.Err), failure(state, out.Err))
		return
	}
	m := out.Manifest
	reply(w, http.StatusOK, requestReply{State: "done", Snapshot: &snapshotSummary{
		ID: m.ID, Created: m.CreatedAt, Source: m.Source, Pod: m.Server.Pod, Role: m.Server.Role, Keys: m.RDB.Keys,
		Plain: m.RDB.Size, Stored: m.Object.Size, Duration: m.Durations.Total,
	}})
}

// state is the answer to GET.
func (h *RequestHandler) state() requestReply {
	report := h.job.rep.Report()
	out := requestReply{State: "idle", Job: &report}
	if d, ok := report.Detail.(Detail); ok {
		switch {
		case d.Running != nil:
			out.State = "running"
		case d.Waiting != "":
			out.State = "waiting"
		}
	}
	return out
}

// statusOf says in HTTP what went wrong.
func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrRunning), errors.Is(err, ErrHeld), errors.Is(err, ErrStandby):
		return http.StatusConflict
	case status.ReasonOf(err) == status.ReasonDiskFull:
		return http.StatusInsufficientStorage
	case status.ReasonOf(err) == status.ReasonInternal:
		return http.StatusInternalServerError
	}
	return http.StatusServiceUnavailable
}

func failure(state string, err error) requestReply {
	out := requestReply{State: state, Error: err.Error(), Hint: status.HintOf(err)}
	if e, ok := errors.AsType[*status.Error](err); ok {
		out.Reason = e.Reason
	}
	return out
}

func reply(w http.ResponseWriter, code int, body requestReply) {
	b, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		http.Error(w, "500: the answer cannot be written as JSON", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n'))
}

// waitOf reads ?wait, ?wait=true and ?wait=5m; 0 is not to wait.
func waitOf(r *http.Request) (time.Duration, error) {
	q := r.URL.Query()
	if !q.Has("wait") {
		return 0, nil
	}
	switch text := q.Get("wait"); text {
	case "", "true":
		return defaultWait, nil
	case "false":
		return 0, nil
	default:
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 || d > maxWait {
			return 0, fmt.Errorf("wait=%.20q: give a duration up to %s, such as wait=5m", text, maxWait)
		}
		return d, nil
	}
}

// authorise decides who may. Whoever sends a token must send the right one, also to
// read: the password of the web side was not asked for then.
func (h *RequestHandler) authorise(r *http.Request) (code int, err error) {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return h.checkToken(token)
	}
	if r.Method == http.MethodGet {
		return 0, nil
	}
	if err := local(r); err != nil {
		hint := "send the token of backup.trigger-token-file: Authorization: Bearer …; or come by kubectl port-forward"
		if h.opts.TokenFile == "" {
			hint = "set backup.trigger-token-file and send its token, or come by kubectl port-forward"
		}
		return http.StatusForbidden, status.WithHint(status.ReasonAuth, hint, err)
	}
	return 0, nil
}

// checkToken compares with the file, which may have changed.
func (h *RequestHandler) checkToken(token string) (code int, err error) {
	if h.opts.TokenFile == "" {
		return http.StatusUnauthorized, status.WithHint(status.ReasonAuth, "set backup.trigger-token-file", errors.New("no token is accepted: there is none"))
	}
	want, err := readToken(h.opts.TokenFile)
	if err != nil {
		h.opts.Log.Error("no token is accepted", "setting", "backup.trigger-token-file", "error", err)
		return http.StatusUnauthorized, status.WithHint(status.ReasonAuth, "see the log of the sidecar", errors.New("no token is accepted: its file is not good"))
	}
	a, b := sha256.Sum256([]byte(token)), sha256.Sum256(want)
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return http.StatusUnauthorized, status.WithReason(status.ReasonAuth, errors.New("this is not the token"))
	}
	return 0, nil
}

func readToken(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return nil, err
	}
	b = bytes.TrimSpace(b)
	if len(b) < minToken || len(b) > maxToken || bytes.ContainsAny(b, " \t\r\n") {
		return nil, fmt.Errorf("%s: a token is one line of %d to %d bytes without spaces", path, minToken, maxToken)
	}
	return b, nil
}

// local tells whether a request comes from this host: over the loopback interface
// or a unix socket, not through a proxy, and not from a page in a browser, which
// can send a POST to any port that is forwarded to the desk it runs on.
func local(r *http.Request) error {
	const text = "a snapshot is taken for requests from this host, or with a token"
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via"} {
		if r.Header.Get(name) != "" {
			return fmt.Errorf("%s: this one came through a proxy (%s)", text, name)
		}
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil || r.Header.Get("Origin") != "" {
		return fmt.Errorf("%s: this one is from a page in a browser", text)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil { // a unix socket: its file says who may
		return nil //nolint:nilerr // no address is no error
	}
	// 127.0.0.6 is where Istio's proxy comes from, on behalf of others.
	if ip, err := netip.ParseAddr(host); err != nil || ip.Unmap() != netip.MustParseAddr("127.0.0.1") && ip != netip.IPv6Loopback() {
		return fmt.Errorf("%s: this one came from %s", text, host)
	}
	return nil
}
