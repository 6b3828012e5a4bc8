package backup

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// ageKey makes a key pair, with the secret half in a file of the test's own.
func ageKey(tb testing.TB) (recipient, file string) {
	tb.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		tb.Fatal(err)
	}
	return key.Recipient().String(), keyFile(tb, "# a comment\n\n"+key.String()+"\n")
}

func keyFile(tb testing.TB, text string) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "key.txt")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

func hybridKey(tb testing.TB) (recipient, file string) {
	tb.Helper()
	key, err := age.GenerateHybridIdentity()
	if err != nil {
		tb.Fatal(err)
	}
	return key.Recipient().String(), keyFile(tb, key.String())
}

func TestEncryptedSnapshot(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "secret-key", 2000, 300)
	s, root := dirStore(t)
	mine, mineFile := ageKey(t)
	safe, safeFile := ageKey(t)
	other, otherFile := ageKey(t)
	sn := newTestSnapshotter(t, r, s, func(o *SnapshotOptions) {
		o.Encryption = Encryption{Recipients: []string{mine}, RecipientsFile: keyFile(t, "# in the safe\n"+safe+"\n"+mine+"\n")}
	})
	m := mustSnapshot(t, sn)
	if m.Object.Encryption != EncryptionAge || m.Object.Name != "dump.rdb.zst.age" || !slices.Equal(m.Object.Recipients, []string{mine, safe}) {
		t.Errorf("object %+v", m.Object)
	}
	c := newTestCatalogue(t, s)
	stored, err := os.ReadFile(filepath.Join(root, c.ObjectKey(m)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(stored, []byte("age-encryption.org/v1\n")) || bytes.Contains(stored, []byte("secret-key")) {
		t.Errorf("the object begins with %q", stored[:40])
	}

	for _, file := range []string{mineFile, safeFile} {
		with := c.WithIdentityFile(file)
		if got := with.Level(m); got != LevelFull {
			t.Errorf("level %s", got)
		}
		if _, err := with.Verify(testContext(t), m.ID, nil); err != nil {
			t.Error(err)
		}
	}
	if got, want := serverOf(t, c.WithIdentityFile(safeFile), m).Digest(t), r.Digest(t); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}

	// Without the key the stored bytes can be compared, no more.
	if got := c.Level(m); got != LevelStored {
		t.Errorf("level %s without an identity", got)
	}
	var last Progress
	if _, err := c.Verify(testContext(t), m.ID, func(p Progress) { last = p }); err != nil || last.Stored != m.Object.Size {
		t.Errorf("verify without an identity: %v, progress %+v", err, last)
	}
	_, err = c.WithIdentityFile(otherFile).Verify(testContext(t), m.ID, nil)
	checkError(t, err, status.ReasonKey, "is encrypted for "+mine+", "+safe+", and "+otherFile+" holds the identity of "+other, "backup.encryption.identity-file")

	// Any byte of it, with and without the key.
	for _, at := range []int{30, len(stored) / 2, len(stored) - 1} {
		bad := bytes.Clone(stored)
		bad[at] ^= 0x40
		put(t, s, c.ObjectKey(m), string(bad))
		for _, c := range []*Catalogue{c, c.WithIdentityFile(mineFile)} {
			_, err := c.Verify(testContext(t), m.ID, nil)
			wantError(t, err, status.ReasonCorrupt, "is damaged: ")
		}
	}
	// An object for somebody else in its place.
	var foreign bytes.Buffer
	theirs, _ := age.ParseX25519Recipient(other)
	w, err := age.Encrypt(&foreign, theirs)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(make([]byte, len(stored)+128<<10))
	put(t, s, c.ObjectKey(m), foreign.String()[:len(stored)])
	_, err = c.WithIdentityFile(mineFile).Verify(testContext(t), m.ID, nil)
	wantError(t, err, status.ReasonCorrupt, "is damaged: ")
}

func TestEncryptedHybrid(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 10, 10)
	s, _ := dirStore(t)
	name, file := hybridKey(t)
	m := mustSnapshot(t, newTestSnapshotter(t, r, s, func(o *SnapshotOptions) { o.Encryption.Recipients = []string{name} }))
	c := newTestCatalogue(t, s)
	if _, err := c.WithIdentityFile(file).Verify(testContext(t), m.ID, nil); err != nil {
		t.Error(err)
	}
	_, otherFile := ageKey(t)
	_, err := c.WithIdentityFile(otherFile).Verify(testContext(t), m.ID, nil)
	wantError(t, err, status.ReasonKey, "is encrypted for age1pq1")
	if len(err.Error()) > 400 {
		t.Errorf("%d letters of error", len(err.Error()))
	}
}

// An encrypted snapshot is not restored without its key, and nothing is touched.
func TestEncryptedRestore(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 100, 100)
	s, _ := dirStore(t)
	name, file := ageKey(t)
	_, otherFile := ageKey(t)
	m := mustSnapshot(t, newTestSnapshotter(t, r, s, func(o *SnapshotOptions) { o.Encryption.Recipients = []string{name} }))
	c := newTestCatalogue(t, s)
	dir := t.TempDir()
	for file, want := range map[string]string{
		"":                         "is encrypted for " + name + ", and no identity is given",
		otherFile:                  "holds the identity of age1",
		filepath.Join(dir, "none"): "none: no such file or directory",
	} {
		_, err := Restore(testContext(t), RestoreOptions{Dir: dir}, c.WithIdentityFile(file), slog.New(slog.DiscardHandler), nil)
		checkError(t, err, status.ReasonKey, want, "backup.encryption.identity-file")
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in the directory: %v, %v", left, err)
		}
	}
	res, err := Restore(testContext(t), RestoreOptions{Dir: dir}, c.WithIdentityFile(file), slog.New(slog.DiscardHandler), nil)
	if err != nil || res.ID != m.ID {
		t.Fatal(res, err)
	}
	if got, want := testenv.StartRedisIn(t, dir).Digest(t), r.Digest(t); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

// Whatever is wrong with a key: the snapshot is not taken in the clear, and no
// message holds a secret.
func TestEncryptionKeys(t *testing.T) {
	good, goodFile := ageKey(t)
	hybrid, _ := hybridKey(t)
	secret, err := os.ReadFile(goodFile)
	if err != nil {
		t.Fatal(err)
	}
	secretKey := strings.TrimSpace(string(secret[strings.Index(string(secret), "AGE-"):]))
	for text, want := range map[string]string{
		"":                               "is no public key of age",
		"age1":                           "was cut short or mistyped",
		good[:len(good)-1]:               "was cut short or mistyped",
		strings.ToUpper(good[:30]):       "is no public key of age",
		secretKey:                        "is an identity",
		strings.ToLower(secretKey):       "is an identity",
		"ssh-ed25519 AAAAC3NzaC1lZDI1NT": "is an SSH key",
		"age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t": "is a key of a plugin",
	} {
		err := CheckRecipients([]string{text})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("recipient %.20q: %v, want %q", text, err, want)
		}
		if err != nil && len(text) > 10 && strings.Contains(strings.ToUpper(err.Error()), strings.ToUpper(text[10:])) {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
	if err := CheckRecipients([]string{good, hybrid}); err == nil || !strings.Contains(err.Error(), "mix") {
		t.Errorf("both kinds: %v", err)
	}
	if err := CheckRecipients([]string{good, good}); err != nil {
		t.Errorf("one twice: %v", err)
	}

	s, _ := dirStore(t)
	r := testenv.StartRedis(t)
	for _, file := range []string{keyFile(t, "# none\n"), keyFile(t, good+"\n"+secretKey), filepath.Join(t.TempDir(), "gone"), t.TempDir()} {
		_, err := newTestSnapshotter(t, r, s, func(o *SnapshotOptions) { o.Encryption.RecipientsFile = file }).Snapshot(testContext(t), nil)
		checkError(t, err, status.ReasonKey, "recipients of the encryption: "+file+": ", "")
		if strings.Contains(err.Error(), secretKey[10:]) {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
	wantKeys(t, s)

	for text, want := range map[string]string{
		"":                                    "it holds no key",
		good:                                  "is a public one",
		secretKey[:40]:                        "key 1 is none of age",
		secretKey + "\nnonsense":              "key 2 is none of age",
		"AGE-PLUGIN-YUBIKEY-1QYPQXPQ9QCRSSZ":  "is one of a plugin",
		"age-encryption.org/v1\n-> scrypt":    "it is itself encrypted",
		"-----BEGIN OPENSSH PRIVATE KEY-----": "it is an SSH key",
	} {
		_, err := loadIdentities(keyFile(t, text))
		checkError(t, err, status.ReasonKey, want, "age-keygen")
		if err != nil && strings.Contains(err.Error(), secretKey[16:]) {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
	if w := IdentityFileWarning(goodFile); w != "" {
		t.Errorf("0600: %s", w)
	}
	if err := os.Chmod(goodFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if w := IdentityFileWarning(goodFile); !strings.Contains(w, "0644") {
		t.Errorf("0644: %q", w)
	}
}
