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
			got, err := redis.PasswordFromFile(path, "redis://h:6379")
			if got != tc.want || (err == nil) != (tc.err == "") || (err != nil && !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("%q, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
	if _, err := redis.PasswordFromFile(filepath.Join(t.TempDir(), "absent"), "h:1"); !os.IsNotExist(err) {
		t.Errorf("absent file: %v", err)
	}
}
