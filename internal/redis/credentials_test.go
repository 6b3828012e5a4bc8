package redis_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
)

func TestPasswordFromFile(t *testing.T) {
	for name, tc := range map[string]struct{ text, want, err string }{
		"plain":         {"hush", "hush", ""},
		"one line end":  {"hush\n", "hush", ""},
		"windows":       {"hush\r\n", "hush", ""},
		"blanks kept":   {" hu sh \n", " hu sh ", ""},
		"empty":         {"", "", ""},
		"two lines":     {"hush\nagain\n", "", "has more than one line"},
		"map":           {`{"redis://h:6379":"hush","redis://other:6379":"no"}`, "hush", ""},
		"map, no port":  {`{"redis://h":"hush"}`, "hush", ""},
		"map, no entry": {`{"redis://other:6379":"hush"}`, "", "has no password for h:6379"},
		"map, broken":   {`{"redis://h:6379":"hush"`, "", "is not a JSON object of strings"},
		"map of others": {`{"redis://h:6379":{"hush":1}}`, "", "is not a JSON object of strings"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pw")
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := redis.PasswordFromFile(path, "redis://h:6379", "")
			if got != tc.want || (err == nil) != (tc.err == "") || (err != nil && !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("%q, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
	if _, err := redis.PasswordFromFile(filepath.Join(t.TempDir(), "absent"), "h:1", ""); !os.IsNotExist(err) {
		t.Errorf("absent file: %v", err)
	}
}

// redis_exporter puts the user into the key, whether it stands in the address or
// is a setting of its own.
func TestPasswordFromFileByUser(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pw")
	text := `{"redis://h:6379":"nobody's","redis://u@h:6379":"u's","redis://v:@h:6379":"v's","rediss://u@h:6379":"over TLS"}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 20 { // maps have no order
		for _, tc := range []struct{ addr, user, want string }{
			{"redis://h:6379", "", "nobody's"},
			{"redis://h:6379", "u", "u's"},
			{"redis://u@h:6379", "u", "u's"},
			{"h:6379", "v", "v's"},
			{"h", "w", "nobody's"},
			{"rediss://h:6379", "u", "over TLS"},
		} {
			if got, err := redis.PasswordFromFile(path, tc.addr, tc.user); got != tc.want || err != nil {
				t.Fatalf("%s as %q: %q, %v; want %q", tc.addr, tc.user, got, err, tc.want)
			}
		}
	}
}

// A server that is not the sidecar's own gets only what is meant for it.
func TestListedPassword(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		text, want string
		found      bool
	}{
		"plain":         {"hush", "", false},
		"map":           {`{"redis://h:6379":"hush","redis://other:6379":"no"}`, "hush", true},
		"map, no entry": {`{"redis://other:6379":"hush"}`, "", false},
	} {
		path := filepath.Join(dir, "pw")
		if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, found, err := redis.ListedPassword(path, "h:6379", ""); got != tc.want || found != tc.found || err != nil {
			t.Errorf("%s: %q, %t, %v", name, got, found, err)
		}
	}
	if _, _, err := redis.ListedPassword(filepath.Join(dir, "absent"), "h:1", ""); !os.IsNotExist(err) {
		t.Errorf("absent file: %v", err)
	}
}
