package backup

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// httpAnswer is what came back from a request.
type httpAnswer struct {
	code int
	body requestReply
}

// ask sends a request from this host and waits for the answer. change may be nil.
func (j *testJob) ask(method, target string, change func(*http.Request)) httpAnswer {
	j.t.Helper()
	return askHandler(j.t, NewRequestHandler(j.Job, RequestOptions{}), method, target, change)
}

func askHandler(t *testing.T, h http.Handler, method, target string, change func(*http.Request)) httpAnswer {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = "127.0.0.1:40000"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	a := httpAnswer{code: w.Code}
	if err := json.Unmarshal(w.Body.Bytes(), &a.body); err != nil {
		t.Errorf("%s %s: %s: %v", method, target, w.Body, err)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	return a
}

func (a httpAnswer) want(t *testing.T, code int, state string, reason status.Reason, text string) {
	t.Helper()
	if a.code != code || a.body.State != state || a.body.Reason != reason || !strings.Contains(a.body.Error, text) {
		t.Errorf("%d %s %s %q, want %d %s %s …%q…", a.code, a.body.State, a.body.Reason, a.body.Error, code, state, reason, text)
	}
}

func TestRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@daily", nil)
		j.takes = time.Minute
		j.run()
		if got := j.ask("GET", "/backup", nil); got.code != 200 || got.body.State != "idle" || got.body.Job == nil || got.body.Job.Job != status.Backup {
			t.Errorf("%+v", got)
		}

		// It is answered when it is being taken, and goes on.
		j.at(time.Hour)
		j.ask("POST", "/backup", nil).want(t, 202, "running", "", "")
		j.wantTaken(time.Hour)
		if got := j.ask("GET", "/backup", nil); got.body.State != "running" {
			t.Errorf("%+v", got)
		}
		j.ask("POST", "/backup?wait", nil).want(t, 409, "refused", status.ReasonLease, "a snapshot is being taken: it is saving")
		j.at(time.Hour + 2*time.Minute)
		j.wantState(status.OK, "", "snapshot 2000")

		// It waits for the end.
		a := j.ask("POST", "/backup?wait=5m", nil)
		a.want(t, 200, "done", "", "")
		if s := a.body.Snapshot; s == nil || s.ID == "" || s.Keys != 1 || s.Plain != 200 || s.Stored != 100 || s.Pod != "redis-0" {
			t.Errorf("snapshot %+v", s)
		}
		if got := time.Since(j.start); got != time.Hour+3*time.Minute {
			t.Errorf("answered after %s", got)
		}

		// It does not wait longer than asked, nor when the client has gone.
		j.ask("POST", "/backup?wait=10s", nil).want(t, 202, "running", "", "")
		j.at(2 * time.Hour)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		j.ask("POST", "/backup?wait=10m", func(r *http.Request) { *r = *r.WithContext(ctx) }).want(t, 202, "running", "", "")
		j.at(3 * time.Hour)
		if n := len(j.begun()); n != 4 {
			t.Errorf("%d were begun, want 4", n)
		}
		if d := j.report().Detail.(Detail); d.Count != 4 || d.LastRun.Trigger != TriggerRequest {
			t.Errorf("detail %+v", d)
		}
		j.wantNext(24 * time.Hour) // the schedule stands
	})
}

func (j *testJob) wantNext(want time.Duration) {
	j.t.Helper()
	if got := j.report().NextRun.Sub(j.start); got != want {
		j.t.Errorf("next run after %s, want %s", got, want)
	}
}

// Where backups are off, the answer has the same form.
func TestRequestWithoutBackups(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		a := askHandler(t, NoRequests("backup.schedule is not set", "set it"), method, "/backup", nil)
		a.want(t, 503, "refused", "", "no backups are taken: backup.schedule is not set")
		if a.body.Hint != "set it" {
			t.Errorf("hint %q", a.body.Hint)
		}
	}
}

// A request that fails says why, and is tried again.
func TestRequestFails(t *testing.T) {
	tests := []struct {
		reason status.Reason
		code   int
	}{
		{status.ReasonDiskFull, 507}, {status.ReasonStoreDenied, 503}, {status.ReasonLoading, 503}, {status.ReasonInternal, 500},
	}
	for _, tt := range tests {
		t.Run(string(tt.reason), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newTestJob(t, "@daily", nil)
				j.fail = func(n int) error {
					if n == 1 {
						return status.WithHint(tt.reason, "do something", errors.New("no luck"))
					}
					return nil
				}
				j.run()
				j.at(time.Hour)
				a := j.ask("POST", "/backup?wait", nil)
				a.want(t, tt.code, "failed", tt.reason, "snapshot: no luck")
				if a.body.Hint != "do something" {
					t.Errorf("hint %q", a.body.Hint)
				}
				synctest.Wait()
				j.wantState(status.Failing, tt.reason, "snapshot: no luck")
				j.at(time.Hour + 5*time.Minute)
				j.wantState(status.OK, "", "snapshot 2000")
				if n := len(j.begun()); n != 2 {
					t.Errorf("%d were begun", n)
				}
			})
		})
	}
}

// Another role's turn, and somebody else at it, are refused and no failures.
func TestRequestIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@daily", nil)
		j.run()
		h, err := newTestLease(t, j.store.Store, "redis-9").Acquire(context.Background(), "a test")
		if err != nil {
			t.Fatal(err)
		}
		j.ask("POST", "/backup", nil).want(t, 409, "refused", status.ReasonLease, "has the backup lease since 2000-01-01T00:00:00Z (a test)")
		h.Release()
		j.stands("slave", 0, ErrStandby)
		j.ask("POST", "/backup", nil).want(t, 409, "refused", "", ErrStandby.Error())
		j.wantTaken()
		if r := j.report(); r.State != status.OK || r.LastError != "" {
			t.Errorf("%+v", r)
		}
		for _, wait := range []string{"x", "-1s", "61m", "5"} {
			j.ask("POST", "/backup?wait="+wait, nil).want(t, 400, "refused", "", "give a duration up to 1h0m0s")
		}
		j.ask("PUT", "/backup", nil).want(t, 405, "refused", "", "only GET and POST")
		j.stop()
		j.ask("POST", "/backup", nil).want(t, 503, "refused", status.ReasonCanceled, "the sidecar ends")
	})
}

// A scheduled run that waits to be repeated is over when a request has brought one.
func TestRequestEndsAFailingRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@hourly", func(o *Options) { o.RetryMin, o.RetryMax = 30*time.Minute, 30*time.Minute })
		j.fail = func(n int) error {
			if n == 1 {
				return errors.New("no luck")
			}
			return nil
		}
		j.run()
		j.at(time.Hour + time.Minute)
		j.ask("POST", "/backup?wait", nil).want(t, 200, "done", "", "")
		j.at(time.Hour + 59*time.Minute)
		j.wantTaken(time.Hour, time.Hour+time.Minute)
	})
}

// Who may ask.
func TestRequestAuthorisation(t *testing.T) {
	const token = "0123456789abcdef-token"
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(token + "\n")
	from := func(addr string, header ...string) func(*http.Request) {
		return func(r *http.Request) {
			r.RemoteAddr = addr
			for i := 0; i+1 < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
		}
	}
	bearer := func(addr, token string) func(*http.Request) { return from(addr, "Authorization", "Bearer "+token) }
	tests := []struct {
		name    string
		method  string
		request func(*http.Request)
		file    string
		code    int
		text    string
	}{
		{"loopback", "POST", from("127.0.0.1:1"), "", 503, ""},
		{"loopback, IPv6", "POST", from("[::1]:1"), "", 503, ""},
		{"loopback, mapped", "POST", from("[::ffff:127.0.0.1]:1"), "", 503, ""},
		{"a unix socket", "POST", from("@"), "", 503, ""},
		{"another host", "POST", from("10.0.0.7:1"), "", 403, "this one came from 10.0.0.7"},
		{"another host, with a token file", "POST", from("10.0.0.7:1"), file, 403, "this one came from 10.0.0.7"},
		{"Istio's proxy", "POST", from("127.0.0.6:1"), "", 403, "this one came from 127.0.0.6"},
		{"a proxy", "POST", from("127.0.0.1:1", "X-Forwarded-For", "10.0.0.7"), "", 403, "through a proxy (X-Forwarded-For)"},
		{"another page", "POST", from("127.0.0.1:1", "Sec-Fetch-Site", "cross-site"), "", 403, "from a page in a browser"},
		{"another page, old browser", "POST", from("127.0.0.1:1", "Origin", "http://evil.example"), "", 403, "from a page in a browser"},
		{"the token", "POST", bearer("10.0.0.7:1", token), file, 503, ""},
		{"the token, from this host", "POST", bearer("127.0.0.1:1", token), file, 503, ""},
		{"another token", "POST", bearer("10.0.0.7:1", token+"x"), file, 401, "this is not the token"},
		{"another token, from this host", "POST", bearer("127.0.0.1:1", "x"), file, 401, "this is not the token"},
		{"an empty token", "POST", bearer("10.0.0.7:1", ""), file, 401, "this is not the token"},
		{"a token, and no file", "POST", bearer("10.0.0.7:1", token), "", 401, "there is none"},
		{"a token, and the file is gone", "POST", bearer("10.0.0.7:1", token), file + "x", 401, "its file is not good"},
		{"to read", "GET", from("10.0.0.7:1"), "", 200, ""},
		{"to read, with another token", "GET", bearer("10.0.0.7:1", "x"), file, 401, "this is not the token"},
	}
	j := &Job{requests: make(chan *request), ended: make(chan struct{}), rep: status.NewBoard(testLog(t), nil).Register(status.Backup)}
	close(j.ended) // whoever may ask gets a 503
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := askHandler(t, NewRequestHandler(j, RequestOptions{TokenFile: tt.file, Log: testLog(t)}), tt.method, "/backup", tt.request)
			if a.code != tt.code || !strings.Contains(a.body.Error, tt.text) {
				t.Errorf("%d %q, want %d …%q…", a.code, a.body.Error, tt.code, tt.text)
			}
			if a.code >= 401 && a.code <= 403 && a.body.Hint == "" && a.code == 403 {
				t.Error("no hint")
			}
		})
	}

	t.Run("rotation", func(t *testing.T) {
		h := NewRequestHandler(j, RequestOptions{TokenFile: file})
		for _, tt := range []struct {
			file, sent string
			code       int
		}{
			{token, token, 503},
			{"another-token-0123456789", token, 401},
			{"another-token-0123456789", "another-token-0123456789", 503},
			{"short", "short", 401},
			{"", "", 401},
			{"two lines 0123456789\nof text", "two lines 0123456789\nof text", 401},
			{strings.Repeat("x", maxToken+1), strings.Repeat("x", maxToken+1), 401},
		} {
			write(tt.file)
			if a := askHandler(t, h, "POST", "/backup", bearer("10.0.0.7:1", tt.sent)); a.code != tt.code {
				t.Errorf("file %.30q, sent %.30q: %d, want %d", tt.file, tt.sent, a.code, tt.code)
			}
		}
	})
}

func testLog(tb testing.TB) *slog.Logger {
	tb.Helper()
	return slog.New(slog.NewTextHandler(tb.Output(), nil))
}
