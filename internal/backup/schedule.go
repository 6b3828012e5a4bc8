package backup

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/adhocore/gronx"
)

// minEvery keeps a typing mistake from forking the server without a pause.
const minEvery = time.Minute

// Schedule says when a job runs. The zero value is no schedule.
type Schedule struct {
	text  string
	expr  string         // five cron fields; "" with every
	zone  *time.Location // for expr
	every time.Duration
}

// ParseSchedule reads a schedule: five cron fields ("15 3 * * *"), one of
// @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually, or
// "@every 90m" (at least one minute). Cron fields are in UTC, unless the text
// begins with a zone: "CRON_TZ=Europe/Berlin 15 3 * * *" (or TZ=).
//
// In a zone with daylight saving, every time of day comes once on the days of the
// change, too: 02:30 runs at 03:00 when the clock goes from 02:00 to 03:00, and the
// first of two times when it goes back. Where the hour is *, the hours that pass
// are meant: nothing is made up, and an hour that comes twice has its runs twice.
// UTC has no such days.
//
// Zones need the time zone database: a program for an image without one imports
// time/tzdata.
func ParseSchedule(text string) (Schedule, error) {
	s, err := parseSchedule(strings.TrimSpace(text))
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %.100q: %w", text, err)
	}
	return s, nil
}

func parseSchedule(text string) (Schedule, error) {
	s := Schedule{text: text, zone: time.UTC}
	rest := text
	if name, after, ok := cutZone(text); ok {
		zone, err := time.LoadLocation(name)
		if err != nil || name == "" || name == "Local" {
			return Schedule{}, fmt.Errorf("%q is not a time zone, give one such as Europe/Berlin", name)
		}
		s.zone, rest = zone, strings.TrimSpace(after)
	}
	if interval, ok := strings.CutPrefix(rest, "@every"); ok {
		every, err := time.ParseDuration(strings.TrimSpace(interval))
		switch {
		case err != nil:
			return Schedule{}, errors.New(`give an interval such as "@every 1h30m"`)
		case rest != text:
			return Schedule{}, errors.New("@every takes no time zone")
		case every < minEvery:
			return Schedule{}, fmt.Errorf("%s is too often, the least is %s", every, minEvery)
		}
		s.every = every
		return s, nil
	}
	if strings.HasPrefix(rest, "@") {
		switch strings.ToLower(rest) {
		case "@hourly":
			rest = "0 * * * *"
		case "@daily", "@midnight":
			rest = "0 0 * * *"
		case "@weekly":
			rest = "0 0 * * 0"
		case "@monthly":
			rest = "0 0 1 * *"
		case "@yearly", "@annually":
			rest = "0 0 1 1 *"
		default:
			return Schedule{}, fmt.Errorf("%s is not known: give @every <duration>, @hourly, @daily, @weekly, @monthly, @yearly or five cron fields", rest)
		}
	}
	fields := strings.Fields(rest)
	if len(fields) != 5 {
		return Schedule{}, fmt.Errorf("has %d fields, want 5: minute hour day-of-month month day-of-week", len(fields))
	}
	s.expr = strings.Join(fields, " ")
	return s, s.check()
}

func cutZone(text string) (name, rest string, ok bool) {
	for _, prefix := range []string{"CRON_TZ=", "TZ="} {
		if after, found := strings.CutPrefix(text, prefix); found {
			name, rest, _ = strings.Cut(after, " ")
			return name, rest, true
		}
	}
	return "", "", false
}

// check finds the field that is wrong, then whether all of them together ever
// happen.
func (s Schedule) check() error {
	// A fixed time, so that the verdict does not change from day to day. No
	// combination of five fields is further apart than the leap years here.
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	segments, err := gronx.Segments(s.expr)
	if err != nil {
		return err
	}
	names := []string{"second", "minute", "hour", "day of month", "month", "day of week"}
	checker := gronx.New().C
	checker.SetRef(start)
	for i, segment := range segments {
		for part := range strings.SplitSeq(segment, ",") {
			if part == "" {
				return fmt.Errorf("%s %q: empty element in the list", names[i], segment)
			}
			if _, err := checker.CheckDue(part, i); err != nil {
				return fmt.Errorf("%s %q: %w", names[i], segment, err)
			}
		}
	}
	if s.Next(start).IsZero() {
		return errors.New("never happens")
	}
	return nil
}

// Next returns the first time after the given one, in UTC; the zero time when
// there is none.
func (s Schedule) Next(after time.Time) time.Time {
	if s.every > 0 {
		return after.Add(s.every).UTC()
	}
	if s.expr == "" {
		return time.Time{}
	}
	return s.next(after)
}

// maxOffsetChanges bounds how many changes of the clock are passed to find the
// next time: the years between two leap days have 16.
const maxOffsetChanges = 64

// next finds the next time by the clock on the wall. gronx knows fields and no
// zones: it is asked about stretches of time in which the offset of the zone does
// not change, in which that clock runs as one in UTC does.
func (s Schedule) next(after time.Time) time.Time {
	for range maxOffsetChanges {
		begin, end := after.In(s.zone).ZoneBounds()
		offset := offsetAt(s.zone, after)
		wall := after.UTC().Add(offset)
		if !begin.IsZero() && !s.everyHour() {
			// Clock times that came before the clock was put back are over.
			if seen := begin.UTC().Add(offsetAt(s.zone, begin.Add(-1))).Add(-time.Second); seen.After(wall) {
				wall = seen
			}
		}
		tick, err := gronx.NextTickAfter(s.expr, wall, false)
		if err != nil {
			return time.Time{}
		}
		if next := tick.Add(-offset); end.IsZero() || next.Before(end) {
			return next
		}
		// What the clock passed over when it was put forward happens right after, and
		// so does what is due at that very time.
		lost := offsetAt(s.zone, end) - offset
		if due := end.UTC().Add(offset); lost >= 0 && !s.everyHour() && !tick.After(due.Add(lost)) || s.dueAt(end) {
			return end.UTC()
		}
		after = end
	}
	return time.Time{}
}

// dueAt tells whether the clock on the wall shows a time of the schedule, for the
// first time.
func (s Schedule) dueAt(at time.Time) bool {
	offset := offsetAt(s.zone, at)
	if offset < offsetAt(s.zone, at.Add(-1)) && !s.everyHour() {
		return false // put back: the time was shown before
	}
	wall := at.UTC().Add(offset)
	tick, err := gronx.NextTickAfter(s.expr, wall.Add(-time.Second), false)
	return err == nil && tick.Equal(wall)
}

// everyHour tells whether the hour is left open.
func (s Schedule) everyHour() bool {
	hour := strings.Fields(s.expr)[1]
	return hour == "*" || hour == "?" || hour == "*/1"
}

// offsetAt is how far the clock in a zone is ahead of UTC.
func offsetAt(zone *time.Location, at time.Time) time.Duration {
	_, seconds := at.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

// Last returns the latest time that is not after now, in UTC; the zero time when
// there was none in the last four years, and for @every, which counts from a
// snapshot.
func (s Schedule) Last(now time.Time) (last time.Time) {
	if s.expr == "" {
		return time.Time{}
	}
	const day = 24 * time.Hour
	for _, back := range [...]time.Duration{time.Hour, day, 32 * day, 367 * day, 4*366*day + day} {
		for at := s.next(now.Add(-back)); !at.IsZero() && !at.After(now); at = s.next(at) {
			last = at
		}
		if !last.IsZero() {
			break
		}
	}
	return last
}

// Interval returns the duration of an @every schedule, otherwise 0.
func (s Schedule) Interval() time.Duration { return s.every }

// IsZero tells whether there is no schedule.
func (s Schedule) IsZero() bool { return s == Schedule{} }

// String returns the schedule as it was given.
func (s Schedule) String() string { return s.text }
