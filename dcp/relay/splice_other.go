//go:build !linux || 386 || s390x

package relay

import "github.com/shearpin/shearpin/dcp/mcbp"

// splicer moves bytes between sockets inside the kernel, where that exists. Here it does not.
type splicer struct{}

func newSplicer(*direction) *splicer { return nil }

func (*splicer) move(int) (int, error) { return 0, nil }

func (*splicer) await() (mcbp.Frame, error) { return nil, nil }

func (*splicer) peek(int) mcbp.Frame { return nil }

func (*splicer) holds() bool { return false }

func (*splicer) release() {}
