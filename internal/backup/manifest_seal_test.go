package backup

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// sealedAgain gives a manifest that was altered the checksum of what it is now. What
// has none stays as it is.
func sealedAgain(b []byte) []byte {
	bare, _, ok := bytes.Cut(b, []byte(sealBegin))
	if !ok {
		return b
	}
	return seal(append(bytes.Clone(bare), bareEnd...))
}

// Whichever bit of a manifest is another one, it is refused, and nobody is told to
// upgrade, or keeps it for a newer program.
func TestManifestAltered(t *testing.T) {
	m := testManifest(noon, 3)
	m.Object.FrameSize = frameSize
	m.Slots = []SlotRange{{0, 5460}}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseManifest(b); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		for bit := range 8 {
			altered := bytes.Clone(b)
			altered[i] ^= 1 << bit
			if _, err := ParseManifest(altered); err == nil || errors.Is(err, ErrNewerFormat) {
				t.Errorf("byte %d, bit %d: %q: %v", i, bit, altered[max(0, i-20):min(len(b), i+20)], err)
			}
		}
	}
	for name, altered := range map[string][]byte{
		"a space more":     append(bytes.Clone(b), ' '),
		"a line end less":  b[:len(b)-1],
		"another member":   bytes.Replace(b, []byte("\n}\n"), []byte(",\n  \"more\": 1\n}\n"), 1),
		"no checksum":      []byte(strings.Split(string(b), sealBegin)[0] + bareEnd),
		"an empty one":     []byte(strings.Split(string(b), sealBegin)[0] + sealBegin + sealEnd),
		"written in a row": bytes.ReplaceAll(b, []byte("\n"), nil),
	} {
		_, err := ParseManifest(altered)
		if err == nil || status.ReasonOf(err) != status.ReasonCorrupt || !strings.HasPrefix(err.Error(), "manifest: checksum is ") || !strings.HasSuffix(err.Error(), ": it was altered") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A checksum that is there is checked, whatever else the manifest says.
func TestManifestChecksumMoved(t *testing.T) {
	b, err := testManifest(noon, 3).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, altered := range map[string][]byte{
		"indented by four": bytes.ReplaceAll(b, []byte("\n  \""), []byte("\n    \"")),
		"line ends of DOS": bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseManifest(altered)
			wantError(t, err, status.ReasonCorrupt, "manifest: checksum is missing, or not the last member as it was written: it was altered")
		})
	}
}

// A manifest of before there were checksums is read.
func TestManifestWithoutChecksum(t *testing.T) {
	m := testManifest(noon, 3)
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	bare := []byte(strings.Split(string(b), sealBegin)[0] + bareEnd)
	if got, err := ParseManifest(bare); err != nil || got.ID != m.ID {
		t.Errorf("%s, %v", got.ID, err)
	}
}

// The command in docs/object-format.md finds the same checksum.
func TestManifestChecksumByHand(t *testing.T) {
	page, err := os.ReadFile("../../docs/object-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "```sh\n(sed")
	command, _, end := strings.Cut(rest, "```")
	if !ok || !end {
		t.Fatal("the page has no such command")
	}
	b, err := testManifest(noon, 3).Encode()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/manifest.json", b, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(testContext(t), "sh", "-c", "(sed"+command)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, sum, _ := strings.Cut(string(b), sealBegin)
	if sum, _, _ = strings.Cut(sum, `"`); strings.Fields(string(out))[0] != sum {
		t.Errorf("%s, want %s", out, sum)
	}
}
