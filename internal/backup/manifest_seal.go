package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// A manifest decides what is restored, when it is of, and which slots a node gets.
// So its last member is the SHA-256 of all before it, that is, of the manifest
// without this member: one that was altered, on the way or where it lies, is
// refused. It is no signature: whoever writes to the store writes this, too.
//
// Manifests from before there were frames (Object.FrameSize) have none.

const (
	sealBegin = ",\n  \"checksum\": \""
	sealEnd   = "\"\n}\n"
	bareEnd   = "\n}\n"
)

// seal adds the checksum to an indented manifest.
func seal(b []byte) []byte {
	sum := sha256.Sum256(b)
	out := bytes.Clone(bytes.TrimSuffix(b, []byte(bareEnd)))
	return append(out, sealBegin+hex.EncodeToString(sum[:])+sealEnd...)
}

// checkSeal compares the checksum of a manifest with what it should be.
func (m Manifest) checkSeal(b []byte) error {
	var is struct {
		Checksum *string `json:"checksum"`
	}
	if err := json.Unmarshal(b, &is); err != nil {
		return err
	}
	if is.Checksum == nil {
		if m.Object.FrameSize > 0 {
			return errors.New("checksum is missing: it was altered")
		}
		return nil
	}
	bare, ok := bytes.CutSuffix(b, []byte(sealBegin+*is.Checksum+sealEnd))
	if !ok {
		return errors.New("checksum is not the last member, written as it was: it was altered")
	}
	sum := sha256.Sum256(append(bytes.Clone(bare), bareEnd...))
	if want := hex.EncodeToString(sum[:]); *is.Checksum != want {
		return fmt.Errorf("checksum is %.80q, want %q: it was altered", *is.Checksum, want)
	}
	return nil
}
