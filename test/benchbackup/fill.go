package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
)

// fill writes data such as applications have until the server holds so many
// bytes: of seven keys four are JSON of about 430 bytes, and one each a hash, a
// sorted set and a list. One in five has a time to live.
func fill(ctx context.Context, client *redis.Client, size int64) (keys int, err error) {
	if _, err := client.Do(ctx, "FLUSHALL"); err != nil {
		return 0, err
	}
	const batch = 500
	rnd := rand.New(rand.NewPCG(1, 2)) // the same data every time
	for {
		commands := make([][]string, 0, batch+batch/5)
		for range batch {
			key, command := record(rnd, keys)
			commands = append(commands, command)
			if keys%5 == 0 {
				commands = append(commands, []string{"EXPIRE", key, strconv.Itoa(3600 + rnd.IntN(30*24*3600))})
			}
			keys++
		}
		if _, err := client.Pipeline(ctx, commands...); err != nil {
			return 0, err
		}
		if keys%(20*batch) != 0 {
			continue
		}
		in, err := client.Info(ctx, "memory")
		if err != nil {
			return 0, err
		}
		if used, _ := in.Int("used_memory"); used >= size {
			return keys, nil
		}
	}
}

func record(rnd *rand.Rand, n int) (key string, command []string) {
	switch n % 7 {
	case 4:
		key = "session:" + strconv.Itoa(n)
		return key, []string{"HSET", key, "user", strconv.Itoa(rnd.IntN(1e6)), "agent", "Mozilla/5.0 (X11; Linux x86_64)", "csrf", hex(rnd, 32),
			"cart", strconv.Itoa(rnd.IntN(100)), "seen", strconv.FormatInt(1_790_000_000+rnd.Int64N(1e7), 10), "lang", lang(rnd)}
	case 5:
		key = "board:" + strconv.Itoa(n)
		command = []string{"ZADD", key}
		for range 20 {
			command = append(command, strconv.FormatFloat(rnd.Float64()*1000, 'f', 2, 64), "player:"+strconv.Itoa(rnd.IntN(1e7)))
		}
		return key, command
	case 6:
		key = "queue:" + strconv.Itoa(n)
		command = []string{"RPUSH", key}
		for range 10 {
			command = append(command, fmt.Sprintf(`{"job":%d,"try":%d,"id":"%s"}`, rnd.IntN(1e7), rnd.IntN(3), hex(rnd, 16)))
		}
		return key, command
	}
	key = "user:" + strconv.Itoa(n)
	return key, []string{"SET", key, fmt.Sprintf(
		`{"id":%d,"uuid":"%s","name":"%s %s","email":"%s%d@example.com","created_at":"%s","active":%t,"balance":%.2f,"address":{"street":"%s street %d","city":"%s","zip":"%05d","country":"%s"},"tags":["%s","%s","%s"],"token":"%s"}`,
		n, hex(rnd, 32), word(rnd), word(rnd), word(rnd), rnd.IntN(1e5), time.Unix(1_700_000_000+rnd.Int64N(9e7), 0).UTC().Format(time.RFC3339),
		rnd.IntN(2) == 0, rnd.Float64()*1e4, word(rnd), rnd.IntN(300), word(rnd), rnd.IntN(1e5), lang(rnd), word(rnd), word(rnd), word(rnd), hex(rnd, 40))}
}

func hex(rnd *rand.Rand, n int) string {
	const digits = "0123456789abcdef"
	b := make([]byte, n)
	for i := range b {
		b[i] = digits[rnd.IntN(len(digits))]
	}
	return string(b)
}

func word(rnd *rand.Rand) string {
	const text = "amber birch cedar delta ember fjord grove haven indigo jasper kernel lagoon meadow nectar opal prairie quartz river summit timber umber valley willow xenon yonder zephyr anchor beacon copper drift eagle falcon"
	list := strings.Fields(text)
	return list[rnd.IntN(len(list))]
}

func lang(rnd *rand.Rand) string { return [...]string{"de", "en", "fr", "es", "pl", "sv"}[rnd.IntN(6)] }
