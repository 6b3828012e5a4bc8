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
		// The day of the clock change has no 02:30: that day is skipped. In UTC
		// it is not.
		{"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-03-28T12:00:00Z", []string{"2026-03-30T00:30:00Z"}},
		{"30 2 * * *", "2026-03-28T12:00:00Z", []string{"2026-03-29T02:30:00Z", "2026-03-30T02:30:00Z"}},
		// In autumn 02:30 comes twice and runs once, the second time.
		{"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-10-24T12:00:00Z", []string{"2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"}},
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
