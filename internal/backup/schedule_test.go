package backup

import (
	"testing"
	"time"

	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
)

func TestScheduleNext(t *testing.T) {
	tests := []struct {
		text, after string
		want        []string
	}{
		{"15 3 * * *", "2026-11-23T06:15:30Z", []string{"2026-11-24T03:15:00Z", "2026-11-25T03:15:00Z"}},
		{"*/15 * * * *", "2026-11-23T06:15:00Z", []string{"2026-11-23T06:30:00Z", "2026-11-23T06:45:00Z"}},
		{"* * * * *", "2026-11-23T06:15:00.5Z", []string{"2026-11-23T06:16:00Z"}},
		{"0 0 29 2 *", "2026-11-23T06:15:30Z", []string{"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"}},
		{"0 6 * * MON-FRI", "2026-11-27T06:00:00Z", []string{"2026-11-30T06:00:00Z"}},
		{"@hourly", "2026-11-23T06:15:30Z", []string{"2026-11-23T07:00:00Z"}},
		{"@daily", "2026-12-31T06:15:30Z", []string{"2027-01-01T00:00:00Z"}},
		{"@midnight", "2026-12-31T06:15:30Z", []string{"2027-01-01T00:00:00Z"}},
		{"@weekly", "2026-11-23T06:15:30Z", []string{"2026-11-29T00:00:00Z"}},
		{"@monthly", "2026-11-23T06:15:30Z", []string{"2026-12-01T00:00:00Z"}},
		{"@yearly", "2026-11-23T06:15:30Z", []string{"2027-01-01T00:00:00Z"}},
		{"@every 1h30m", "2026-11-23T06:15:30.25Z", []string{"2026-11-23T07:45:30.25Z"}},
		{"CRON_TZ=Europe/Berlin 15 3 * * *", "2026-11-23T06:15:30Z", []string{"2026-11-24T02:15:00Z"}},
		{"TZ=Asia/Tokyo @daily", "2026-11-23T06:15:30Z", []string{"2026-11-23T15:00:00Z"}},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			s, err := ParseSchedule(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339Nano, tt.after)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for range tt.want {
				at = s.Next(at)
				got = append(got, at.Format(time.RFC3339Nano))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("after %s (-want +got):\n%s", tt.after, diff)
			}
			if s.String() != tt.text {
				t.Errorf("String() = %q", s.String())
			}
		})
	}
}

// Trap: the schedule library leaves out what the clock change does. Every time of
// day comes once on those days, too.
func TestScheduleAtClockChanges(t *testing.T) {
	tests := []struct {
		name, zone, fields, after string
		want                      []string // in the zone
	}{
		{"forward, in the gap", "Europe/Berlin", "30 2 * * *", "2026-03-28T12:00:00+01:00",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"}},
		{"forward, the begin of the gap", "Europe/Berlin", "0 2 * * *", "2026-03-28T12:00:00+01:00",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"}},
		{"forward, the end of the gap", "Europe/Berlin", "0 3 * * *", "2026-03-28T12:00:00+01:00",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-30T03:00:00+02:00"}},
		{"forward, several in the gap are one", "Europe/Berlin", "*/15 2,3 * * *", "2026-03-29T01:59:00+01:00",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-29T03:15:00+02:00", "2026-03-29T03:30:00+02:00"}},
		{"forward, every hour", "Europe/Berlin", "30 * * * *", "2026-03-29T00:45:00+01:00",
			[]string{"2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"}},
		{"forward, on the hour", "Europe/Berlin", "@hourly", "2026-03-29T00:45:00+01:00",
			[]string{"2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"}},
		{"forward, only on Sundays", "Europe/Berlin", "30 2 * * SUN", "2026-03-22T12:00:00+01:00",
			[]string{"2026-03-29T03:00:00+02:00", "2026-04-05T02:30:00+02:00"}},
		{"back, in the hour that comes twice", "Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00+02:00",
			[]string{"2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"}},
		{"back, asked between the two", "Europe/Berlin", "30 2 * * *", "2026-10-25T02:10:00+01:00",
			[]string{"2026-10-26T02:30:00+01:00"}},
		{"back, the begin of that hour", "Europe/Berlin", "0 2 * * *", "2026-10-24T12:00:00+02:00",
			[]string{"2026-10-25T02:00:00+02:00", "2026-10-26T02:00:00+01:00"}},
		{"back, its end", "Europe/Berlin", "0 3 * * *", "2026-10-24T12:00:00+02:00",
			[]string{"2026-10-25T03:00:00+01:00", "2026-10-26T03:00:00+01:00"}},
		{"back, every hour", "Europe/Berlin", "*/30 * * * *", "2026-10-25T01:45:00+02:00",
			[]string{"2026-10-25T02:00:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:00:00+01:00"}},
		{"forward, America", "America/New_York", "30 2 * * *", "2026-03-07T12:00:00-05:00",
			[]string{"2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"}},
		{"back, America", "America/New_York", "30 1 * * *", "2026-10-31T12:00:00-04:00",
			[]string{"2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"}},
		{"forward, the south", "Australia/Sydney", "30 2 * * *", "2026-10-03T12:00:00+10:00",
			[]string{"2026-10-04T03:00:00+11:00", "2026-10-05T02:30:00+11:00"}},
		{"forward, half an hour", "Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00:00+10:30",
			[]string{"2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"}},
		{"back, half an hour", "Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00:00+11:00",
			[]string{"2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"}},
		{"forward, at midnight", "Africa/Cairo", "@daily", "2026-04-23T12:00:00+02:00",
			[]string{"2026-04-24T01:00:00+03:00", "2026-04-25T00:00:00+03:00"}},
		{"back, over midnight", "Africa/Cairo", "30 23 * * *", "2026-10-29T12:00:00+03:00",
			[]string{"2026-10-29T23:30:00+03:00", "2026-10-30T23:30:00+02:00"}},
		{"a day that there was not", "Pacific/Apia", "0 3 * * *", "2011-12-29T12:00:00-10:00",
			[]string{"2011-12-31T00:00:00+14:00", "2011-12-31T03:00:00+14:00", "2012-01-01T03:00:00+14:00"}},
		{"never a change", "UTC", "30 2 * * *", "2026-03-28T12:00:00Z", []string{"2026-03-29T02:30:00Z", "2026-03-30T02:30:00Z"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := ParseSchedule("CRON_TZ=" + tt.zone + " " + tt.fields)
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339, tt.after)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for range tt.want {
				before := at
				at = s.Next(at)
				got = append(got, at.In(s.zone).Format(time.RFC3339))
				if last := s.Last(at.Add(time.Second)); !last.Equal(at) {
					t.Errorf("Last just after %s is %s", at.In(s.zone), last.In(s.zone))
				}
				if between := s.Next(before.Add(at.Sub(before) / 2)); !between.Equal(at) {
					t.Errorf("Next from half way is %s", between.In(s.zone))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("after %s (-want +got):\n%s", tt.after, diff)
			}
		})
	}
}

// Whatever the zone, a daily schedule runs once on every day.
func TestScheduleRunsOnceADay(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Beirut", "Asia/Kolkata", "UTC"} {
		for _, fields := range []string{"30 2 * * *", "0 0 * * *", "30 1 * * *", "59 23 * * *"} {
			s, err := ParseSchedule("CRON_TZ=" + zone + " " + fields)
			if err != nil {
				t.Fatal(err)
			}
			days := map[string]int{}
			begin, end := time.Date(2010, 1, 1, 12, 0, 0, 0, s.zone), time.Date(2018, 1, 1, 12, 0, 0, 0, s.zone)
			for at := s.Next(begin); at.Before(end); at = s.Next(at) {
				days[at.In(s.zone).Format(time.DateOnly)]++
			}
			for day := begin.AddDate(0, 0, 1); !day.After(end.AddDate(0, 0, -1)); day = day.AddDate(0, 0, 1) {
				if n := days[day.Format(time.DateOnly)]; n != 1 {
					t.Errorf("%s %s: %d runs on %s", zone, fields, n, day.Format(time.DateOnly))
				}
			}
		}
	}
}

func TestScheduleLast(t *testing.T) {
	tests := []struct{ text, now, want string }{
		{"15 3 * * *", "2026-11-23T03:15:00Z", "2026-11-23T03:15:00Z"},
		{"15 3 * * *", "2026-11-23T03:14:59Z", "2026-11-22T03:15:00Z"},
		{"*/5 * * * *", "2026-11-23T03:14:59Z", "2026-11-23T03:10:00Z"},
		{"@weekly", "2026-11-23T03:14:59Z", "2026-11-22T00:00:00Z"},
		{"@monthly", "2026-11-30T03:14:59Z", "2026-11-01T00:00:00Z"},
		{"@yearly", "2026-11-30T03:14:59Z", "2026-01-01T00:00:00Z"},
		{"0 0 29 2 *", "2026-11-30T03:14:59Z", "2024-02-29T00:00:00Z"},
		{"@every 1h", "2026-11-30T03:14:59Z", "0001-01-01T00:00:00Z"},
	}
	for _, tt := range tests {
		s, err := ParseSchedule(tt.text)
		if err != nil {
			t.Fatal(err)
		}
		now, err := time.Parse(time.RFC3339, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Last(now).Format(time.RFC3339); got != tt.want {
			t.Errorf("%s at %s: last %s, want %s", tt.text, tt.now, got, tt.want)
		}
	}
}

func TestScheduleBad(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", `schedule "": has 0 fields, want 5: minute hour day-of-month month day-of-week`},
		{"0 0 30 2 *", `schedule "0 0 30 2 *": never happens`},
		{"0 0 31 4,6,9,11 *", `schedule "0 0 31 4,6,9,11 *": never happens`},
		{"61 5 1 1 *", `schedule "61 5 1 1 *": minute "61": segment#1: '61' out of bounds(0, 59)`},
		{"0 24 * * *", `schedule "0 24 * * *": hour "24": segment#2: '24' out of bounds(0, 23)`},
		{"0 0 0 * *", `schedule "0 0 0 * *": day of month "0": segment#3: '0' out of bounds(1, 31)`},
		{"0 0 * 13 *", `schedule "0 0 * 13 *": month "13": segment#4: '13' out of bounds(1, 12)`},
		{"0,,5 * * * *", `schedule "0,,5 * * * *": minute "0,,5": empty element in the list`},
		{"*/0 * * * *", `schedule "*/0 * * * *": minute "*/0": step can't be 0`},
		{"0 0 0 * * *", `schedule "0 0 0 * * *": has 6 fields, want 5: minute hour day-of-month month day-of-week`},
		{"every hour", `schedule "every hour": has 2 fields, want 5: minute hour day-of-month month day-of-week`},
		{"@reboot", `schedule "@reboot": @reboot is not known: give @every <duration>, @hourly, @daily, @weekly, @monthly, @yearly or five cron fields`},
		{"@everysecond", `schedule "@everysecond": give an interval such as "@every 1h30m"`},
		{"@every", `schedule "@every": give an interval such as "@every 1h30m"`},
		{"@every 10s", `schedule "@every 10s": 10s is too often, the least is 1m0s`},
		{"@every -1h", `schedule "@every -1h": -1h0m0s is too often, the least is 1m0s`},
		{"TZ=Europe/Berlin @every 1h", `schedule "TZ=Europe/Berlin @every 1h": @every takes no time zone`},
		{"CRON_TZ=Mars/Olympus 0 0 * * *", `schedule "CRON_TZ=Mars/Olympus 0 0 * * *": "Mars/Olympus" is not a time zone, give one such as Europe/Berlin`},
		{"TZ=Local 0 0 * * *", `schedule "TZ=Local 0 0 * * *": "Local" is not a time zone, give one such as Europe/Berlin`},
		{"TZ=Europe/Berlin", `schedule "TZ=Europe/Berlin": has 0 fields, want 5: minute hour day-of-month month day-of-week`},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			s, err := ParseSchedule(tt.text)
			if err == nil {
				t.Fatalf("accepted, next %s", s.Next(time.Now()))
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzSchedule(f *testing.F) {
	for _, text := range []string{"15 3 * * *", "@every 1h", "TZ=Europe/Berlin 0 0 L * 5#2", "0 0 15W * *", "1-5/2,*/9 * ? * *"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSchedule(text)
		if err != nil {
			return
		}
		now := time.Date(2026, 11, 23, 6, 15, 30, 0, time.UTC)
		if next := s.Next(now); !next.IsZero() && !next.After(now) {
			t.Errorf("%q: next %s is not after %s", text, next, now)
		}
	})
}
