package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Scraper reads one /metrics again and again over one kept connection, as
// Prometheus does.
type Scraper struct {
	// Gzip asks for the answer as Prometheus does. Sizes are then of what came.
	Gzip bool

	url    string
	client *http.Client
	buf    []byte
}

// NewScraper returns a scraper of url. The caller closes it.
func NewScraper(url string) *Scraper {
	return &Scraper{
		url: url,
		client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			DisableCompression: true, // else it would ask for gzip, and undo it
		}},
		buf: make([]byte, 256<<10),
	}
}

// Close closes the connection.
func (s *Scraper) Close() { s.client.CloseIdleConnections() }

// Scrape reads all of it once and returns how long that took and how many bytes
// came.
func (s *Scraper) Scrape(ctx context.Context) (took time.Duration, size int64, err error) {
	return s.scrape(ctx, nil)
}

// Text is Scrape that returns the answer. It needs Gzip off.
func (s *Scraper) Text(ctx context.Context) (string, error) {
	var text []byte
	_, _, err := s.scrape(ctx, &text)
	return string(text), err
}

func (s *Scraper) scrape(ctx context.Context, text *[]byte) (took time.Duration, size int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	if s.Gzip {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	start := time.Now()
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	for err == nil {
		var n int
		n, err = resp.Body.Read(s.buf)
		size += int64(n)
		if text != nil {
			*text = append(*text, s.buf[:n]...)
		}
	}
	took = time.Since(start)
	switch {
	case !errors.Is(err, io.EOF):
		return 0, 0, fmt.Errorf("scrape %s: %w", s.url, err)
	case resp.StatusCode != http.StatusOK:
		return 0, 0, fmt.Errorf("scrape %s: %s", s.url, resp.Status)
	}
	return took, size, nil
}
