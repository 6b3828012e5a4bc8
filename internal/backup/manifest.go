package backup

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// FormatVersion is the manifest format this program writes and the newest it
// reads. Within a version fields are only added and readers ignore those they
// do not know; a change of meaning raises the version.
const FormatVersion = 1

// maxManifest bounds a manifest in bytes, written or read. The largest honest
// one (16384 slot ranges) stays under half of it.
const maxManifest = 1 << 20

// How a snapshot was taken from the server.
const (
	SourceBGSave = "bgsave" // the temporary file of the server's own fork child
	SourceStream = "stream" // the data set that a replica gets
)

// How the stored object is compressed and encrypted.
const (
	CompressionZstd = "zstd"
	CompressionNone = "none"
	EncryptionNone  = "none"
	EncryptionAge   = "age" // age-encryption.org/v1, around what was compressed
)

// ErrNewerFormat is wrapped by the error for a manifest that a newer
// redis-sidecar wrote. The snapshot may be perfectly good.
var ErrNewerFormat = errors.New("written by a newer redis-sidecar")

const (
	hintUpgrade = "the snapshot was made by a newer redis-sidecar: upgrade this one"
	hintByHand  = "the data beside the manifest may be whole all the same, see docs/fetch-by-hand.md"
)

// Manifest says what one snapshot is. It is the last object written: a snapshot
// exists when its manifest does. The JSON form is documented in
// docs/object-format.md.
type Manifest struct {
	FormatVersion int    `json:"format_version"`
	ID            string `json:"id"`       // see NewID
	Instance      string `json:"instance"` // the logical Redis it was made of

	// CreatedAt is when the server said that its save, or its stream, had begun,
	// by the sidecar's clock: the snapshot holds nothing written after it. UTC.
	CreatedAt time.Time `json:"created_at"`
	Tool      string    `json:"tool"`   // program and version that made it
	Source    string    `json:"source"` // SourceBGSave or SourceStream
	// SourceReason says why this source, for people.
	SourceReason string `json:"source_reason,omitempty"`

	Server    Server      `json:"server"`
	RDB       RDB         `json:"rdb"`
	Object    Object      `json:"object"`
	Slots     []SlotRange `json:"slots,omitempty"` // of the node's shard; in a cluster only
	Cluster   *Cluster    `json:"cluster,omitempty"`
	Durations Durations   `json:"durations"`
}

// Server describes the redis-server the snapshot was taken from, when it was
// taken.
type Server struct {
	Pod               string `json:"pod"`            // pod or host name
	RunID             string `json:"run_id"`         // of the server process
	Role              string `json:"role"`           // "master" or "slave", as Redis says it
	Mode              string `json:"mode,omitempty"` // "standalone" or "cluster"
	Version           string `json:"redis_version"`
	NodeID            string `json:"node_id,omitempty"` // in a cluster only
	ReplicationID     string `json:"replication_id,omitempty"`
	ReplicationOffset int64  `json:"replication_offset"` // bytes; just before the save began
}

// RDB describes the plain (uncompressed) RDB file.
type RDB struct {
	Version int    `json:"version"` // RDB format version, such as 10
	Magic   string `json:"magic"`   // "REDIS" or "VALKEY"
	Size    int64  `json:"size"`    // bytes
	SHA256  string `json:"sha256"`  // hex
	CRC64   string `json:"crc64"`   // hex, computed over all but the 8-byte trailer

	// Checksummed is false when the server runs with rdbchecksum no: then only
	// SHA256 guards the content from the sidecar on, and nothing before it.
	Checksummed bool `json:"checksummed"`

	// Walked is false when the file's format is newer than this program knows:
	// then only its checksum was checked and the counts below are absent.
	Walked    bool       `json:"walked"`
	Keys      uint64     `json:"keys"`    // in all databases
	Expires   uint64     `json:"expires"` // of them, with a time to live
	Databases []Database `json:"databases,omitempty"`

	// Expiry says how many of the keys in Expires expire when: in each span
	// before Until, and not before the Until of the span before it. At most 64.
	Expiry []Expiry `json:"expiry,omitempty"`

	Functions int      `json:"functions"` // function libraries
	Modules   []string `json:"modules,omitempty"`
}

// Database counts the keys of one non-empty database.
type Database struct {
	Index   int    `json:"index"`
	Keys    uint64 `json:"keys"`
	Expires uint64 `json:"expires"`
}

// Expiry is one span of time and the keys that expire in it.
type Expiry struct {
	Until time.Time `json:"until"` // UTC, whole seconds
	Keys  uint64    `json:"keys"`
}

// ExpiredBy tells how many keys of the snapshot will have expired at t: at least
// and at most. A server that loads it as a master drops them. It is exact to a
// few keys in a hundred where rdb.expiry is there; else, all is possible.
func (m Manifest) ExpiredBy(t time.Time) (least, most uint64) {
	if len(m.RDB.Expiry) == 0 {
		return 0, m.RDB.Expires
	}
	begun := true // the first span has no beginning
	for _, e := range m.RDB.Expiry {
		if begun {
			most += e.Keys
		}
		if begun = !t.Before(e.Until); begun {
			least += e.Keys
		}
	}
	return least, most
}

// Object describes the stored file beside the manifest.
type Object struct {
	Name        string   `json:"name"`                 // file name in the snapshot's folder
	Size        int64    `json:"size"`                 // bytes as stored
	SHA256      string   `json:"sha256"`               // hex, of the bytes as stored
	Compression string   `json:"compression"`          // CompressionZstd or CompressionNone
	FrameSize   int      `json:"frame_size,omitempty"` // with zstd: bytes of the RDB in each frame but the last; 0: it may be one frame
	Encryption  string   `json:"encryption"`           // EncryptionNone or EncryptionAge
	Recipients  []string `json:"recipients,omitempty"` // public keys it is encrypted for, age1…
}

// SlotRange is a range of cluster hash slots, both ends included.
type SlotRange struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// Cluster is the cluster as the node saw it when the save had begun, so that one
// manifest shows what belongs together.
type Cluster struct {
	Shard string `json:"shard,omitempty"` // name of the shard in the store; "" when backup.shard is none
	Size  int    `json:"size"`            // nodes that own slots
	Epoch uint64 `json:"epoch"`           // the highest of all nodes

	// Nodes are at most 1000; those that own slots come first, in the order of
	// their slots.
	Nodes []ClusterNode `json:"nodes"`

	// Slots on their way from or to this node. Only a primary knows of them. Keys
	// of such a slot can be in the snapshots of both shards, or of neither.
	Migrating []OpenSlot `json:"migrating,omitempty"`
	Importing []OpenSlot `json:"importing,omitempty"`
}

// ClusterNode is one node of a cluster.
type ClusterNode struct {
	ID       string `json:"id"`
	Address  string `json:"address,omitempty"` // ip:port for clients
	Hostname string `json:"hostname,omitempty"`
	Role     string `json:"role,omitempty"`    // "master" or "slave", as Redis says it
	Primary  string `json:"primary,omitempty"` // of a replica
	Epoch    uint64 `json:"epoch"`
	Failing  bool   `json:"failing,omitempty"` // not reached, or of unknown address
	Slots    string `json:"slots,omitempty"`   // as Redis writes them: "0-5460 7000"
}

// OpenSlot is a slot that is being moved, and the node at the other end.
type OpenSlot struct {
	Slot int    `json:"slot"`
	Node string `json:"node"`
}

// Durations says where the time went, in seconds. Save and upload overlap.
type Durations struct {
	Save     float64 `json:"save_seconds"`      // until the server's fork child was gone, as seen by polling
	Upload   float64 `json:"upload_seconds"`    // first byte to object complete
	ReadBack float64 `json:"read_back_seconds"` // stored object read and compared
	Total    float64 `json:"total_seconds"`     // up to the writing of the manifest
}

// ReadManifest reads and validates one manifest, never more than 1 MiB of it.
// Errors carry status.ReasonCorrupt unless r itself failed.
func ReadManifest(r io.Reader) (Manifest, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	return ParseManifest(b)
}

// ParseManifest decodes and validates one manifest. Errors carry
// status.ReasonCorrupt; that of a format from the future also wraps
// ErrNewerFormat.
func ParseManifest(b []byte) (Manifest, error) {
	m, err := parseManifest(b)
	if err == nil {
		return m, nil
	}
	err = fmt.Errorf("manifest: %w", err)
	if errors.Is(err, ErrNewerFormat) {
		return Manifest{}, status.WithHint(status.ReasonCorrupt, hintUpgrade, err)
	}
	return Manifest{}, status.WithHint(status.ReasonCorrupt, hintByHand, err)
}

func parseManifest(b []byte) (Manifest, error) {
	if len(b) > maxManifest {
		return Manifest{}, fmt.Errorf("larger than %d bytes", maxManifest)
	}
	sealed, err := checkSeal(b)
	if err != nil {
		return Manifest{}, err
	}
	// The version decides how the rest is read, so it is read on its own: a
	// future format may give any other field another type.
	var head struct {
		FormatVersion *int            `json:"format_version"`
		Checksum      json.RawMessage `json:"checksum"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return Manifest{}, fmt.Errorf("not a manifest: %w", err)
	}
	switch v := head.FormatVersion; {
	case v == nil:
		return Manifest{}, errors.New("format_version is missing")
	case *v < 1:
		return Manifest{}, fmt.Errorf("format_version %d is not valid", *v)
	case *v > FormatVersion:
		return Manifest{}, fmt.Errorf("format_version %d, this program knows up to %d: %w", *v, FormatVersion, ErrNewerFormat)
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return Manifest{}, err
	}
	if !sealed && (head.Checksum != nil || m.Object.FrameSize > 0) {
		return Manifest{}, errors.New("checksum is missing, or not the last member as it was written: it was altered")
	}
	m.CreatedAt = m.CreatedAt.UTC()
	return m, m.validate()
}

// Encode returns the manifest as indented JSON, with its checksum and a final
// newline. It refuses to encode what ParseManifest would refuse to read.
func (m Manifest) Encode() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	b = seal(append(b, '\n'))
	if len(b) > maxManifest {
		return nil, fmt.Errorf("encode manifest: larger than %d bytes", maxManifest)
	}
	return b, nil
}

// validate names every missing or contradictory field, not only the first.
func (m Manifest) validate() error {
	var ps problems
	check := ps.unless
	check(m.FormatVersion == FormatVersion, "format_version is %d, want %d", m.FormatVersion, FormatVersion)

	at, err := IDTime(m.ID)
	check(err == nil, "id: %v", err)
	check(ValidInstance(m.Instance) == nil, "instance %.80q is not valid", m.Instance)
	check(!m.CreatedAt.IsZero(), "created_at is missing")
	// Years outside these cannot be written as RFC 3339.
	check(m.CreatedAt.Year() >= 0 && m.CreatedAt.Year() <= 9999, "created_at is out of range")
	check(err != nil || m.CreatedAt.IsZero() || m.CreatedAt.Truncate(time.Second).Equal(at),
		"created_at %s contradicts the id %s", m.CreatedAt.Format(time.RFC3339), m.ID)
	check(m.Source != "", "source is missing")

	check(m.Server.RunID != "", "server.run_id is missing")
	check(m.Server.Role != "", "server.role is missing")
	check(m.Server.Version != "", "server.redis_version is missing")

	ps = append(ps, m.RDB.problems()...)
	ps = append(ps, m.Object.problems()...)
	if m.Object.Compression == CompressionNone && m.Object.Encryption == EncryptionNone {
		check(m.Object.Size == m.RDB.Size, "object.size %d contradicts rdb.size %d: the object is neither compressed nor encrypted", m.Object.Size, m.RDB.Size)
		check(m.Object.SHA256 == m.RDB.SHA256, "object.sha256 contradicts rdb.sha256: the object is neither compressed nor encrypted")
	}

	last := -1
	for _, s := range m.Slots {
		check(s.First > last && s.Last >= s.First && s.Last < slotCount, "slots: range %d-%d is not valid or not in order", s.First, s.Last)
		last = s.Last
	}
	if m.Cluster != nil {
		ps = append(ps, m.Cluster.problems()...)
	}
	d := m.Durations
	check(min(d.Save, d.Upload, d.ReadBack, d.Total) >= 0, "durations: negative")
	return joined(ps...)
}

func (c Cluster) problems() problems {
	var ps problems
	check := ps.unless
	check(c.Shard == "" || validShard(c.Shard) == nil, "cluster.shard %.80q is not valid", c.Shard)
	check(len(c.Nodes) <= maxClusterNodes, "cluster.nodes: %d, at most %d are allowed", len(c.Nodes), maxClusterNodes)
	for _, n := range c.Nodes {
		_, err := parseSlots(n.Slots)
		check(err == nil, "cluster.nodes: %v", err)
	}
	for _, s := range slices.Concat(c.Migrating, c.Importing) {
		check(s.Slot >= 0 && s.Slot < slotCount, "cluster: slot %d does not exist", s.Slot)
	}
	return ps
}

func (r RDB) problems() problems {
	var ps problems
	check := ps.unless
	check(r.Version > 0, "rdb.version is missing")
	check(r.Magic != "", "rdb.magic is missing")
	check(r.Size > 0, "rdb.size is missing")
	check(isHex(r.SHA256, 32), "rdb.sha256 is missing or not 64 hex digits")
	check(isHex(r.CRC64, 8), "rdb.crc64 is missing or not 16 hex digits")
	check(r.Expires <= r.Keys, "rdb.expires %d is more than rdb.keys %d", r.Expires, r.Keys)
	check(r.Functions >= 0, "rdb.functions is negative")
	var keys, expires uint64
	last := -1
	for _, db := range r.Databases {
		check(db.Index > last, "rdb.databases: index %d is not valid or not in order", db.Index)
		check(db.Expires <= db.Keys, "rdb.databases: %d expiring keys of %d in database %d", db.Expires, db.Keys, db.Index)
		last, keys, expires = db.Index, keys+db.Keys, expires+db.Expires
	}
	check(keys == r.Keys, "rdb.keys is %d, but rdb.databases add up to %d", r.Keys, keys)
	check(expires == r.Expires, "rdb.expires is %d, but rdb.databases add up to %d", r.Expires, expires)
	check(r.Walked || len(r.Databases) == 0, "rdb.databases are given, but rdb.walked is false")
	if len(r.Expiry) > 0 {
		ps = append(ps, r.expiryProblems()...)
	}
	return ps
}

func (r RDB) expiryProblems() problems {
	const most = 64
	var ps problems
	check := ps.unless
	check(len(r.Expiry) <= most, "rdb.expiry has %d spans, more than %d", len(r.Expiry), most)
	var keys uint64
	for i, e := range r.Expiry {
		check(e.Until.Year() >= 0 && e.Until.Year() <= 9999, "rdb.expiry: a time is out of range")
		check(i == 0 || e.Until.After(r.Expiry[i-1].Until), "rdb.expiry is not in order at number %d", i)
		keys += e.Keys
	}
	check(keys == r.Expires, "rdb.expires is %d, but rdb.expiry adds up to %d", r.Expires, keys)
	return ps
}

func (o Object) problems() problems {
	var ps problems
	check := ps.unless
	check(o.Size > 0, "object.size is missing")
	check(isHex(o.SHA256, 32), "object.sha256 is missing or not 64 hex digits")
	known := true
	switch o.Compression {
	case CompressionZstd, CompressionNone:
	case "":
		check(false, "object.compression is missing")
	default:
		known = false
		check(false, "object.compression %.80q is not known: %w", o.Compression, ErrNewerFormat)
	}
	check(o.FrameSize >= 0, "object.frame_size is negative")
	switch o.Encryption {
	case EncryptionNone:
		check(len(o.Recipients) == 0, "object.recipients are given, but object.encryption is %q", EncryptionNone)
	case EncryptionAge:
		check(len(o.Recipients) > 0, "object.recipients are missing, but object.encryption is %q", EncryptionAge)
		check(len(o.Recipients) <= maxRecipients, "object.recipients are more than %d", maxRecipients)
	case "":
		check(false, "object.encryption is missing")
	default:
		known = false
		check(false, "object.encryption %.80q is not known: %w", o.Encryption, ErrNewerFormat)
	}
	if known {
		want := objectName(o.Compression, o.Encryption)
		check(o.Name == want, "object.name is %.80q, want %q with object.compression %q and object.encryption %q", o.Name, want, o.Compression, o.Encryption)
	} else {
		check(o.Name != "" && o.Name == path.Base(o.Name) && !slices.Contains([]string{".", "..", manifestName}, o.Name), "object.name %.80q is not a file name", o.Name)
	}
	return ps
}

// objectName is the file name that goes with a compression and an encryption.
func objectName(compression, encryption string) string {
	name := "dump.rdb"
	if compression == CompressionZstd {
		name += ".zst"
	}
	if encryption == EncryptionAge {
		name += ".age"
	}
	return name
}

// isHex reports whether s is the lower-case hex form of n bytes.
func isHex(s string, n int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == n && s == strings.ToLower(s)
}

// hexUint64 is the form of a CRC64 in a manifest: a JSON number of that size
// would lose digits in most readers.
func hexUint64(v uint64) string { return fmt.Sprintf("%016x", v) }
