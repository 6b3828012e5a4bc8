package announce

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Source says where the own address was taken from. The set is closed: it is a
// metric label.
type Source string

// The sources, in order of precedence.
const (
	SourceSetting   Source = "setting"   // announce.address
	SourcePod       Source = "pod"       // the downward API
	SourceInterface Source = "interface" // the only fitting address of the network interfaces
	SourceRoute     Source = "route"     // of several, the one that the default route uses
)

// Own is the pod's own address.
type Own struct {
	Address string // an IP address; with SourceSetting a host name, too
	Source  Source
}

const addressHint = "set announce.address, or give the container POD_IP from status.podIP"

// finder looks for the own address. Its functions are the machine's, except in
// tests.
type finder struct {
	setting    string
	pod        string // one address, or several separated by commas as in status.podIPs
	interfaces func() ([]netip.Addr, error)
	route      func(v6 bool) (netip.Addr, error)
}

// own returns the own address. Of several that are equally good it takes one of
// the preferred family.
func (f finder) own(preferV6 bool) (Own, error) {
	if f.setting != "" {
		return Own{canonical(f.setting), SourceSetting}, nil
	}
	if f.pod != "" {
		addrs, err := parsePod(f.pod)
		if err != nil {
			return Own{}, status.WithHint(status.ReasonAddress, "POD_IP comes from status.podIP", err)
		}
		return Own{ofFamily(addrs, preferV6)[0].String(), SourcePod}, nil
	}
	addrs, err := f.interfaces()
	if err != nil {
		return Own{}, status.WithHint(status.ReasonAddress, addressHint, fmt.Errorf("list network interfaces: %w", err))
	}
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return !usable(a) })
	if len(addrs) == 0 {
		return Own{}, status.WithHint(status.ReasonAddress, addressHint,
			errors.New("no network interface has an address that others could reach"))
	}
	addrs = ofFamily(addrs, preferV6)
	if len(addrs) > 1 {
		if a, err := f.route(addrs[0].Is6()); err == nil && slices.Contains(addrs, a) {
			return Own{a.String(), SourceRoute}, nil
		}
	}
	return Own{addrs[0].String(), SourceInterface}, nil
}

// usable tells whether others can reach an address: not loopback, unspecified,
// link-local or multicast.
func usable(a netip.Addr) bool { return a.IsGlobalUnicast() }

// ofFamily returns the addresses of the preferred family, or all when there are none.
func ofFamily(addrs []netip.Addr, v6 bool) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if a.Is6() == v6 {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return addrs
	}
	return out
}

func parsePod(text string) ([]netip.Addr, error) {
	var out []netip.Addr
	for part := range strings.SplitSeq(text, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("POD_IP %q is not an IP address", text)
		}
		if a = a.Unmap().WithZone(""); !usable(a) {
			return nil, fmt.Errorf("POD_IP %q is not an address that others could reach", text)
		}
		out = append(out, a)
	}
	return out, nil
}

// canonical writes an IP address in its shortest form and leaves a name as it is.
func canonical(s string) string {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().String()
	}
	return s
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// interfaceAddrs lists the addresses of all interfaces that are up, in the order
// of the interfaces' numbers.
func interfaceAddrs() ([]netip.Addr, error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(ifs, func(a, b net.Interface) int { return a.Index - b.Index })
	var out []netip.Addr
	for _, i := range ifs {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away since it was listed
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, p.Addr().Unmap().WithZone(""))
			}
		}
	}
	return out, nil
}

// routeAddr returns the address that the default route would send from. Nothing
// is sent: connecting a UDP socket only looks up the route. The addresses asked
// for are those reserved for documentation.
func routeAddr(v6 bool) (netip.Addr, error) {
	network, to := "udp4", "192.0.2.1:9"
	if v6 {
		network, to = "udp6", "[2001:db8::1]:9"
	}
	var d net.Dialer
	c, err := d.DialContext(context.Background(), network, to) // returns at once
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	ap, err := netip.ParseAddrPort(c.LocalAddr().String())
	return ap.Addr().Unmap().WithZone(""), err
}

// hostName is what may stand in replica-announce-ip instead of an address.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

// Validate checks the settings announce.mode and announce.address. The address
// may be empty, an IP address, or a host name where the mode is not cluster.
func Validate(mode Mode, address string) error {
	if !slices.Contains(Modes(), mode) {
		return fmt.Errorf("mode %q is none of auto, replication, cluster, off", mode)
	}
	if address == "" {
		return nil
	}
	a, err := netip.ParseAddr(address)
	switch {
	case err == nil && (a.IsUnspecified() || a.IsMulticast()):
		return fmt.Errorf("%s is not the address of one host", address)
	case err == nil && a.Zone() != "":
		return fmt.Errorf("%s has a zone, which means nothing to other hosts", address)
	case err == nil:
		return nil
	case len(address) > 253 || !hostName.MatchString(address) || strings.Trim(address, "0123456789.") == "":
		return fmt.Errorf("%q is neither an IP address nor a host name", address)
	case mode == Cluster:
		return fmt.Errorf("%q is a name; the cluster bus knows only IP addresses (names belong in cluster-announce-hostname)", address)
	}
	return nil
}
