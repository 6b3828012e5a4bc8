package settings

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A value sets one field of Settings from text. An error says what is wrong and
// does not repeat the text; hint says what would be right.
type value struct {
	kind string // for people: "duration", "text | json" …
	set  func(s *Settings, text string) error
	get  func(s *Settings) string
	hint string

	// list makes the text of a YAML list; nil: joined by commas.
	list func(items []string) (string, error)
	// pairs allows a YAML mapping, of which each entry is an item NAME=VALUE.
	pairs bool
	// repeats joins the values of a flag that is given several times; otherwise
	// the last one counts.
	repeats bool
	// secretive marks text in which a password may stand before an @.
	secretive bool
}

func str(field func(*Settings) *string) value {
	return value{
		kind: "string",
		set:  func(s *Settings, text string) error { *field(s) = text; return nil },
		get:  func(s *Settings) string { return *field(s) },
	}
}

// withHint says what would be right where a rule of another package applies.
func (v value) withHint(hint string) value {
	v.hint = hint
	return v
}

// address is a string that may hold a password before an @.
func address(field func(*Settings) *string) value {
	v := str(field)
	v.kind, v.secretive = "address", true
	return v
}

// oneOf is a choice, in any case.
func oneOf(field func(*Settings) *string, choices ...string) value {
	return choice(field, nil, choices...)
}

// choice is oneOf with other words for the same, which are understood and not
// told of.
func choice(field func(*Settings) *string, other map[string]string, choices ...string) value {
	v := str(field)
	v.kind = strings.Join(choices, " | ")
	v.hint = "one of: " + strings.Join(choices, ", ")
	v.set = func(s *Settings, text string) error {
		text = strings.ToLower(text)
		if same, ok := other[text]; ok {
			text = same
		}
		if !slices.Contains(choices, text) {
			return errors.New("not one of the choices")
		}
		*field(s) = text
		return nil
	}
	return v
}

// upper stores a choice in capitals, and names it so.
func upper(v value, field func(*Settings) *string) value {
	set := v.set
	v.kind, v.hint = strings.ToUpper(v.kind), strings.Replace(strings.ToUpper(v.hint), "ONE OF", "one of", 1)
	v.set = func(s *Settings, text string) error {
		err := set(s, text)
		*field(s) = strings.ToUpper(*field(s))
		return err
	}
	return v
}

// file is a path that must be readable when it is set.
func file(field func(*Settings) *string) value {
	v := str(field)
	v.kind = "file"
	v.hint = "is it mounted, and readable for this user?"
	v.set = func(s *Settings, text string) error {
		*field(s) = text
		if text == "" {
			return nil
		}
		return readable(text)
	}
	return v
}

// cannotRead keeps the cause, without the path that the problem names anyway.
func cannotRead(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		err = pe.Err
	}
	return fmt.Errorf("cannot be read: %w", err)
}

func secret(field func(*Settings) *Secret) value {
	return value{
		kind: secretKind,
		set:  func(s *Settings, text string) error { *field(s) = Secret(text); return nil },
		get:  func(s *Settings) string { return field(s).String() },
	}
}

func boolean(field func(*Settings) *bool) value {
	return value{
		kind: boolKind,
		hint: "true or false",
		set: func(s *Settings, text string) error {
			b, err := strconv.ParseBool(text)
			if err != nil {
				return errors.New("not a boolean")
			}
			*field(s) = b
			return nil
		},
		get: func(s *Settings) string { return strconv.FormatBool(*field(s)) },
	}
}

func integer(field func(*Settings) *int, low, high int) value {
	return value{
		kind: "integer",
		hint: fmt.Sprintf("a whole number from %d to %d", low, high),
		set: func(s *Settings, text string) error {
			n, err := strconv.Atoi(text)
			if err != nil {
				return errors.New("not a whole number")
			}
			if n < low || n > high {
				return errors.New("out of range")
			}
			*field(s) = n
			return nil
		},
		get: func(s *Settings) string { return strconv.Itoa(*field(s)) },
	}
}

// size is a number of bytes.
func size(field func(*Settings) *int, low, high int) value {
	return value{
		kind: "size",
		hint: "bytes, or a number with a unit, such as 500kB, 50MiB or 1GiB, not less than " + shortSize(low) + "; 0 is none",
		set: func(s *Settings, text string) error {
			digits := strings.TrimRight(text, "kKMGTiB ")
			unit, ok := sizeUnits[strings.TrimSpace(text[len(digits):])]
			n, err := strconv.ParseFloat(digits, 64)
			if err != nil || !ok {
				return errors.New("not a size")
			}
			n *= float64(unit)
			if ok := n == 0 || n >= float64(low) && n <= float64(high); !ok { // nor is it NaN
				return errors.New("out of range")
			}
			*field(s) = int(n)
			return nil
		},
		get: func(s *Settings) string { return shortSize(*field(s)) },
	}
}

var sizeUnits = map[string]int{
	"": 1, "B": 1, "k": 1e3, "kB": 1e3, "KB": 1e3, "M": 1e6, "MB": 1e6, "G": 1e9, "GB": 1e9,
	"K": 1 << 10, "KiB": 1 << 10, "Mi": 1 << 20, "MiB": 1 << 20, "Gi": 1 << 30, "GiB": 1 << 30,
}

// shortSize prints 52428800 as 50MiB.
func shortSize(n int) string {
	for _, unit := range [...]string{"GiB", "MiB", "KiB"} {
		if size := sizeUnits[unit]; n > 0 && n%size == 0 {
			return strconv.Itoa(n/size) + unit
		}
	}
	return strconv.Itoa(n)
}

func duration(field func(*Settings) *time.Duration, low, high time.Duration) value {
	return value{
		kind: "duration",
		hint: fmt.Sprintf("a number with a unit, such as 500ms, 5s or 2h, from %s to %s", short(low), short(high)),
		set: func(s *Settings, text string) error {
			d, err := time.ParseDuration(text)
			if err != nil {
				return errors.New("not a duration")
			}
			if d < low || d > high {
				return errors.New("out of range")
			}
			*field(s) = d
			return nil
		},
		get: func(s *Settings) string { return short(*field(s)) },
	}
}

// short prints 5m0s as 5m and 1h0m0s as 1h.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
