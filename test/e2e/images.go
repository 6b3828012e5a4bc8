package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// loadImages builds the images that are not given and hands them to the nodes.
func (s *scenario) loadImages(ctx context.Context) (string, error) {
	var archives []string
	if s.buildSidecar {
		archive := filepath.Join(s.work, "redis-sidecar.tar")
		cmd := "ARCHIVE=$0 test/image/build.sh $1 e2e"
		if _, err := command(ctx, "", "sh", "-c", cmd, archive, s.sidecarImage); err != nil {
			return "", err
		}
		archives = append(archives, archive)
	}
	if s.buildS3 {
		archive := filepath.Join(s.work, "versitygw.tar")
		if _, err := command(ctx, "", "go", "run", "./test/image", "-o", archive, "-ref", s.s3Image,
			"-entrypoint", "/versitygw", "bin/versitygw:/versitygw"); err != nil {
			return "", err
		}
		archives = append(archives, archive)
	}
	var sizes []string
	for _, archive := range archives {
		args := append(append([]string{}, s.load[1:]...), archive)
		if _, err := command(ctx, "", s.load[0], args...); err != nil {
			return "", fmt.Errorf("E2E_LOAD: %w", err)
		}
		st, err := os.Stat(archive)
		if err != nil {
			return "", err
		}
		sizes = append(sizes, fmt.Sprintf("%s %.1f MB", filepath.Base(archive), float64(st.Size())/1e6))
	}
	if len(sizes) == 0 {
		return s.sidecarImage + ", " + s.s3Image, nil
	}
	return strings.Join(sizes, ", "), nil
}
