package store

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]URL{
		"s3://bucket":                       {Bucket: "bucket", PartSize: defaultPartSize, Checksum: ChecksumAuto},
		"s3://bucket/":                      {Bucket: "bucket", PartSize: defaultPartSize, Checksum: ChecksumAuto},
		"s3://my.bucket-1/a/b%20c/":         {Bucket: "my.bucket-1", Prefix: "a/b c", PartSize: defaultPartSize, Checksum: ChecksumAuto},
		"s3://bucket?region=eu-west-1":      {Bucket: "bucket", Region: "eu-west-1", PartSize: defaultPartSize, Checksum: ChecksumAuto},
		"s3://bucket?endpoint=http://s3:80": {Bucket: "bucket", Endpoint: "http://s3:80", PartSize: defaultPartSize, Checksum: ChecksumAuto},
		"s3://bucket?endpoint=https%3A%2F%2F[::1]:9000/&path-style=true": {
			Bucket: "bucket", Endpoint: "https://[::1]:9000", PathStyle: PathStyleOn, PartSize: defaultPartSize, Checksum: ChecksumAuto},
		"s3://bucket/p?path-style=false&ca-file=/etc/ca.pem&insecure-skip-verify=true&part-size=64MiB": {
			Bucket: "bucket", Prefix: "p", PathStyle: PathStyleOff, CAFile: "/etc/ca.pem", InsecureSkipVerify: true, PartSize: 64 * mib, Checksum: ChecksumAuto},
		"s3://bucket?checksum=none&storage-class=STANDARD_IA&sse=kms&sse-kms-key-id=arn:aws:kms:eu-west-1:1:key/x": {
			Bucket: "bucket", PartSize: defaultPartSize, Checksum: ChecksumNone, StorageClass: "STANDARD_IA", SSE: SSEKMS, SSEKMSKeyID: "arn:aws:kms:eu-west-1:1:key/x"},
		"s3://bucket?sse=c&sse-c-key-file=/key&object-lock=governance&object-lock-days=30": {
			Bucket: "bucket", PartSize: defaultPartSize, Checksum: ChecksumAuto, SSE: SSEC, SSECKeyFile: "/key", LockMode: LockGovernance, LockDays: 30},
		"file:///backups":         {Dir: "/backups"},
		"file:///a//b/../c%20d/":  {Dir: "/a/c d"},
		"file:///with%3Fquestion": {Dir: "/with?question"},
	} {
		got, err := ParseURL(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("%s (-got +want):\n%s", raw, diff)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	for _, c := range []struct{ raw, err, hint string }{
		{"", "the store's URL is empty", urlForms},
		{"backups", "store URL: it has no scheme", urlForms},
		{"/backups", "store URL: it has no scheme", "for a directory write file:///backups"},
		{"gs://bucket", `store URL: unknown scheme "gs"`, urlForms},
		{"https://minio:9000/bucket", "store URL: https:// is not the address of a store",
			"for an S3 server at this address write s3://bucket/prefix?endpoint=https://minio:9000"},
		{"s3://", "store URL: it names no bucket", "use s3://bucket/prefix"},
		{"s3:bucket", "store URL: it names no bucket", "use s3://bucket/prefix"},
		{"s3:///bucket/prefix", "store URL: it names no bucket", "use s3://bucket/prefix"},
		{"s3://minio:9000/bucket", `store URL: "minio:9000" is not the name of a bucket`,
			"the first part is the bucket; the server goes into ?endpoint=https://minio:9000"},
		{"s3://My_Bucket", `store URL: "My_Bucket" is not the name of a bucket`,
			"a bucket's name has 3 to 63 lower case letters, digits, dots and hyphens"},
		{"s3://bucket/a//b", `store URL: prefix "a//b" is not a plain path of at most 223 bytes`, `a prefix has no empty, "." or ".." elements`},
		{"s3://bucket/../x", `store URL: prefix "../x" is not a plain path of at most 223 bytes`, `a prefix has no empty, "." or ".." elements`},
		{"s3://AKIA:hunter2@bucket/p", "store URL: user and password are not allowed in it",
			"remove it and give the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in a file named by AWS_SHARED_CREDENTIALS_FILE"},
		{"s3://AKIA:hun%ter2@bucket/p", "store URL: not a valid URL", urlForms},
		{"s3://bucket/#1", "store URL: it holds a #", "write %23 for a # in a name"},
		{"s3://bucket?acess_key=hunter2", `store URL: unknown option "acess_key"`,
			"keys do not belong in the URL: use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		{"s3://bucket?end-point=x", `store URL: unknown option "end-point"`,
			"known options: ca-file, checksum, endpoint, insecure-skip-verify, object-lock, object-lock-days, part-size, path-style, region, sse, sse-c-key-file, sse-kms-key-id, storage-class"},
		{"s3://bucket?region=a&region=b", `store URL: option "region" is given 2 times`, "give it once"},
		{"s3://bucket?region=", `store URL: option region: "" is not the name of a region`, "such as us-east-1"},
		{"s3://bucket?region=%zz", `store URL: its options cannot be parsed: invalid URL escape "%zz"`, "options look like ?endpoint=https://host:port&region=name"},
		{"s3://bucket?endpoint=minio:9000", `store URL: option endpoint: "minio:9000" does not start with http:// or https://`, "write http://host:port or https://host:port"},
		{"s3://bucket?endpoint=http://", `store URL: option endpoint: "http://" names no host`, "write http://host:port or https://host:port"},
		{"s3://bucket?endpoint=http://h/bucket", `store URL: option endpoint: "http://h/bucket" has more than a host and a port`,
			"write http://host:port or https://host:port; the bucket and the prefix go into s3://bucket/prefix"},
		{"s3://bucket?endpoint=u:hunter2@h", "store URL: option endpoint: user and password are not allowed in it",
			"give the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		{"s3://bucket?endpoint=http%3A%2F%2Fu%3Ahunter2%40h", "store URL: option endpoint: user and password are not allowed in it",
			"give the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		{"s3://bucket?path-style=yes", `store URL: option path-style: "yes" is neither true nor false`, "write true or false"},
		{"s3://bucket?ca-file=ca.pem", `store URL: option ca-file: "ca.pem" is not an absolute path`, "name a PEM file by its absolute path"},
		{"s3://bucket?part-size=4MiB", `store URL: option part-size: "4MiB" is not a size from 5MiB to 5120MiB`, "such as 16MiB; uploads take three times as much memory"},
		{"s3://bucket?part-size=16", `store URL: option part-size: "16" is not a size from 5MiB to 5120MiB`, "such as 16MiB; uploads take three times as much memory"},
		{"s3://bucket?checksum=md5", `store URL: option checksum: "md5" is none of them`, "write auto, sha256, crc32c or none"},
		{"s3://bucket?sse=AES256", `store URL: option sse: "AES256" is none of them`, "write s3, kms or c"},
		{"s3://bucket?sse=c", `store URL: option sse=c needs sse-c-key-file`, "name a file of 32 bytes, or of their base64"},
		{"s3://bucket?sse=s3&sse-c-key-file=/k", `store URL: option sse-c-key-file has no meaning without sse=c`, "add sse=c"},
		{"s3://bucket?sse=c&sse-c-key-file=hunter2", `store URL: option sse-c-key-file: it is not an absolute path`, "name a file by its absolute path; the key itself does not belong in the URL"},
		{"s3://bucket?sse-kms-key-id=x", `store URL: option sse-kms-key-id has no meaning without sse=kms`, "add sse=kms"},
		{"s3://bucket?sse=kms&sse-kms-key-id=a%20b", `store URL: option sse-kms-key-id: "a b" is not an id, an ARN or an alias of a key`, "write an id, an ARN or an alias of a key"},
		{"s3://bucket?storage-class=", `store URL: option storage-class: it is not the name of a storage class, such as STANDARD_IA`, "write the name of a storage class, such as STANDARD_IA"},
		{"s3://bucket?storage-class=GLACIER", `store URL: option storage-class: a snapshot in GLACIER cannot be read back at once, which each is after its upload`,
			"GLACIER_IR is the coldest that can; for older snapshots use a lifecycle rule of the bucket"},
		{"s3://bucket?object-lock=on", `store URL: option object-lock: "on" is none of them`, "write governance or compliance"},
		{"s3://bucket?object-lock=governance", `store URL: option object-lock needs object-lock-days`, "such as object-lock-days=30"},
		{"s3://bucket?object-lock-days=1", `store URL: option object-lock-days has no meaning without object-lock`, "add object-lock=governance or object-lock=compliance"},
		{"s3://bucket?object-lock=governance&object-lock-days=0", `store URL: option object-lock-days: "0" is not a number of days from 1 to 36500`, "such as 30"},
		{"file://backups/x", `store URL: file:// takes no host, but has "backups"`, "a directory takes three slashes: file:///backups/x"},
		{"file:backups", `store URL: the directory "backups" is not absolute`, "write file:///backups"},
		{"file:///", "store URL: it names no directory", "name a directory: file:///backups"},
		{"file:///x?password=hunter2", "store URL: file:// takes no options, but has ?password", "write %3F for a ? in a name"},
	} {
		u, err := ParseURL(c.raw)
		if err == nil {
			t.Errorf("%s: got %+v, want an error", c.raw, u)
			continue
		}
		if got := err.Error(); got != c.err {
			t.Errorf("%s:\n got %s\nwant %s", c.raw, got, c.err)
		}
		if got := status.HintOf(err); got != c.hint {
			t.Errorf("%s: hint:\n got %s\nwant %s", c.raw, got, c.hint)
		}
		if strings.Contains(err.Error()+status.HintOf(err), "hunter2") {
			t.Errorf("%s: the error tells the secret", c.raw)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{
		"s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=eu-west-1&path-style=true&part-size=8MiB",
		"s3://b-c?sse=kms&sse-kms-key-id=k&object-lock=compliance&object-lock-days=7&storage-class=STANDARD_IA&checksum=crc32c",
		"file:///var/backups", "s3://u:p@bucket", "file://host/x", "s3://bucket?ca-file=/x&insecure-skip-verify=false",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := ParseURL(raw)
		if err != nil {
			if status.HintOf(err) == "" {
				t.Errorf("no hint: %v", err)
			}
			return
		}
		if (u.Dir == "") == (u.Bucket == "") {
			t.Errorf("neither or both of directory and bucket: %+v", u)
		}
		if u.Bucket != "" && (u.PartSize < minPartSize || u.PartSize > maxPartSize) {
			t.Errorf("part size %d", u.PartSize)
		}
	})
}
