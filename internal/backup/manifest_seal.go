package backup

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

// A manifest decides what is restored, when it is of, and which slots a node gets.
// So its last member is the SHA-256 of all before it, that is, of the manifest
// without this member: one that was altered, on the way or where it lies, is
// refused. It is no signature: whoever writes to the store writes this, too.
//
// It is of bytes and not of what they mean, and the same in every version of the
// format. So it is checked before anything that the manifest says is believed: with
// another bit in it, format_version would ask for an upgrade.
//
// Manifests from before there were frames (Object.FrameSize) have none.

const (
	sealBegin = ",\n  \"checksum\": \""
	sealEnd   = "\"\n}\n"
	bareEnd   = "\n}\n"
)

// seal adds the checksum to an indented manifest.
func seal(b []byte) []byte {
	rest := bytes.TrimSuffix(b, []byte(bareEnd))
	return fmt.Appendf(nil, "%s%s%s%s", rest, sealBegin, sealOf(rest), sealEnd)
}

// sealOf is the checksum of a manifest that would end after rest.
func sealOf(rest []byte) string {
	sum := sha256.New()
	sum.Write(rest)
	sum.Write([]byte(bareEnd))
	return hexSum(sum)
}

// checkSeal compares the checksum that a manifest ends in with what it should be.
// sealed is false when it does not end in one.
func checkSeal(b []byte) (sealed bool, err error) {
	at := bytes.LastIndex(b, []byte(sealBegin))
	if at < 0 {
		return false, nil
	}
	is, sealed := bytes.CutSuffix(b[at+len(sealBegin):], []byte(sealEnd))
	if want := sealOf(b[:at]); sealed && string(is) != want {
		return true, fmt.Errorf("checksum is %.80q, want %q: it was altered", is, want)
	}
	return sealed, nil
}
