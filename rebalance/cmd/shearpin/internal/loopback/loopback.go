// Package loopback tells whether an address is of this machine only: what may be served, or asked, without further ado.
package loopback

import (
	"net"
	"strings"
)

// Is reports whether an address, with or without a port, is of this machine only. A name other than localhost is not: it may
// mean anything.
func Is(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
