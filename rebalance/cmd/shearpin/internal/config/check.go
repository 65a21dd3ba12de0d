package config

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/token"

	"github.com/shearpin/shearpin/dcp/kv"
	"github.com/shearpin/shearpin/rebalance"
	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/loopback"
	"github.com/shearpin/shearpin/rebalance/vbmap"
)

// maxFile bounds the file, in bytes.
const maxFile = 1 << 20

// Load reads a file. Mistakes in it are [Errors]. Neither passwords nor certificates are looked at yet.
func Load(path string) (*Config, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // nothing was written
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, Errors{{File: path, Why: fmt.Sprintf("has more than %d bytes", maxFile)}}
	}
	return Parse(path, text)
}

// Parse is [Load] of a text that has been read.
func Parse(path string, text []byte) (*Config, error) {
	c := &Config{Path: path}
	d := &decoder{file: path, at: map[string]*token.Position{}}
	d.decode(text, c)
	if len(d.errors) == 0 {
		(&checker{c, d}).check()
	}
	if len(d.errors) > 0 {
		return nil, d.errors.sorted()
	}
	return c, nil
}

// checker looks at the values of a file whose shape is right.
type checker struct {
	c *Config
	d *decoder
}

// wrongf notes a mistake at a field, or where that is missing at what it is missing from.
func (k *checker) wrongf(field, format string, args ...any) {
	e := &Error{File: k.c.Path, Field: field, Why: fmt.Sprintf(format, args...)}
	for at := field; ; at = parent(at) {
		if p := k.d.at[at]; p != nil {
			e.Line, e.Column = p.Line, p.Column
			break
		}
		if at == "" {
			break
		}
	}
	k.d.errors = append(k.d.errors, e)
}

// parent is the path to what holds the field.
func parent(field string) string { return field[:max(strings.LastIndexAny(field, ".["), 0)] }

func (k *checker) check() {
	k.nodes()
	k.credentials()
	k.buckets()
	k.control()
	c := k.c
	if c.Store == "" {
		k.wrongf("store", "is missing: the file that holds maps and epochs")
	}
	if c.TLS != nil && (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		k.wrongf("tls", "certificate and key: both or neither")
	}
	for i, m := range c.Mechanisms {
		field := fmt.Sprintf("mechanisms[%d]", i)
		switch {
		case !slices.Contains(kv.DefaultMechanisms(), kv.Mechanism(m)):
			k.wrongf(field, "%q is none of %v", m, kv.DefaultMechanisms())
		case slices.Contains(c.Mechanisms[:i], m):
			k.wrongf(field, "%q is there twice", m)
		}
	}
	if c.Connections < 0 || c.Connections > 64 {
		k.wrongf("connections", "%d must be 1 to 64", c.Connections)
	}
	for field, n := range map[string]int{
		"limits.moves_per_node": c.Limits.MovesPerNode, "limits.backfills_per_node": c.Limits.BackfillsPerNode,
		"throttle.moves_per_node": c.Throttle.MovesPerNode,
	} {
		if _, given := k.d.at[field]; given && n < 1 {
			k.wrongf(field, "%d must be 1 or more", n)
		}
	}
	if after := c.Retry.After.Of(); after != 0 && (after < 5*time.Second || after > time.Hour) {
		k.wrongf("retry.after", "%v must be 5s to 1h", after)
	}
	if _, given := k.d.at["retry.max_attempts"]; given && (c.Retry.MaxAttempts < 1 || c.Retry.MaxAttempts > 3) {
		k.wrongf("retry.max_attempts", "%d must be 1 to 3", c.Retry.MaxAttempts)
	}
	if v := rebalance.Verification(c.Verify); v != rebalance.VerifyNothing && v != rebalance.VerifySeqnos && v != rebalance.VerifyData {
		k.wrongf("verify", "%q must be %s or %s", c.Verify, rebalance.VerifySeqnos, rebalance.VerifyData)
	}
	if f := c.Log.Format; f != "" && f != FormatText && f != FormatJSON {
		k.wrongf("log.format", "%q must be %s or %s", f, FormatText, FormatJSON)
	}
}

func (k *checker) nodes() {
	if len(k.c.Nodes) == 0 {
		k.wrongf("nodes", "there must be at least one node")
	}
	names, addrs := map[string]int{}, map[string]int{}
	for i, n := range k.c.Nodes {
		field := fmt.Sprintf("nodes[%d]", i)
		k.once(names, "nodes", i, "name", "name", n.Name)
		if _, given := k.d.at[field+".weight"]; given && (n.Weight < 1 || n.Weight > vbmap.MaxWeight) {
			k.wrongf(field+".weight", "%d must be 1 to %d", n.Weight, vbmap.MaxWeight)
		}
		if why := AddrProblem(n.Addr); why != "" {
			k.wrongf(field+".addr", "%s", why)
		} else {
			k.once(addrs, "nodes", i, "addr", "address", n.Addr)
		}
	}
}

// once notes that a key of an entry of a list is missing, or that an earlier one of those seen has the same value.
func (k *checker) once(seen map[string]int, list string, i int, key, what, value string) {
	field := fmt.Sprintf("%s[%d].%s", list, i, key)
	if value == "" {
		k.wrongf(field, "is missing")
	} else if first, twice := seen[value]; twice {
		k.wrongf(field, "%q is the %s of %s[%d] too", value, what, list, first)
	} else {
		seen[value] = i
	}
}

// AddrProblem says what is wrong with an address that somebody is to connect to; "" is nothing.
func AddrProblem(addr string) string {
	if addr == "" {
		return "is missing"
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return fmt.Sprintf("%q must be a host, a colon and a port", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Sprintf("%q: the port must be a number from 1 to 65535", addr)
	}
	return ""
}

func (k *checker) credentials() {
	c := k.c.Credentials
	if c == nil {
		return
	}
	if c.User == "" {
		k.wrongf("credentials.user", "is missing")
	}
	places := 0
	for _, place := range []string{c.Password, c.PasswordFile, c.PasswordEnv} {
		if place != "" {
			places++
		}
	}
	if places != 1 {
		k.wrongf("credentials", "one of password_file, password_env and password must be there, not %d of them", places)
	}
}

func (k *checker) buckets() {
	names := map[string]int{}
	for i, b := range k.c.Buckets {
		field := fmt.Sprintf("buckets[%d]", i)
		k.once(names, "buckets", i, "name", "name", b.Name)
		if _, given := k.d.at[field+".vbuckets"]; given && (b.VBuckets < 1 || b.VBuckets > 65536) {
			k.wrongf(field+".vbuckets", "%d must be 1 to 65536", b.VBuckets)
		}
		if b.Replicas < 0 || b.Replicas > 3 {
			k.wrongf(field+".replicas", "%d must be 0 to 3", b.Replicas)
		}
	}
}

func (k *checker) control() {
	c := k.c.Control
	if c.Socket == "" && c.Listen == "" {
		k.wrongf("control", "is missing: a socket, or an address to listen on")
	}
	if c.Listen == "" {
		if c.TokenFile != "" {
			k.wrongf("control.token_file", "is of use with listen only")
		}
		return
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		k.wrongf("control.listen", "%q must be a host, a colon and a port", c.Listen)
		return
	}
	if c.TokenFile == "" {
		k.wrongf("control.token_file", "is missing: whoever reaches the address could command the manager")
	}
	if !c.Anywhere && !loopback.Is(c.Listen) {
		k.wrongf("control.listen", "%q: other machines may reach it; anywhere: true allows that", c.Listen)
	}
}
