package store

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/encrypt"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// objectOptions are what the URL says about the objects of Put.
func (s *S3) objectOptions() minio.PutObjectOptions {
	opts := s.recordOptions()
	opts.StorageClass = s.url.StorageClass
	if s.url.LockMode != "" {
		opts.Mode = minio.RetentionMode(s.url.LockMode)
		opts.RetainUntilDate = time.Now().AddDate(0, 0, s.url.LockDays)
	}
	return opts
}

// recordOptions are those of PutIf, whose objects are written anew again and
// again: they are neither locked nor in a class that bills for months.
func (s *S3) recordOptions() minio.PutObjectOptions {
	return minio.PutObjectOptions{
		ServerSideEncryption: s.sse,
		DisableContentSha256: true, // checksum does that, for the whole body
	}
}

// readOptions are those of each request that reads an object.
func (s *S3) readOptions() minio.GetObjectOptions {
	return minio.GetObjectOptions{ServerSideEncryption: s.sse} // of which minio-go sends SSE-C
}

// newSSE returns the encryption that the URL asks for, nil for none.
func newSSE(u URL) (encrypt.ServerSide, error) {
	switch u.SSE {
	case SSES3:
		return encrypt.NewSSE(), nil
	case SSEKMS:
		return encrypt.NewSSEKMS(u.SSEKMSKeyID, nil)
	case SSEC:
		if !strings.HasPrefix(u.Endpoint, "https://") {
			return nil, badURL("use an endpoint with https, or another sse", "store URL: sse=c sends the key with each request, which %s must not see in the clear", u.Endpoint)
		}
		key, err := readSSECKey(u.SSECKeyFile)
		if err != nil {
			return nil, status.WithHint(status.ReasonFile, "make one with: head -c 32 /dev/urandom | base64 > FILE; who loses it loses the snapshots",
				fmt.Errorf("key of sse=c: %w", err))
		}
		return encrypt.NewSSEC(key)
	}
	return nil, nil
}

const ssecKeySize = 32

// readSSECKey reads a key of 32 bytes, as they are or in base64.
func readSSECKey(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	const most = 256 // base64, and white space
	raw := make([]byte, most)
	n, err := f.Read(raw)
	if n == 0 {
		return nil, errors.Join(fmt.Errorf("%s is empty", file), err)
	}
	raw = raw[:n]
	if len(raw) == ssecKeySize {
		return raw, nil
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(key) != ssecKeySize {
		return nil, fmt.Errorf("%s holds neither %d bytes nor the base64 of %d bytes", file, ssecKeySize, ssecKeySize)
	}
	return key, nil
}

// checksum is what goes with the body of a request, so that the server sees
// whether it is what was sent.
type checksum struct {
	sha256Hex string // part of the signature; "" leaves the body out of it
	name      string // of a header of its own: crc32c, sha256 or ""
	value     string // base64
}

// checksum returns that of p, of the kind that the URL asks for.
//
// The SHA-256 in the signature is understood by every server. A checksum in the
// header is newer; Amazon wants one when the object is to be locked.
// The trailers that newer programs send instead are no option: versitygw 1.8.0
// refuses them when the body is signed.
func (s *S3) checksum(p []byte) (c checksum) {
	mode := s.url.Checksum
	if mode == ChecksumAuto || mode == ChecksumSHA256 {
		sum := sha256.Sum256(p)
		c.sha256Hex = hex.EncodeToString(sum[:])
		if mode == ChecksumSHA256 {
			c.name, c.value = "sha256", base64.StdEncoding.EncodeToString(sum[:])
		}
	}
	if mode == ChecksumCRC32C || mode == ChecksumAuto && s.url.LockMode != "" {
		sum := crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli))
		c.name, c.value = "crc32c", base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
	}
	return c
}

const checksumHeader = "X-Amz-Checksum-"

// header returns the headers for the request of a part.
func (c checksum) header() http.Header {
	h := http.Header{}
	if c.name != "" {
		h.Set(checksumHeader+c.name, c.value)
	}
	return h
}

// addTo puts the checksum into the request of a whole object.
func (c checksum) addTo(opts *minio.PutObjectOptions) {
	if c.name != "" {
		opts.UserMetadata = map[string]string{checksumHeader + c.name: c.value}
	}
}

// announceChecksum tells what the parts of an upload will come with.
func (s *S3) announceChecksum(opts *minio.PutObjectOptions) {
	if name := s.checksum(nil).name; name != "" {
		opts.UserMetadata[checksumHeader+"Algorithm"] = strings.ToUpper(name)
	}
}

// part returns what the completion of an upload says about a part.
func (c checksum) part(number int, etag string) minio.CompletePart {
	p := minio.CompletePart{PartNumber: number, ETag: etag}
	switch c.name {
	case "crc32c":
		p.ChecksumCRC32C = c.value
	case "sha256":
		p.ChecksumSHA256 = c.value
	}
	return p
}
