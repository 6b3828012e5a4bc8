package probe

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/human"
)

// maxText bounds what of a foreign text gets into a message.
const maxText = 200

// oneLine makes a foreign text fit for a one-line answer.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

// seconds writes a duration as whole seconds.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64(d.Round(time.Second)/time.Second), 10) + " s"
}

// progress writes "43 %, 1.2 GiB of 2.8 GiB", or as much of it as is known.
func progress(done, total int64) string {
	switch {
	case total > 0 && done <= total:
		return fmt.Sprintf("%d %%, %s of %s", int64(float64(done)/float64(total)*100), human.Bytes(done), human.Bytes(total))
	case done > 0:
		return human.Bytes(done)
	}
	return ""
}

func loadingText(o Observation) string {
	text := "LOADING"
	if p := progress(o.LoadedBytes, o.LoadingBytes); p != "" {
		text += " " + p
	}
	if o.LoadingETA > 0 {
		text += ", about " + seconds(o.LoadingETA) + " left"
	}
	return text
}

func stuckText(o Observation) string {
	return fmt.Sprintf("%s, without progress for %s", loadingText(o), seconds(o.LoadingStalled))
}

func syncText(o Observation) string {
	text := "first full copy from the master"
	if p := progress(o.SyncedByte, o.SyncBytes); p != "" {
		text += ": " + p
	}
	return text
}

func staleText(o Observation) string {
	return "the sidecar itself has not looked for " + seconds(o.Stale)
}

func roleText(o Observation) string {
	switch {
	case o.Role == Replica && o.LinkUp:
		return "replica, in touch with its master"
	case o.ClusterEnabled && o.ClusterState == "ok":
		return string(o.Role) + ", cluster ok"
	case o.Role == "":
		return "it answers"
	}
	return string(o.Role)
}

func silentText(o Observation) string {
	if o.Once {
		return "no answer in time"
	}
	return "no answer for " + seconds(o.Silent)
}
