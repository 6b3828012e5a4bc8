package settings

import (
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
)

// redacted stands wherever a secret would stand.
const redacted = "**redacted**"

// Secret is a value that does not show itself: every way of printing,
// formatting, logging or marshalling it gives a placeholder, or nothing when it
// is empty.
type Secret string

// Reveal returns the value.
func (s Secret) Reveal() string { return string(s) }

// String returns the placeholder.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString returns the placeholder, for %#v.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// Format writes the placeholder for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue returns the placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns the placeholder, for JSON and others.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// holdsIdentity tells whether somebody has put the secret half of an age key
// where it does not belong.
func holdsIdentity(text string) bool {
	return strings.Contains(strings.ToUpper(text), "AGE-SECRET-KEY-")
}

// RedactURL replaces the password of a URL, if there is one, and the values of
// query parameters that are named like a secret. Without a scheme all that
// stands before a host is taken for a password.
func RedactURL(raw string) string {
	base, query, ok := strings.Cut(raw, "?")
	if !ok {
		return redactUserinfo(raw)
	}
	params := strings.Split(query, "&")
	for i, p := range params {
		name, _, _ := strings.Cut(p, "=")
		lower := strings.ToLower(name)
		if slices.ContainsFunc([]string{"secret", "pass", "token", "key", "credential", "auth"}, func(s string) bool { return strings.Contains(lower, s) }) {
			params[i] = name + "=" + redacted
		}
	}
	return redactUserinfo(base) + "?" + strings.Join(params, "&")
}

func redactUserinfo(raw string) string {
	at := strings.LastIndex(raw, "@") // the last: a password may hold one
	if at <= 0 {
		return raw
	}
	before, host := raw[:at], raw[at:]
	scheme, userinfo, ok := strings.Cut(before, "://")
	if !ok || strings.Contains(scheme, "@") { // a list may begin with one that has no scheme
		return redacted + host
	}
	user, _, hasPassword := strings.Cut(userinfo, ":")
	if !hasPassword {
		return raw
	}
	return scheme + "://" + url.PathEscape(user) + ":" + redacted + host
}
