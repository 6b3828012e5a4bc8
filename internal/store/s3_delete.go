package store

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Delete implements Store. In a bucket with versions a plain deletion would only
// hide the object, and seem to succeed for one that is locked; there each version
// is deleted, the present one last. Credentials that may not do that hide the
// object, unless the URL asks for locks.
func (s *S3) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return s.error(ctx, "delete", key, err)
	}
	info, err := s.stat(ctx, key)
	if isCode(err, minio.NoSuchKey) {
		return nil
	}
	if err == nil {
		err = heldBack(info)
	}
	r, answered := response(err)
	switch {
	case err != nil && (!answered || r.StatusCode != http.StatusBadRequest && !denied(err)):
	case err == nil && info.VersionID == "": // no versions
		err = s.remove(ctx, key)
	default: // also an object of another sse-c-key-file, which tells nothing
		err = s.removeVersions(ctx, key)
		if denied(err) && s.url.LockMode == "" {
			err = s.remove(ctx, key)
		}
	}
	if err != nil {
		return s.error(ctx, "delete", key, err)
	}
	return nil
}

// remove is a plain deletion.
func (s *S3) remove(ctx context.Context, key string) error {
	return s.removeVersion(ctx, key, "")
}

func (s *S3) removeVersion(ctx context.Context, key, version string) error {
	err := s.try(ctx, s.call, func() error {
		return s.core.RemoveObject(ctx, s.url.Bucket, s.object(key), minio.RemoveObjectOptions{VersionID: version})
	})
	if isCode(err, minio.NoSuchKey) || isCode(err, minio.NoSuchVersion) {
		return nil
	}
	return err
}

// removeVersions deletes all versions of an object, the oldest first, so that
// none of them becomes the present one by a deletion that is cut short.
func (s *S3) removeVersions(ctx context.Context, key string) error {
	var versions []string // the newest first
	err := s.try(ctx, s.call, func() error {
		versions = versions[:0]
		for o := range s.core.ListObjectsIter(ctx, s.url.Bucket, minio.ListObjectsOptions{
			Prefix:       s.object(key),
			WithVersions: true,
			Recursive:    true,
		}) {
			if o.Err != nil {
				return o.Err
			}
			if o.Key == s.object(key) {
				versions = append(versions, o.VersionID)
			}
			if o.Key > s.object(key) {
				break
			}
		}
		return ctx.Err()
	})
	for i := len(versions) - 1; i >= 0 && err == nil; i-- {
		if err = s.removeVersion(ctx, key, versions[i]); err == nil {
			continue
		}
		// Servers have various words for a lock, and the same for a missing right.
		info, statErr := s.statVersion(ctx, key, versions[i])
		if statErr == nil {
			if held := heldBack(info); held != nil {
				return held
			}
		}
	}
	return err
}

func (s *S3) statVersion(ctx context.Context, key, version string) (info minio.ObjectInfo, err error) {
	err = s.try(ctx, s.call, func() error {
		opts := s.readOptions()
		opts.VersionID = version
		info, err = s.core.StatObject(ctx, s.url.Bucket, s.object(key), opts)
		return err
	})
	return info, err
}

// heldBack returns an error when an object may not be deleted yet.
func heldBack(info minio.ObjectInfo) error {
	if info.Metadata.Get("X-Amz-Object-Lock-Legal-Hold") == string(minio.LegalHoldEnabled) {
		return status.WithHint(status.ReasonStore, "whoever set the hold must lift it", lockedError{})
	}
	until, _ := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date")) // zero when there is none
	if !until.After(time.Now()) {
		return nil
	}
	return status.WithHint(status.ReasonStore, "it can be deleted after that; the lock was set by object-lock in the store's URL, or by the bucket's default",
		lockedError{until.UTC()})
}

// lockedError is the cause when an object is under an object lock.
type lockedError struct{ until time.Time }

func (e lockedError) Error() string {
	if e.until.IsZero() {
		return "the object is under a legal hold"
	}
	return fmt.Sprintf("the object is locked until %s", e.until.Format(time.RFC3339))
}

// LockedUntil returns when the object can be deleted; the zero time stands for a
// legal hold, which has no end.
func (e lockedError) LockedUntil() time.Time { return e.until }
