// Package exporter turns one pipelined read of a Redis server into the metrics
// of /metrics, under the names, types and labels of redis_exporter.
//
// An [Exporter] belongs to one server. A scrape goes this way:
//
//	NewHandler  deadline from the request's header            handler.go
//	Scrape      concurrent scrapes share one collection       exporter.go, share.go
//	read        INFO ALL and what else is allowed, one write  plan.go
//	collectors  replies to series, one file for each subject  collector.go, fields.go, commands.go …
//	background  what was read outside scrapes is added        background.go, background_pass.go …
//	sources     so is what the sidecar's jobs say             sources.go
//	sink        series in order, without an object for each   sink.go
//	text        series to the answer                          text.go; families.go for protobuf
//
// A collector of a scrape never asks the server itself: it says once for each server what
// it wants to know, see [collector], and gets the replies. So the number of
// round trips does not grow with the number of collectors. Two happen at the
// first read of a server (what it is decides what it is asked), one after that.
//
// A command that the server refuses, for its ACL or its version, is not asked
// again before the connection breaks, another server answers there or
// refusalExpiry is over: an exporter must not show up in the errors it counts.
package exporter
