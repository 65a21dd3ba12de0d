package kvnode

import "fmt"

// Version is the real engine that a node behaves like, where engines differ. They differ in what a consumer asks of its
// producer and in which order, in the settings that a producer takes, and in the word for a connection that is not there.
type Version uint8

// The versions. The zero value is the newest.
const (
	Version80 Version = iota
	Version72
)

// String is the version as it is written, such as "8.0".
func (v Version) String() string {
	switch v {
	case Version80:
		return "8.0"
	case Version72:
		return "7.2"
	}
	return fmt.Sprintf("Version(%d)", uint8(v))
}

// noSuchConnection is the status of STAT dcp-vbtakeover for a connection that the bucket does not have.
func (v Version) noSuchConnection() string {
	if v == Version72 {
		return "does_not_exist"
	}
	return "connection_does_not_exist"
}
