package store

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// URL is a store's address, parsed. Either Dir or Bucket is set.
type URL struct {
	Dir string // absolute, clean

	Bucket             string
	Prefix             string    // without slashes at its ends; may be empty
	Endpoint           string    // http(s)://host[:port]; empty: Amazon S3, or AWS_ENDPOINT_URL
	Region             string    // empty: AWS_REGION, or us-east-1
	PathStyle          PathStyle // where the bucket's name goes in a request
	CAFile             string    // PEM file with additional certificate authorities
	InsecureSkipVerify bool      // accept any certificate
	PartSize           int64     // bytes of one part of a large upload, a multiple of 1 MiB
	Checksum           Checksum  // what goes with each body that is sent
	SSE                SSE       // encryption by the server; empty: the bucket's own
	SSEKMSKeyID        string    // with SSEKMS; empty: the bucket's, or the server's
	SSECKeyFile        string    // with SSEC
	StorageClass       string    // of snapshots; empty: the bucket's
	LockMode           LockMode  // of snapshots; empty: the bucket's
	LockDays           int       // with LockMode
}

// Checksum says what goes with each body that is sent.
type Checksum string

// The checksums.
const (
	ChecksumAuto   Checksum = "auto"   // SHA-256 in the signature; with LockMode a CRC32C as well
	ChecksumSHA256 Checksum = "sha256" // SHA-256 in the signature and as a checksum that the server keeps
	ChecksumCRC32C Checksum = "crc32c" // CRC32C that the server keeps, the signature leaves the body out
	ChecksumNone   Checksum = "none"   // nothing
)

// SSE is a kind of encryption by the server.
type SSE string

// The kinds of encryption by the server.
const (
	SSES3  SSE = "s3"  // by a key of the store
	SSEKMS SSE = "kms" // by a key of its key management
	SSEC   SSE = "c"   // by a key that each request brings along
)

// LockMode is how fast the lock of an object is.
type LockMode string

// The lock modes, as S3 writes them.
const (
	LockGovernance LockMode = "GOVERNANCE" // who has the right to may lift it
	LockCompliance LockMode = "COMPLIANCE" // nobody may
)

// PathStyle says where the bucket's name goes in a request.
type PathStyle int

// The path styles.
const (
	PathStyleAuto PathStyle = iota // host name for Amazon and Google, path for all others
	PathStyleOn                    // https://endpoint/bucket/key
	PathStyleOff                   // https://bucket.endpoint/key
)

const (
	mib             = 1 << 20
	defaultPartSize = 8 * mib
	minPartSize     = 5 * mib    // the least that S3 accepts
	maxPartSize     = 5120 * mib // the most
	maxParts        = 10_000     // of one upload
)

// String names the store for people; it holds no secret because ParseURL
// accepts none.
func (u URL) String() string {
	if u.Dir != "" {
		return "file://" + u.Dir
	}
	s := "s3://" + u.Bucket
	if u.Prefix != "" {
		s += "/" + u.Prefix
	}
	if u.Endpoint != "" {
		s += " (" + u.Endpoint + ")"
	}
	return s
}

// ParseURL parses and checks a store's URL without touching the network or the
// disk. It understands
//
//	s3://bucket/prefix?endpoint=https://host:port&region=name&path-style=true|false
//	    &ca-file=/path&insecure-skip-verify=true|false&part-size=16MiB
//	    &checksum=auto|sha256|crc32c|none&storage-class=NAME
//	    &sse=s3|kms|c&sse-kms-key-id=ID&sse-c-key-file=/path
//	    &object-lock=governance|compliance&object-lock-days=N
//	file:///directory
//
// Errors carry a hint and never repeat a password that stands in the URL.
func ParseURL(raw string) (URL, error) {
	if raw == "" {
		return URL{}, badURL(urlForms, "the store's URL is empty")
	}
	u, err := url.Parse(raw)
	if err != nil {
		if parse, ok := errors.AsType[*url.Error](err); ok && !strings.Contains(raw, "@") {
			return URL{}, badURL(urlForms, "store URL: %w", parse.Err)
		}
		return URL{}, badURL(urlForms, "store URL: not a valid URL")
	}
	if u.User != nil {
		return URL{}, badURL("remove it and give the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in a file named by AWS_SHARED_CREDENTIALS_FILE",
			"store URL: user and password are not allowed in it")
	}
	if u.Fragment != "" {
		return URL{}, badURL("write %23 for a # in a name", "store URL: it holds a #")
	}
	switch u.Scheme {
	case "s3":
		return parseS3(u)
	case "file":
		return parseFile(u)
	case "http", "https":
		return URL{}, badURL(fmt.Sprintf("for an S3 server at this address write s3://bucket/prefix?endpoint=%s://%s", u.Scheme, u.Host),
			"store URL: %s:// is not the address of a store", u.Scheme)
	case "":
		if strings.HasPrefix(raw, "/") {
			return URL{}, badURL("for a directory write file://"+path.Clean(u.Path), "store URL: it has no scheme")
		}
		return URL{}, badURL(urlForms, "store URL: it has no scheme")
	}
	return URL{}, badURL(urlForms, "store URL: unknown scheme %q", u.Scheme)
}

const urlForms = "use s3://bucket/prefix?endpoint=https://host:port or file:///directory"

func badURL(hint, format string, args ...any) error {
	return status.WithHint(status.ReasonStore, hint, fmt.Errorf(format, args...))
}

func parseFile(u *url.URL) (URL, error) {
	switch {
	case u.Opaque != "":
		return URL{}, badURL("write file:///"+strings.TrimLeft(u.Opaque, "/"), "store URL: the directory %q is not absolute", u.Opaque)
	case u.Host != "":
		return URL{}, badURL(fmt.Sprintf("a directory takes three slashes: file:///%s%s", u.Host, u.Path),
			"store URL: file:// takes no host, but has %q", u.Host)
	case path.Clean("/"+u.Path) == "/":
		return URL{}, badURL("name a directory: file:///backups", "store URL: it names no directory")
	case u.RawQuery != "":
		return URL{}, badURL("write %3F for a ? in a name", "store URL: file:// takes no options, but has ?%s", firstKey(u.RawQuery))
	case strings.ContainsRune(u.Path, 0):
		return URL{}, badURL(urlForms, "store URL: the directory's name holds a zero byte")
	}
	return URL{Dir: path.Clean(u.Path)}, nil
}

// firstKey returns the name, not the value, of a query's first option.
func firstKey(query string) string {
	key, _, _ := strings.Cut(query, "&")
	key, _, _ = strings.Cut(key, "=")
	return key
}

func parseS3(u *url.URL) (URL, error) {
	out := URL{Bucket: u.Host, PartSize: defaultPartSize, Checksum: ChecksumAuto}
	if u.Opaque != "" || u.Host == "" {
		return URL{}, badURL("use s3://bucket/prefix", "store URL: it names no bucket")
	}
	if !validBucket(u.Host) {
		hint := "a bucket's name has 3 to 63 lower case letters, digits, dots and hyphens"
		if u.Port() != "" {
			hint = fmt.Sprintf("the first part is the bucket; the server goes into ?endpoint=https://%s", u.Host)
		}
		return URL{}, badURL(hint, "store URL: %q is not the name of a bucket", u.Host)
	}
	out.Prefix = strings.Trim(u.Path, "/")
	if out.Prefix != "" && (!fs.ValidPath(out.Prefix) || out.Prefix == "." || strings.ContainsRune(out.Prefix, 0) || len(out.Prefix) > maxPrefixLength) {
		return URL{}, badURL(`a prefix has no empty, "." or ".." elements`, "store URL: prefix %q is not a plain path of at most %d bytes", out.Prefix, maxPrefixLength)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return URL{}, badURL("options look like ?endpoint=https://host:port&region=name", "store URL: its options cannot be parsed: %w", err)
	}
	options := s3Options()
	for _, key := range slices.Sorted(maps.Keys(query)) {
		set, known := options[key]
		if !known {
			hint := "known options: " + strings.Join(slices.Sorted(maps.Keys(options)), ", ")
			if looksSecret(key) {
				hint = "keys do not belong in the URL: use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
			}
			return URL{}, badURL(hint, "store URL: unknown option %q", key)
		}
		if len(query[key]) > 1 {
			return URL{}, badURL("give it once", "store URL: option %q is given %d times", key, len(query[key]))
		}
		if err := set(&out, query[key][0]); err != nil {
			return URL{}, fmt.Errorf("store URL: option %s: %w", key, err)
		}
	}
	if err := out.fits(); err != nil {
		return URL{}, err
	}
	return out, nil
}

// fits checks the options that belong together.
func (u URL) fits() error {
	switch {
	case u.SSEKMSKeyID != "" && u.SSE != SSEKMS:
		return badURL("add sse=kms", "store URL: option sse-kms-key-id has no meaning without sse=kms")
	case u.SSECKeyFile != "" && u.SSE != SSEC:
		return badURL("add sse=c", "store URL: option sse-c-key-file has no meaning without sse=c")
	case u.SSE == SSEC && u.SSECKeyFile == "":
		return badURL("name a file of 32 bytes, or of their base64", "store URL: option sse=c needs sse-c-key-file")
	case u.LockMode != "" && u.LockDays == 0:
		return badURL("such as object-lock-days=30", "store URL: option object-lock needs object-lock-days")
	case u.LockMode == "" && u.LockDays != 0:
		return badURL("add object-lock=governance or object-lock=compliance", "store URL: option object-lock-days has no meaning without object-lock")
	}
	return nil
}

// maxPrefixLength and maxKeyLength make at most the 1024 bytes of an S3 key,
// with the slash between them.
const maxPrefixLength = 1024 - maxKeyLength - 1

func looksSecret(key string) bool {
	key = strings.ToLower(key)
	return strings.Contains(key, "key") || strings.Contains(key, "secret") || strings.Contains(key, "token") || strings.Contains(key, "password")
}

func validBucket(name string) bool {
	if len(name) < 3 || len(name) > 63 || strings.Contains(name, "..") {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	first, last := name[0], name[len(name)-1]
	return first != '-' && first != '.' && last != '-' && last != '.'
}

// s3Options returns the options of an s3:// URL.
func s3Options() map[string]func(*URL, string) error {
	return map[string]func(*URL, string) error{
		"endpoint": func(u *URL, v string) error {
			e, err := parseEndpoint(v)
			u.Endpoint = e
			return err
		},
		"region": func(u *URL, v string) error {
			if v == "" || strings.ContainsAny(v, " /\t\r\n") {
				return badURL("such as us-east-1", "%q is not the name of a region", v)
			}
			u.Region = v
			return nil
		},
		"path-style": func(u *URL, v string) error {
			on, err := parseBool(v)
			u.PathStyle = PathStyleOff
			if on {
				u.PathStyle = PathStyleOn
			}
			return err
		},
		"ca-file": func(u *URL, v string) error {
			if !path.IsAbs(v) {
				return badURL("name a PEM file by its absolute path", "%q is not an absolute path", v)
			}
			u.CAFile = v
			return nil
		},
		"insecure-skip-verify": func(u *URL, v string) error {
			skip, err := parseBool(v)
			u.InsecureSkipVerify = skip
			return err
		},
		"checksum": func(u *URL, v string) error {
			u.Checksum = Checksum(v)
			return oneOf(v, string(ChecksumAuto), string(ChecksumSHA256), string(ChecksumCRC32C), string(ChecksumNone))
		},
		"sse": func(u *URL, v string) error {
			u.SSE = SSE(v)
			return oneOf(v, string(SSES3), string(SSEKMS), string(SSEC))
		},
		"sse-kms-key-id": func(u *URL, v string) error {
			u.SSEKMSKeyID = v
			return printable(v, "an id, an ARN or an alias of a key")
		},
		"sse-c-key-file": func(u *URL, v string) error {
			if !path.IsAbs(v) {
				return badURL("name a file by its absolute path; the key itself does not belong in the URL", "it is not an absolute path")
			}
			u.SSECKeyFile = v
			return nil
		},
		"storage-class": func(u *URL, v string) error {
			if v == "GLACIER" || v == "DEEP_ARCHIVE" {
				return badURL("GLACIER_IR is the coldest that can; for older snapshots use a lifecycle rule of the bucket", "a snapshot in %s cannot be read back at once, which each is after its upload", v)
			}
			u.StorageClass = v
			return printable(v, "the name of a storage class, such as STANDARD_IA")
		},
		"object-lock": func(u *URL, v string) error {
			u.LockMode = LockMode(strings.ToUpper(v))
			return oneOf(v, "governance", "compliance")
		},
		"object-lock-days": func(u *URL, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < 1 || n > 36500 {
				return badURL("such as 30", "%q is not a number of days from 1 to 36500", v)
			}
			u.LockDays = n
			return nil
		},
		"part-size": func(u *URL, v string) error {
			n, err := strconv.ParseInt(strings.TrimSuffix(v, "MiB"), 10, 32)
			if err != nil || !strings.HasSuffix(v, "MiB") || n*mib < minPartSize || n*mib > maxPartSize {
				return badURL("such as 16MiB; uploads take three times as much memory", "%q is not a size from 5MiB to 5120MiB", v)
			}
			u.PartSize = n * mib
			return nil
		},
	}
}

func oneOf(v string, known ...string) error {
	if slices.Contains(known, v) {
		return nil
	}
	return badURL("write "+strings.Join(known[:len(known)-1], ", ")+" or "+known[len(known)-1], "%q is none of them", v)
}

// printable refuses what would not fit in a header.
func printable(v, what string) error {
	for _, c := range []byte(v) {
		if c <= ' ' || c > '~' {
			return badURL("write "+what, "%q is not %s", v, what)
		}
	}
	if v == "" || len(v) > 2048 {
		return badURL("write "+what, "it is not %s", what)
	}
	return nil
}

func parseBool(v string) (bool, error) {
	switch v {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, badURL("write true or false", "%q is neither true nor false", v)
}

// parseEndpoint checks the address of an S3 server and returns it without a
// trailing slash.
func parseEndpoint(v string) (string, error) {
	const hint = "write http://host:port or https://host:port"
	e, err := url.Parse(v)
	switch {
	case strings.Contains(v, "@"):
		return "", badURL("give the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "user and password are not allowed in it")
	case err != nil:
		return "", badURL(hint, "not a valid URL")
	case e.Scheme != "http" && e.Scheme != "https":
		return "", badURL(hint, "%q does not start with http:// or https://", v)
	case e.Hostname() == "":
		return "", badURL(hint, "%q names no host", v)
	case e.Path != "" && e.Path != "/", e.RawQuery != "", e.Fragment != "":
		return "", badURL(hint+"; the bucket and the prefix go into s3://bucket/prefix", "%q has more than a host and a port", v)
	}
	return e.Scheme + "://" + e.Host, nil
}
