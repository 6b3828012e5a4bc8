package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Path returns the path of a probe's endpoint: /startupz, /livez or /readyz.
func (k Kind) Path() string {
	switch k {
	case Startup:
		return "/startupz"
	case Liveness:
		return "/livez"
	default:
		return "/readyz"
	}
}

// Handler answers one probe: 200 or 503, and the verdict's line as text. It
// answers from the last look and never waits for the server.
func (m *Monitor) Handler(k Kind) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		v := m.Verdicts().Of(k)
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		code := http.StatusOK
		if !v.OK {
			code = http.StatusServiceUnavailable
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, v.Line(k)+"\n")
	})
}

// maxAnswer bounds what Ask reads of an answer.
const maxAnswer = 4 << 10

// Ask asks a running sidecar for a verdict. base is its address as a URL, such
// as http://127.0.0.1:9121. An error means that no sidecar answered there, or
// that it was no sidecar: then Once can tell. A nil client means one without a
// proxy; the deadline is ctx's.
func Ask(ctx context.Context, client *http.Client, base string, k Kind) (Verdict, error) {
	if client == nil {
		t := &http.Transport{DisableKeepAlives: true}
		defer t.CloseIdleConnections()
		client = &http.Client{Transport: t}
	}
	u, err := url.JoinPath(base, k.Path())
	if err != nil {
		return Verdict{}, fmt.Errorf("ask the sidecar: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return Verdict{}, fmt.Errorf("ask the sidecar: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return Verdict{}, fmt.Errorf("ask the sidecar: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Verdict{}, fmt.Errorf("ask the sidecar: %s: %w", u, err)
	}
	line, _, _ := strings.Cut(string(body), "\n")
	if message, ok := strings.CutPrefix(line, "ok: "); ok && resp.StatusCode == http.StatusOK {
		return Verdict{OK: true, Reason: ReasonOK, Message: message}, nil
	}
	if message, ok := strings.CutPrefix(line, notWords(k)); ok && resp.StatusCode == http.StatusServiceUnavailable {
		return Verdict{Message: message}, nil
	}
	return Verdict{}, fmt.Errorf("ask the sidecar: %s: %w: %s", u, errNoSidecar, resp.Status)
}

var errNoSidecar = errors.New("not the answer of a redis-sidecar")
