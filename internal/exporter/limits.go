package exporter

// drop counts series that a collector left out because there would be too many.
func (s *sink) drop(n int) { s.dropped += n }
