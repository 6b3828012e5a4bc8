package rdb_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

func scan(tb testing.TB, data []byte) rdb.Summary {
	tb.Helper()
	s, err := rdb.Scan(bytes.NewReader(data))
	if err != nil {
		tb.Fatalf("Scan: %v", err)
	}
	return s
}

// mustBeDamage checks what holds of every error about a file of size bytes.
func mustBeDamage(tb testing.TB, err error, size int) {
	tb.Helper()
	damage, ok := errors.AsType[*rdb.Error](err)
	switch {
	case !ok:
		tb.Errorf("not an *rdb.Error: %v", err)
	case status.ReasonOf(err) != status.ReasonCorrupt:
		tb.Errorf("reason %s of: %v", status.ReasonOf(err), err)
	case damage.Offset < 0 || damage.Offset > int64(size):
		tb.Errorf("offset outside of %d bytes: %v", size, err)
	}
}

// checksum is the one Redis computes: CRC-64 of Jones, reflected, not inverted.
func checksum(data string) uint64 {
	return ^crc64.Update(^uint64(0), crc64.MakeTable(0x95ac9329ac4bc9b5), []byte(data))
}

// file joins header and records, and adds the end record and the checksum.
func file(parts ...string) []byte {
	data := strings.Join(parts, "") + "\xff"
	return binary.LittleEndian.AppendUint64([]byte(data), checksum(data))
}

// unsummed is file as written with rdbchecksum no.
func unsummed(parts ...string) []byte {
	return append([]byte(strings.Join(parts, "")+"\xff"), make([]byte, 8)...)
}

// Redis' own test value.
func TestChecksum(t *testing.T) {
	if got, want := checksum("123456789"), uint64(0xe9c6d914c4b8d9ca); got != want {
		t.Errorf("got %016x, want %016x", got, want)
	}
}

func TestVectors(t *testing.T) {
	one := []rdb.Database{{Keys: 1}}
	for _, tt := range []struct {
		name string
		data []byte
		want rdb.Summary // Magic is REDIS and Walked true unless said; sums are left out
	}{
		{
			// Redis 7.0, FLUSHALL and SAVE.
			name: "empty",
			data: file("REDIS0010"),
			want: rdb.Summary{Version: 10},
		},
		{
			// rdbSaveRawString and rdbSaveLen: lengths of 6, 14, 32 and 64 bits,
			// integers of 8, 16 and 32 bits, LZF.
			name: "lengths",
			data: file("REDIS0010", "\xfe\x00",
				"\x00\x01a\x03abc", "\x00\xc0\xff\x40\x03abc", "\x00\xc1\x00\x01\x80\x00\x00\x00\x03abc",
				"\x00\xc2\x01\x00\x00\x00\x81\x00\x00\x00\x00\x00\x00\x00\x03abc", "\x00\x01b\xc3\x03\x05xyz"),
			want: rdb.Summary{Version: 10, Databases: []rdb.Database{{Keys: 5}}},
		},
		{
			// rdbSaveAuxFieldStrInt writes numbers as integers. Of two, the first.
			name: "auxiliary fields",
			data: file("REDIS0010", "\xfa\x01a\xc0\xff", "\xfa\x01b\xc1\x00\x80", "\xfa\x01c\xc2\xff\xff\xff\x7f",
				"\xfa\x01d\x04text", "\xfa\x01d\x05again", "\xfa\x01e\xc3\x01\x05x",
				"\xfa\x40\x41"+strings.Repeat("n", 65)+"\x01v", "\xfa\x01f\x44\x01"+strings.Repeat("v", 1025)),
			want: rdb.Summary{Version: 10, Aux: map[string]string{"a": "-1", "b": "-32768", "c": "2147483647", "d": "text"}},
		},
		{
			// No server writes a key before SELECTDB, rdbLoadRio takes database 0.
			name: "no database selected",
			data: file("REDIS0006", "\x00\x01a\x01b"),
			want: rdb.Summary{Version: 6, Databases: one},
		},
		{
			// A database that comes twice is one, and they are sorted.
			name: "databases",
			data: file("REDIS0010", "\xfe\x05", "\x00\x01a\x01b", "\xfe\x02", "\xfc12345678\x00\x01a\x01b", "\xfe\x05", "\x00\x01c\x01b"),
			want: rdb.Summary{Version: 10, Databases: []rdb.Database{{Index: 2, Keys: 1, Expires: 1}, {Index: 5, Keys: 2}}},
		},
		{
			// KeyDB 6 writes an auxiliary field between a key's expire time and its type.
			name: "auxiliary field before a key",
			data: file("REDIS0009", "\xfe\x00", "\xfc12345678", "\xfa\x0cmvcc-tstamp\x00\x01\x31", "\x00\x01a\x01b"),
			want: rdb.Summary{Version: 9, Databases: []rdb.Database{{Keys: 1, Expires: 1}}, Aux: map[string]string{"mvcc-tstamp\x00": "1"}},
		},
		{
			// Redis 7.0 stream, type 19 (rdb.c, RDB_TYPE_STREAM_LISTPACKS_2): as 21
			// without a consumer's active time. Counter unknown: -1 as 64 bits.
			name: "stream of 7.0",
			data: file("REDIS0010", "\xfe\x00", "\x13\x01x", "\x01\x10"+strings.Repeat("i", 16)+"\x02lp", "\x01\x01\x00\x01\x00\x00\x00\x01",
				"\x01\x01g\x01\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff", "\x01"+strings.Repeat("i", 16)+"whenread\x01",
				"\x01\x01c"+"seentime"+"\x01"+strings.Repeat("i", 16)),
			want: rdb.Summary{Version: 10, Databases: one},
		},
		{
			// Redis 8.6 stream, type 26 (rdb.c, RDB_TYPE_STREAM_LISTPACKS_4): as 21, then
			// duration and size of the idempotency table, per producer its name and
			// entries of name and ID, two counters.
			name: "stream of 8.6",
			data: file("REDIS0013", "\xfe\x00", "\x1a\x01x", "\x00", "\x00\x00\x00\x00\x00\x00\x00\x00", "\x00",
				"\x40\x64\x40\x64", "\x01\x02p1\x02\x01i\x01\x00\x01j\x02\x00", "\x02\x00"),
			want: rdb.Summary{Version: 13, Databases: one},
		},
		{
			// Redis 8.10: hash templates (242), a hash as listpack that refers to one
			// (30), and one with values only (32). Bytes as in Redis' own
			// tests/unit/type/hash-templates.tcl. Newer than what was proven.
			name: "hash templates of 8.10",
			data: file("REDIS0015", "\xf2\x00\x02\x06field1\x06field2", "\xf2\x05\x02\x06field1\x06field3", "\xfe\x00\xfb\x02\x00",
				"\x1e\x02k1\x0d\x0d\x00\x00\x00\x03\x00\x05\x01\x01\x01\x02\x01\xff", "\x20\x02k2\x05\xc0\x01\xc0\x02"),
			want: rdb.Summary{Version: 15, Databases: []rdb.Database{{Keys: 2}}},
		},
		{
			// Valkey 9.0, cluster_migrateslots.c, clusterRDBSaveSlotImports: the job's
			// name of 40 bytes and ranges of slots.
			name: "slot import of Valkey 9",
			data: file("VALKEY080", "\xf3\x28"+strings.Repeat("j", 40)+"\x02\x00\x05\x0a\x40\xff", "\xfe\x00", "\x00\x01a\x01b"),
			want: rdb.Summary{Magic: rdb.MagicValkey, Version: 80, Databases: one},
		},
		{
			// A format of tomorrow in a file that uses nothing new.
			name: "newer version, known records",
			data: file("REDIS0099", "\xfe\x00", "\x00\x01a\x01b"),
			want: rdb.Summary{Version: 99, Databases: one},
		},
		{
			name: "rdbchecksum no",
			data: unsummed("REDIS0010", "\xfe\x00", "\x00\x01a\x01b"),
			want: rdb.Summary{Version: 10, Databases: one},
		},
		{
			name: "version 4 has no checksum",
			data: []byte("REDIS0004\xfe\x00\x00\x01a\x01b\xff"),
			want: rdb.Summary{Version: 4, Databases: one},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := scan(t, tt.data)
			if !got.Walked {
				t.Error("it was not walked")
			}
			if tt.want.Magic == "" {
				tt.want.Magic = rdb.MagicRedis
			}
			tt.want.Walked, tt.want.Bytes = true, int64(len(tt.data))
			got.CRC64, got.Checksum = 0, 0
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("-got +want:\n%s", diff)
			}
		})
	}
}

// A file of a newer format that cannot be walked to its end is good when its
// checksum is.
func TestNewerFormat(t *testing.T) {
	for _, data := range [][]byte{
		file("REDIS0016", "\xfa\x01a\x01b", "\xf5\x04code", "\xfe\x00", "\x00\x01a\x01b", "\x2a\x01c what nobody knows"),
		file("REDIS0016", "\xfa\x01a\x01b", "\xfe\x00", "\x00\x01a\x01b", "\x01\x01c a known type, written otherwise"),
		file("VALKEY081", "\xfa\x01a\x01b", "\xfe\x00", "\x17\x01c a path hash"),
		file("VALKEY081", "\xfa\x01a\x01b", strings.Repeat("\xf2 an update", 50_000)), // longer than the buffer
	} {
		got := scan(t, data)
		want := rdb.Summary{
			Magic: got.Magic, Version: got.Version, Bytes: int64(len(data)), Walked: false,
			Aux: map[string]string{"a": "b"}, CRC64: got.CRC64, Checksum: got.CRC64,
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("-got +want:\n%s", diff)
		}
		if sum := checksum(string(data[:len(data)-8])); got.CRC64 != sum {
			t.Errorf("computed %016x, want %016x", got.CRC64, sum)
		}
	}
}

func TestDamage(t *testing.T) {
	const head = "REDIS0010\xfe\x00" // 11 bytes
	flipped := file(head, "\x00\x01a\x01b")
	flipped[len(flipped)-10] = 'c'
	newer := file("REDIS0016", "\xfe\x00", "\x2a")
	newer[10] = 1
	var databases strings.Builder
	for i := range 1<<16 + 1 {
		databases.WriteString("\xfe\x80" + string(binary.BigEndian.AppendUint32(nil, uint32(i))))
	}

	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "unexpected end of file at offset 0, in the header"},
		{"short", []byte("REDIS"), "unexpected end of file at offset 5, in the header"},
		{"append-only file", []byte("*2\r\n$6\r\nSELECT\r\n"), `not an RDB: it begins with "*2\r\n$6\r\nS" at offset 0`},
		{"compressed", []byte("\x28\xb5\x2f\xfdxxxxxxxx"), `not an RDB: it begins with "(\xb5/\xfdxxxxx" at offset 0`},
		{"version 0", file("REDIS0000"), `not an RDB: no such version of the REDIS format: "0000" at offset 5`},
		{"version letters", file("REDIS00x1"), `not an RDB: no such version of the REDIS format: "00x1" at offset 5`},
		{"version sign", file("REDIS+010"), `not an RDB: no such version of the REDIS format: "+010" at offset 5`},
		{"version of Redis under Valkey's magic", file("VALKEY011"), `not an RDB: no such version of the VALKEY format: "011" at offset 6`},

		{"no records", []byte(head), "unexpected end of file at offset 11, in the records"},
		{"no end", []byte(head + "\x00\x01a\x01b"), "unexpected end of file at offset 16, in the records"},
		{"no checksum", []byte(head + "\xff"), "unexpected end of file at offset 12, in the checksum"},
		{"cut checksum", []byte(head + "\xff1234567"), "unexpected end of file at offset 19, in the checksum"},
		{"more after the end", append(file(head), '\n'), "data after the end of the RDB at offset 20"},
		{"more after the end, no checksum", []byte("REDIS0004\xff\x00"), "data after the end of the RDB at offset 10"},
		{"wrong checksum", flipped, wrongSum(flipped)},

		{"unknown record", file(head, "\x21"), "unknown type of record 0x21 at offset 11, in the records"},
		{"type 6", file(head, "\x06"), "unknown type of record 0x06 at offset 11, in the records"},
		{"type 8", file(head, "\x08"), "unknown type of record 0x08 at offset 11, in the records"},
		{"Redis' hash in Valkey's file", file("VALKEY080", "\x18"), "unknown type of record 0x18 at offset 9, in the records"},
		{"Redis' templates in Valkey's file", file("VALKEY080", "\xf2"), "unknown type of record 0xf2 at offset 9, in the records"},
		{"invalid length", file(head, "\x00\x82"), "invalid length byte 0x82 at offset 12, in a key"},
		{"unknown string encoding", file(head, "\x00\xc4"), "unknown string encoding 4 at offset 12, in a key"},
		{"unknown string encoding of a field", file("REDIS0010", "\xfa\xc4"), "unknown string encoding 4 at offset 10, in an auxiliary field"},
		{"encoding for a number", file(head, "\x04\x01a\xc0"), "string encoding 0 where a number belongs at offset 14, in a hash"},
		{"encoding for a number in LZF", file(head, "\x00\x01a\xc3\xc0"), "string encoding 0 where a number belongs at offset 15, in a string"},
		{"huge string", file(head, "\x00\x01a\x81\xff\xff\xff\xff\xff\xff\xff\xff"), "unexpected end of file at offset 32, in a string"},
		{"huge hash", []byte(head + "\x04\x01a\x81\xff\xff\xff\xff\xff\xff\xff\xff"), "unexpected end of file at offset 23, in a hash"},
		{"cut in 14 bits", []byte(head + "\x00\x40"), "unexpected end of file at offset 13, in a key"},
		{"cut in 32 bits", []byte(head + "\x00\x80\x00"), "unexpected end of file at offset 14, in a key"},
		{"cut in 64 bits", []byte(head + "\x00\x81\x00"), "unexpected end of file at offset 14, in a key"},
		{"cut in an integer field", []byte("REDIS0010\xfa\xc2\x00"), "unexpected end of file at offset 12, in an auxiliary field"},
		{"cut in a score", []byte(head + "\x03\x01a\x01\x01m"), "unexpected end of file at offset 17, in a sorted set"},
		{"quicklist container", file(head, "\x12\x01a\x01\x03"), "quicklist container 3 at offset 15, in a list (quicklist)"},
		{"expire time without a key", file(head, "\xfc12345678"), "an expire time or other attribute without a key at offset 20, in the records"},
		{"metadata without a key", file("REDIS0014\xfe\x00", "\xf3\x00", "\xfe\x01"), "an expire time or other attribute without a key at offset 13, in the records"},
		{"database number", file("REDIS0010", "\xfe\x80\x80\x00\x00\x00"), "database number 2147483648 at offset 10, in a database's number"},
		{"too many databases", file("REDIS0010", databases.String()), "more than 65536 databases at offset 393226, in a database's number"},
		{"module opcode", file(head, "\x07\x01a\x81IDIDIDID\x06"), "unknown module opcode 6 at offset 23, in a module's value"},
		{"module auxiliary data", file("REDIS0010", "\xf7\x81IDIDIDID\x01"), "module opcode 1 where 2 belongs at offset 19, in a module's auxiliary data"},
		{"array mark", file("REDIS0014\xfe\x00", "\x1c\x01a\x01\x02"), "array insertion mark 2 at offset 15, in an array"},
		{"array element", file("REDIS0014\xfe\x00", "\x1c\x01a\x01\x00\x05\x04"), "array element of kind 4 at offset 17, in an array"},

		{
			"newer format, no checksum",
			unsummed("REDIS0016", "\xfe\x00", "\x2a\x01a"),
			"format REDIS 16 is newer than this program knows, and the file cannot be verified: it carries no checksum; the walk met: unknown type of record 0x2a at offset 11, in the records",
		},
		{
			"newer format, no end",
			[]byte("REDIS0016\xfe\x00\x20\x01a\x07and so on"),
			"format REDIS 16 is newer than this program knows, and the file cannot be verified: it does not end in an end record and a checksum; the walk met: no hash template 7 at offset 14, in a hash of a template",
		},
		{
			"newer format, header only",
			[]byte("VALKEY099"),
			"format VALKEY 99 is newer than this program knows, and the file cannot be verified: it does not end in an end record and a checksum; the walk met: unexpected end of file at offset 9, in the records",
		},
		{"newer format, wrong checksum", newer, wrongSum(newer)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := rdb.Scan(bytes.NewReader(tt.data))
			if err == nil {
				t.Fatalf("no error, %+v", got)
			}
			mustBeDamage(t, err, len(tt.data))
			if want := "rdb: " + tt.want; err.Error() != want {
				t.Errorf("got  %s\nwant %s", err, want)
			}
			if got.Walked {
				t.Error("it counts as walked")
			}
		})
	}
}

// wrongSum is the message for a file whose checksum does not match.
func wrongSum(data []byte) string {
	at := len(data) - 8
	return fmt.Sprintf("wrong checksum: stored %016x, computed %016x at offset %d",
		binary.LittleEndian.Uint64(data[at:]), checksum(string(data[:at])), at)
}

func TestHintForAFileThatCannotBeVerified(t *testing.T) {
	_, err := rdb.Scan(bytes.NewReader(unsummed("REDIS0016", "\x2a")))
	if hint := status.HintOf(err); !strings.Contains(hint, "rdbchecksum yes") {
		t.Errorf("hint %q of: %v", hint, err)
	}
}

// The way a reader hands out its bytes does not matter.
func TestReaders(t *testing.T) {
	large := file("REDIS0010\xfe\x00", "\x00\x01a\x80\x00\x10\x00\x00"+strings.Repeat("v", 1<<20), "\x00\x01b\x01c")
	for _, data := range [][]byte{samples()[10].read(t), large} {
		want := scan(t, data)
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"one byte":     iotest.OneByteReader,
			"half":         iotest.HalfReader,
			"data and EOF": iotest.DataErrReader,
			"4 KiB": func(r io.Reader) io.Reader {
				return readerFunc(func(p []byte) (int, error) { return r.Read(p[:min(len(p), 4<<10)]) })
			},
			"idle": func(r io.Reader) io.Reader {
				idle := false
				return readerFunc(func(p []byte) (int, error) {
					if idle = !idle; idle {
						return 0, nil
					}
					return r.Read(p)
				})
			},
		} {
			got, err := rdb.Scan(wrap(bytes.NewReader(data)))
			if diff := cmp.Diff(got, want); diff != "" || err != nil {
				t.Errorf("%s: %v\n%s", name, err, diff)
			}
		}
	}
}

// A piece is gone at the next call.
func TestPieces(t *testing.T) {
	large := file("REDIS0010\xfe\x00", "\x00\x01a\x80\x00\x10\x00\x00"+strings.Repeat("v", 1<<20), "\x00\x01b\x01c")
	for _, sample := range samples() {
		for _, data := range [][]byte{sample.read(t), large} {
			want := scan(t, data)
			for _, size := range []int{1, 2, 3, 5, 8, 9, 10, 31, 4 << 10, len(data)} {
				got, err := rdb.Scan(&pieces{r: bytes.NewReader(data), buf: make([]byte, size)})
				if diff := cmp.Diff(got, want); diff != "" || err != nil {
					t.Errorf("%s, %d bytes: %v\n%s", sample.name, size, err, diff)
				}
			}
		}
	}
	silent := &pieces{r: readerFunc(func([]byte) (int, error) { return 0, nil })}
	if _, err := rdb.Scan(silent); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("no pieces: %v", err)
	}
}

// pieces hands out what r has, and overwrites what it handed out before.
type pieces struct {
	r   io.Reader
	buf []byte
}

func (p *pieces) Read([]byte) (int, error) { return 0, errors.New("Read in place of Next") }

func (p *pieces) Next() ([]byte, error) {
	for i := range p.buf {
		p.buf[i] = 0xff
	}
	n, err := p.r.Read(p.buf)
	return p.buf[:n], err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A follower of a growing file says io.EOF when the writer is done, not before.
func TestReadsToEOF(t *testing.T) {
	data := bytes.NewReader(file("REDIS0010"))
	ended := false
	r := readerFunc(func(p []byte) (int, error) {
		n, err := data.Read(p)
		ended = ended || err == io.EOF
		return n, err
	})
	if _, err := rdb.Scan(r); err != nil {
		t.Fatal(err)
	}
	if !ended {
		t.Error("Scan returned before the reader said io.EOF")
	}
}

// An error of the reader is no damage: what classifies it stays visible.
func TestReaderErrors(t *testing.T) {
	broken := status.WithReason(status.ReasonStoreUnreachable, errors.New("connection reset"))
	data := samples()[10].read(t)
	for _, n := range []int{0, 5, 9, 100, len(data) - 8, len(data)} {
		r := io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(broken))
		_, err := rdb.Scan(r)
		if !errors.Is(err, broken) || status.ReasonOf(err) != status.ReasonStoreUnreachable {
			t.Errorf("after %d bytes: %v, reason %s", n, err, status.ReasonOf(err))
		}
		if want := fmt.Sprintf("rdb: read at offset %d: connection reset", n); err != nil && err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
		if _, ok := errors.AsType[*rdb.Error](err); ok {
			t.Errorf("after %d bytes: an *rdb.Error: %v", n, err)
		}
	}

	// The same while the rest of a newer format is read.
	r := io.MultiReader(strings.NewReader("REDIS0016\x2a"), iotest.ErrReader(broken))
	if _, err := rdb.Scan(r); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}

	// And one that only mentions the end.
	r = io.MultiReader(bytes.NewReader(data), iotest.ErrReader(fmt.Errorf("follow: %w", io.EOF)))
	if _, err := rdb.Scan(r); err == nil || err.Error() != fmt.Sprintf("rdb: read at offset %d: follow: EOF", len(data)) {
		t.Errorf("got %v", err)
	}

	silent := readerFunc(func([]byte) (int, error) { return 0, nil })
	if _, err := rdb.Scan(silent); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that returns nothing: %v", err)
	}
}

// What a hostile file makes Scan hold does not grow with the file.
func TestMemory(t *testing.T) {
	const size, limit, step = 6 << 20, 8 << 20, 1 << 20
	for name, record := range map[string]func(id string) string{
		"auxiliary fields": func(id string) string { return "\xfa\x04" + id + "\x04text" },
		"modules":          func(id string) string { return "\xf7\x81" + id + "wxyz\x02\x01\x00" },
		"templates":        func(id string) string { return "\xf2\x80" + id + "\x01\x01f" },
		"databases":        func(id string) string { return "\xfe\x80" + id },
	} {
		t.Run(name, func(t *testing.T) {
			pending := bytes.NewBufferString("REDIS0015")
			var total, next int
			var id uint32
			var held int64
			before := heap()
			r := readerFunc(func(p []byte) (int, error) {
				if total >= next {
					held = max(held, heap()-before)
					next += step
				}
				if total >= size {
					return 0, io.EOF
				}
				for pending.Len() < len(p) {
					id++
					pending.WriteString(record(string(binary.BigEndian.AppendUint32(nil, id))))
				}
				n, _ := pending.Read(p)
				total += n
				return n, nil
			})
			_, err := rdb.Scan(r)
			mustBeDamage(t, err, total)
			if held > limit {
				t.Errorf("%d bytes held of a file of %d bytes", held, total)
			}
		})
	}
}

// heap returns what is in use after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
