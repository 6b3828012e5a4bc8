package web

import (
	"crypto/sha256"
	_ "embed" // page.html
	"encoding/base64"
	"html"
	"net/http"
	"strings"
)

//go:embed page.html
var pageHTML string

// page is the status page. Its content does not change: the script in it asks
// /status. It is one file, so that it works wherever the port is forwarded to.
type page struct {
	body   []byte
	policy string // the Content-Security-Policy that lets this very script and style in
}

// newPage returns the page with a link to where the metrics are.
func newPage(metricsPath string) page {
	link := html.EscapeString(strings.TrimPrefix(metricsPath, "/"))
	body := strings.Replace(pageHTML, `href="metrics"`, `href="`+link+`"`, 1)
	return page{body: []byte(body), policy: strings.Join([]string{
		"default-src 'none'",
		"connect-src 'self'",
		"img-src data:",
		"style-src " + hashOf(pageHTML, "style"),
		"script-src " + hashOf(pageHTML, "script"),
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}, "; ")}
}

// ServeHTTP answers the page.
func (p page) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(p.body)
}

// hashOf returns the source expression for the text of the only such element.
func hashOf(text, element string) string {
	_, text, _ = strings.Cut(text, "<"+element+">")
	text, _, _ = strings.Cut(text, "</"+element+">")
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
