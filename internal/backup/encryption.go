package backup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// maxRecipients bounds a manifest, which names them all: one that is safe from
// quantum computers is 2 kB long.
const maxRecipients = 32

// maxKeyFile bounds a file of recipients or identities in bytes.
const maxKeyFile = 1 << 20

// Encryption says for whom objects are encrypted, in the format of age
// (age-encryption.org/v1). Only public keys are needed to back up. The zero value
// is none.
type Encryption struct {
	Recipients     []string // age1…
	RecipientsFile string   // one a line, # begins a comment; read again for every snapshot
}

// recipients are the keys that one object is encrypted for. The zero value is no
// encryption.
type recipients struct {
	keys  []age.Recipient
	names []string // age1…, for the manifest
}

// name is the encryption's name in a manifest.
func (r recipients) name() string {
	if len(r.keys) == 0 {
		return EncryptionNone
	}
	return EncryptionAge
}

// load reads the recipients. Where encryption is asked for it never returns
// none.
func (e Encryption) load() (recipients, error) {
	texts := slices.Clone(e.Recipients)
	if e.RecipientsFile != "" {
		lines, err := keyLines(e.RecipientsFile)
		if err == nil && len(lines) == 0 {
			err = errors.New("it names none")
		}
		if err == nil {
			err = CheckRecipients(lines)
		}
		if err != nil {
			return recipients{}, status.WithHint(status.ReasonKey, "one public key of age (age1…) a line: see backup.encryption.recipients-file",
				fmt.Errorf("recipients of the encryption: %s: %w", e.RecipientsFile, err))
		}
		texts = append(texts, lines...)
	}
	r, err := parseRecipients(texts)
	if err != nil {
		return recipients{}, status.WithReason(status.ReasonKey, fmt.Errorf("recipients of the encryption: %w", err))
	}
	return r, nil
}

// CheckRecipients tells what is wrong with public keys of age: it knows those of
// X25519 (age1…) and the hybrid ones (age1pq1…), and that one object cannot be
// for both kinds. The error never holds a key.
func CheckRecipients(texts []string) error {
	_, err := parseRecipients(texts)
	return err
}

func parseRecipients(texts []string) (recipients, error) {
	var r recipients
	for _, text := range texts {
		if slices.Contains(r.names, text) {
			continue
		}
		key, err := parseRecipient(text)
		if err != nil {
			if len(texts) > 1 {
				err = fmt.Errorf("number %d: %w", slices.Index(texts, text)+1, err)
			}
			return recipients{}, err
		}
		r.keys, r.names = append(r.keys, key), append(r.names, text)
	}
	if len(r.keys) > maxRecipients {
		return recipients{}, fmt.Errorf("%d are more than %d", len(r.keys), maxRecipients)
	}
	if len(r.keys) > 0 {
		if _, err := age.Encrypt(io.Discard, r.keys...); err != nil { // kinds that exclude each other
			return recipients{}, err
		}
	}
	return r, nil
}

func parseRecipient(text string) (age.Recipient, error) {
	var key age.Recipient
	var err error
	switch last := strings.LastIndexByte(text, '1'); {
	case strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY-"):
		return nil, errors.New("is an identity, the secret half of a key: it does not belong here, and is not to be trusted any more; age-keygen -y prints the public half")
	case strings.HasPrefix(text, "ssh-"):
		return nil, errors.New("is an SSH key: use one of age-keygen, age1…")
	case strings.HasPrefix(text, "age1pq1"):
		key, err = age.ParseHybridRecipient(text)
	case strings.HasPrefix(text, "age1") && last > len("age1")-1: // the data part of such a key has no 1
		return nil, errors.New("is a key of a plugin: use one of age-keygen, age1…")
	case strings.HasPrefix(text, "age1"):
		key, err = age.ParseX25519Recipient(text)
	default:
		return nil, errors.New("is no public key of age: age1…")
	}
	if err != nil { // its text repeats the key
		return nil, errors.New("is no public key of age: it begins with age1, but was cut short or mistyped")
	}
	return key, nil
}

// identities are the secret keys that open objects. They have no text form on
// purpose.
type identities struct {
	file       string
	keys       []age.Identity
	recipients []string // the public half of each
}

// loadIdentities reads a file as age-keygen writes it. Errors say a line's
// number, never what it holds.
func loadIdentities(file string) (identities, error) {
	ids, err := readIdentities(file)
	if err != nil {
		return identities{}, status.WithHint(status.ReasonKey, "a file as age-keygen writes it: see backup.encryption.identity-file",
			fmt.Errorf("identities to decrypt with: %s: %w", file, err))
	}
	return ids, nil
}

func readIdentities(file string) (identities, error) {
	lines, err := keyLines(file)
	if err != nil {
		return identities{}, err
	}
	ids := identities{file: file}
	for i, line := range lines {
		var name string
		var key age.Identity
		var err error
		switch {
		case strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1"):
			var k *age.HybridIdentity
			if k, err = age.ParseHybridIdentity(line); err == nil {
				key, name = k, k.Recipient().String()
			}
		case strings.HasPrefix(line, "AGE-SECRET-KEY-1"):
			var k *age.X25519Identity
			if k, err = age.ParseX25519Identity(line); err == nil {
				key, name = k, k.Recipient().String()
			}
		case strings.HasPrefix(line, "AGE-PLUGIN-"):
			return identities{}, fmt.Errorf("key %d is one of a plugin: those are not supported", i+1)
		case strings.HasPrefix(line, "age-encryption.org/"), strings.HasPrefix(line, "-----BEGIN AGE"):
			return identities{}, errors.New("it is itself encrypted: decrypt it first")
		case strings.HasPrefix(line, "-----BEGIN"):
			return identities{}, errors.New("it is an SSH key: those are not supported")
		case strings.HasPrefix(line, "age1"):
			return identities{}, fmt.Errorf("key %d is a public one: the secret half is needed, AGE-SECRET-KEY-1…", i+1)
		default:
			err = errors.New("of no known kind")
		}
		if err != nil { // its text may hold parts of the key
			return identities{}, fmt.Errorf("key %d is none of age: AGE-SECRET-KEY-1…", i+1)
		}
		ids.keys, ids.recipients = append(ids.keys, key), append(ids.recipients, name)
	}
	if len(ids.keys) == 0 {
		return identities{}, errors.New("it holds no key")
	}
	return ids, nil
}

// keyLines returns the lines of a file that are neither empty nor comments. The
// error is without the path.
func keyLines(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		if pe, ok := errors.AsType[*os.PathError](err); ok {
			err = pe.Err
		}
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, errors.New("cannot be read")
	}
	if len(b) > maxKeyFile {
		return nil, fmt.Errorf("larger than %d bytes", maxKeyFile)
	}
	var lines []string
	scanner := bufio.NewScanner(bytes.NewReader(b))
	scanner.Buffer(nil, maxKeyFile+1)
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		if line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines, scanner.Err()
}

// IdentityFileWarning says, for people, who else may read a file of identities
// than its owner and group; "" when nobody may. A mounted Secret with an fsGroup
// is open to the group.
func IdentityFileWarning(file string) string {
	st, err := os.Stat(file)
	if err != nil || st.Mode().Perm()&0o007 == 0 {
		return ""
	}
	return fmt.Sprintf("everybody on this system may read the identities in %s (mode %04o): chmod 0600, or defaultMode: 0400 of the volume", file, st.Mode().Perm())
}

// open returns what r holds for a recipient among the identities. Errors of the
// reader are about the object: every 64 KiB of it are authenticated.
func (ids identities) open(r io.Reader) (io.Reader, error) {
	return age.Decrypt(r, ids.keys...)
}

// checkKey makes sure, without asking the store, that the identities of the
// catalogue open a snapshot.
func (c *Catalogue) checkKey(m Manifest) (identities, error) {
	if m.Object.Encryption != EncryptionAge {
		return identities{}, nil
	}
	if c.identityFile == "" {
		return identities{}, status.WithHint(status.ReasonKey, "set backup.encryption.identity-file to the file with the secret half of that key",
			fmt.Errorf("snapshot %s is encrypted for %s, and no identity is given to decrypt it with", m.ID, shortKeys(m.Object.Recipients)))
	}
	ids, err := loadIdentities(c.identityFile)
	if err != nil {
		return identities{}, err
	}
	if !slices.ContainsFunc(ids.recipients, func(name string) bool { return slices.Contains(m.Object.Recipients, name) }) {
		return identities{}, wrongKey(m, ids)
	}
	return ids, nil
}

// wrongKey is the error for identities that do not open a snapshot. When they
// should and do not, the object is damaged.
func wrongKey(m Manifest, ids identities) error {
	return status.WithHint(status.ReasonKey, "backup.encryption.identity-file must hold the secret half of one of the keys that the snapshot is encrypted for",
		fmt.Errorf("snapshot %s is encrypted for %s, and %s holds the identity of %s", m.ID, shortKeys(m.Object.Recipients), ids.file, shortKeys(ids.recipients)))
}

// shortKeys lists public keys for an error.
func shortKeys(names []string) string {
	const shown, long = 5, 80
	var texts []string
	for _, name := range names[:min(len(names), shown)] {
		if len(name) > long {
			name = name[:20] + "…" + name[len(name)-8:]
		}
		texts = append(texts, name)
	}
	if more := len(names) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("%d others", more))
	}
	return strings.Join(texts, ", ")
}
