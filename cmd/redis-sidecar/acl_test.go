package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/announce"
	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/probe"
)

// The rule on a job's page is the one that its package asks for.
func TestDocumentedRights(t *testing.T) {
	for page, want := range map[string][]string{
		"announce.md": announce.Permissions(announce.Auto),
		"backup.md":   backup.Permissions("auto", "auto"),
		"probes.md":   probe.Permissions(),
	} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for w := range strings.FieldsSeq(regexp.MustCompile(`(?m)^ACL SETUSER .*$`).FindString(string(text))) {
			if command, ok := strings.CutPrefix(w, "+"); ok {
				got = append(got, command)
			}
		}
		slices.Sort(got)
		want = append(want, "client|setname")
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("docs/%s (-want +got):\n%s", page, diff)
		}
	}
}

func TestRuleIsQuotedForRedisCLI(t *testing.T) {
	got := rule("bob", []string{"+info", `~a"b\*`, "~plain:*", "+get", "+info"})
	want := `ACL SETUSER bob reset on >PASSWORD "~a\"b\\*" ~plain:* +get +info`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
