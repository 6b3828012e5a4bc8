package backup

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// The commands of docs/fetch-by-hand.md, run as they stand there: they get a
// snapshot out of a real S3 server with the Debian packages aws, age and zstd,
// and a server started from it holds the same data.
func TestFetchByHand(t *testing.T) {
	for _, name := range []string{"aws", "age", "zstd"} {
		testenv.Program(t, name, "make test installs the Debian packages awscli, age and zstd")
	}
	values, script := byHand(t)
	r := testenv.StartRedis(t)
	fillRandom(t, r, 300, 1000)
	r.Do(t, "SET", "soon", "gone", "EX", "86400")
	s, s3 := s3Store(t)
	recipient, keyFile := ageKey(t)
	for name, recipients := range map[string][]string{"Plain": nil, "Encrypted": {recipient}} {
		t.Run(name, func(t *testing.T) {
			sn := newTestSnapshotter(t, r, s, func(o *SnapshotOptions) { o.Encryption.Recipients = recipients })
			mustSnapshot(t, sn) // an older one
			m := mustSnapshot(t, sn)
			mine := map[string]string{
				"endpoint":  s3.Endpoint,
				"snapshots": "s3://" + testBucket + "/pre/fix/test/snapshots",
				"key":       keyFile,
			}
			if got, want := slices.Sorted(maps.Keys(values)), slices.Sorted(maps.Keys(mine)); !slices.Equal(got, want) {
				t.Fatalf("the page asks for %q, the test has %q", got, want)
			}
			var text strings.Builder
			text.WriteString("set -euo pipefail\n")
			for name, value := range mine {
				text.WriteString(name + "='" + value + "'\n")
			}
			text.WriteString(script)
			dir := t.TempDir()
			cmd := exec.CommandContext(testContext(t), "bash", "-c", text.String())
			cmd.Dir = dir
			cmd.Env = append(s3.Environ(), "PATH="+os.Getenv("PATH"), "HOME="+dir, "AWS_DEFAULT_REGION="+s3.Region)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range []string{m.Object.Name + ": OK", "dump.rdb: OK"} {
				if !bytes.Contains(out, []byte(want)) {
					t.Errorf("no %q in:\n%s", want, out)
				}
			}
			plain, err := os.ReadFile(filepath.Join(dir, "dump.rdb"))
			if err != nil || hexSHA256(plain) != m.RDB.SHA256 {
				t.Fatalf("dump.rdb has %d bytes and another SHA-256: %v", len(plain), err)
			}
			if got, want := testenv.StartRedisIn(t, dir).Digest(t), r.Digest(t); got != want {
				t.Errorf("digest %s, want %s", got, want)
			}
		})
	}
}

// byHand returns the variables that the page leaves to its reader, and its
// commands.
func byHand(tb testing.TB) (values map[string]string, script string) {
	tb.Helper()
	page, err := os.ReadFile(filepath.Join(testenv.Root(tb), "docs", "fetch-by-hand.md"))
	if err != nil {
		tb.Fatal(err)
	}
	values = map[string]string{}
	for _, block := range regexp.MustCompile("(?ms)^```sh(.*?)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		if strings.TrimSpace(block[1]) != "yours" {
			script += block[2]
			continue
		}
		for _, line := range regexp.MustCompile(`(?m)^([a-z]+)=(\S+)`).FindAllStringSubmatch(block[2], -1) {
			values[line[1]] = line[2]
		}
	}
	if script == "" || len(values) == 0 {
		tb.Fatal("the page has no commands")
	}
	return values, script
}
