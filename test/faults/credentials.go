package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func credentialRows() []row {
	var rows []row
	for _, p := range snapshotPlaces() {
		for _, rotated := range []bool{true, false} {
			step := "expire at " + p.name
			if rotated {
				step += ", others are in the file by then"
			}
			rows = append(rows, row{group: groupCredentials, step: step, runs: 1, quick: p.name == "commit", do: func(t *trial) { expire(t, p, rotated) }})
		}
	}
	return rows
}

// expire has the server forget the credentials at a request. With others in the
// file the snapshot goes on; without, it fails and says so, and the next one with
// others succeeds.
func expire(t *trial, p place, rotated bool) {
	w := newWorld(t, options{})
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(access, secret string) {
		text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", access, secret)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	access, secret := fmt.Sprintf("user-%d", w.random.Uint64()), fmt.Sprintf("secret-%d", w.random.Uint64())
	t.s3.CreateAdmin(t, access, secret)
	write(access, secret)
	var env []string
	for _, kv := range w.env {
		if !strings.HasPrefix(kv, "AWS_") {
			env = append(env, kv)
		}
	}
	w.env = append(env, "AWS_SHARED_CREDENTIALS_FILE="+file)

	r := trouble{}.at(p)
	r.Times = 1
	r.Do = func() {
		t.s3.DeleteUser(t, access)
		if rotated {
			write(t.s3.AccessKey, t.s3.SecretKey)
		}
	}
	before := w.truth.saves()
	w.store.Set(r)
	run := w.start("backup", "now")
	code := run.wait(w, 5*time.Minute)
	if w.store.Struck() == 0 {
		w.Fatalf("the store was not asked for that: %q", w.store.Requests())
	}
	w.disarm()
	want := fails
	if rotated {
		want = succeeds
	}
	w.judge(run, code, want)
	w.outcomeOf(before, w.outcome, w.outcome)
	write(t.s3.AccessKey, t.s3.SecretKey)
	again := w.start("backup", "now")
	if code := again.wait(w, time.Minute); code != 0 {
		w.violated(otherFault, "the next backup, with new credentials: exit code %d\n%s", code, again.stderr.String())
	}
	w.checkNew(before)
}
