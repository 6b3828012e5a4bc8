package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
)

// Routes are the handlers behind the paths. A nil one answers 404.
type Routes struct {
	MetricsPath string                  // the default is /metrics
	Metrics     http.Handler            //
	Probes      map[string]http.Handler // by path: /startupz, /livez, /readyz
	Status      func() any              // what /status answers as JSON
	Pages       map[string]http.Handler // more to read, by path
	Actions     map[string]http.Handler // what may be posted to, by path
}

// Handler returns one handler for all paths, with the page at "/" and "ok" at
// /health. A handler that panics answers 500 and is logged to log; the others go
// on.
func (r Routes) Handler(log *slog.Logger) http.Handler {
	if r.MetricsPath == "" {
		r.MetricsPath = "/metrics"
	}
	page := newPage(r.MetricsPath)
	paths := map[string]http.Handler{
		"/": readOnly(page),
	}
	for _, path := range healthPaths() {
		paths[path] = readOnly(http.HandlerFunc(health))
	}
	for path, h := range r.Pages {
		paths[path] = readOnly(h)
	}
	for path, h := range r.Actions {
		paths[path] = action(h)
	}
	if r.Status != nil {
		paths["/status"] = readOnly(statusHandler(r.Status, log))
	}
	maps.Copy(paths, r.Probes)
	if r.Metrics != nil {
		paths[r.MetricsPath] = readOnly(r.Metrics)
	}
	return recovered(log, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		policy := "default-src 'none'; frame-ancestors 'none'"
		if req.URL.Path == "/" {
			policy = page.policy
		}
		secure(w.Header(), policy)
		if h := paths[req.URL.Path]; h != nil {
			h.ServeHTTP(w, req)
			return
		}
		http.Error(w, "404: there is nothing here; / lists what there is", http.StatusNotFound)
	}))
}

// healthPaths say that the sidecar itself runs: the first is redis_exporter's, the
// others are the usual ones of Prometheus' own programs.
func healthPaths() []string { return []string{"/health", "/-/healthy", "/-/ready"} }

func health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, "ok\n")
}

// statusHandler answers what status returns, as JSON that a person can read.
func statusHandler(status func() any, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var body bytes.Buffer
		enc := json.NewEncoder(&body)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false) // nosniff: no browser takes it for HTML
		if err := enc.Encode(status()); err != nil {
			log.Error("status cannot be written as JSON", "error", err)
			http.Error(w, "500: the status cannot be written as JSON; see the log", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(body.Bytes())
	})
}

// readOnly lets GET and HEAD through.
func readOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "405: only GET", http.StatusMethodNotAllowed)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// action lets GET, POST and PUT through: redis_exporter reloads by any method,
// Prometheus' own programs by POST and PUT.
func action(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet, http.MethodPost, http.MethodPut:
			h.ServeHTTP(w, r)
		default:
			w.Header().Set("Allow", "GET, POST, PUT")
			http.Error(w, "405: only POST, PUT and GET", http.StatusMethodNotAllowed)
		}
	})
}

// secure sets headers that forbid a browser what nothing here needs, unless the
// configuration file set them already.
func secure(h http.Header, contentPolicy string) {
	for _, header := range [...][2]string{
		{"Content-Security-Policy", contentPolicy},
		{"X-Content-Type-Options", "nosniff"},
		{"X-Frame-Options", "deny"},
		{"Referrer-Policy", "no-referrer"},
	} {
		if h.Get(header[0]) == "" {
			h.Set(header[0], header[1])
		}
	}
}

// recovered turns a panic into a 500 and a log line.
func recovered(log *slog.Logger, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v) // how a handler cuts a connection on purpose
			}
			log.Error("a handler panicked", "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
			http.Error(w, "500: a defect of the sidecar; see its log", http.StatusInternalServerError)
		}()
		h.ServeHTTP(w, r)
	})
}
