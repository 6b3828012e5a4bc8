package backup

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// idTimeLayout is the part of an id that makes ids sort by time: UTC, seconds.
const idTimeLayout = "20060102T150405Z"

const (
	maxPodInID   = 63 // a DNS label
	suffixInID   = 6  // base32 digits: what follows
	fractionInID = 10 // bits: of the second, about a millisecond
	randomInID   = 20 // bits: for two attempts of one pod in one millisecond
)

// idDigits are in the order of their bytes, as those of RFC 4648 are not.
const idDigits = "0123456789abcdefghijklmnopqrstuv"

// NewID returns the id of a snapshot of pod created at t:
// 20261123T061530Z-redis-0-k3x5qa. Ids sort by time, those of one pod to the
// millisecond, and never repeat. What a file name should not hold is replaced in
// pod; an empty pod becomes "redis".
func NewID(t time.Time, pod string) string {
	bits := uint32(int64(t.Nanosecond())<<fractionInID/int64(time.Second)) << randomInID
	bits |= rand.Uint32() >> (32 - randomInID)
	var suffix [suffixInID]byte
	for i := len(suffix) - 1; i >= 0; i-- {
		suffix[i] = idDigits[bits&31]
		bits >>= 5
	}
	return t.UTC().Format(idTimeLayout) + "-" + cleanPod(pod) + "-" + string(suffix[:])
}

func cleanPod(pod string) string {
	pod = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, pod)
	if len(pod) > maxPodInID {
		pod = pod[:maxPodInID]
	}
	if pod = strings.Trim(pod, "-"); pod == "" {
		return "redis"
	}
	return pod
}

// IDTime checks the form of a snapshot id and returns the time in it, in UTC
// and whole seconds.
func IDTime(id string) (time.Time, error) {
	stamp, rest, ok := strings.Cut(id, "-")
	if !ok || len(rest) < 1+1+suffixInID || len(rest) > maxPodInID+1+suffixInID {
		return time.Time{}, fmt.Errorf("%.120q is not a snapshot id", id)
	}
	for _, r := range rest {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return time.Time{}, fmt.Errorf("%.120q is not a snapshot id", id)
		}
	}
	t, err := time.Parse(idTimeLayout, stamp)
	if err != nil || len(stamp) != len(idTimeLayout) {
		return time.Time{}, fmt.Errorf("%.120q is not a snapshot id", id)
	}
	return t, nil
}

// ValidInstance checks the name of an instance: path segments of letters,
// digits, dot, dash and underscore, such as "prod/redis". The segment
// "snapshots" is taken by the layout of the store.
func ValidInstance(instance string) error {
	if instance == "" {
		return errors.New("instance is empty")
	}
	if len(instance) > 255 {
		return errors.New("instance is longer than 255 bytes")
	}
	for segment := range strings.SplitSeq(instance, "/") {
		switch segment {
		case "", ".", "..", snapshotsDir:
			return fmt.Errorf("instance %q: segment %q is not allowed", instance, segment)
		}
		for _, r := range segment {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r) {
				return fmt.Errorf("instance %q: %q is not allowed", instance, r)
			}
		}
	}
	return nil
}
