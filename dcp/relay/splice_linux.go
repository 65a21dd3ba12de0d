//go:build !386 && !s390x

package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// pipeSize is what a splicer asks for: the most that an unprivileged process may have. The kernel may give less.
const pipeSize = 1 << 20

// leastPipe is the least that a pipe must hold to be better than copying. The kernel gives small ones to a user who has too
// much memory in pipes.
const leastPipe = 64 << 10

// splicer moves bytes from one TCP socket to another inside the kernel, through a pipe. It has the pipe only from its first
// use to release. It also looks at headers without reading them, so that whole frames can be moved in that way.
type splicer struct {
	d        *direction
	src, dst syscall.RawConn
	r, w     int // the pipe
	size     int // what it holds
	least    int // what it has to hold
	open     bool
	unusable bool // the kernel refused; there is no point in trying again

	// What the callbacks below are to do and have done. The callbacks are made once, so that moving allocates nothing.
	want     int
	done     int
	err      error
	in, push func(fd uintptr) bool

	// offset is where to look for a header.
	offset      int32
	header      [mcbp.HeaderLen]byte
	near        bool // the kernel looks at the beginning only: Linux before 6.9
	look        func(fd uintptr)
	lookOrSleep func(fd uintptr) bool
}

// newSplicer returns nil if the two sockets are not plain TCP.
func newSplicer(d *direction) *splicer {
	src, ok := d.src.(*net.TCPConn)
	if !ok {
		return nil
	}
	dst, ok := d.out.conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	s := &splicer{d: d, least: leastPipe}
	var err error
	if s.src, err = src.SyscallConn(); err != nil {
		return nil
	}
	if s.dst, err = dst.SyscallConn(); err != nil {
		return nil
	}
	s.in = func(fd uintptr) bool { return s.splice(int(fd), s.w) }
	s.push = func(fd uintptr) bool { return s.splice(s.r, int(fd)) }
	s.look = func(fd uintptr) { s.glance(fd) }
	s.lookOrSleep = func(fd uintptr) bool { return s.glance(fd) }
	return s
}

// splice moves up to want bytes once. It reports false if that would have to wait.
func (s *splicer) splice(from, to int) bool {
	const moveNonblock = 0x1 | 0x2 // SPLICE_F_MOVE, SPLICE_F_NONBLOCK
	for {
		n, err := syscall.Splice(from, nil, to, nil, s.want, moveNonblock)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return false
		}
		s.done, s.err = max(0, int(n)), err
		return true
	}
}

// move moves at most n bytes of a frame, at least one unless it fails. moved is 0 without an error if the kernel cannot do
// it: then the caller has to copy. The caller holds the turn of the outlet.
func (s *splicer) move(n int) (moved int, err error) {
	if s == nil || s.unusable || !s.acquire() {
		return 0, nil
	}
	got, err := s.receive(min(n, s.size))
	if err != nil || got == 0 {
		return 0, err
	}
	return got, s.send(got)
}

// receive moves bytes from the socket into the empty pipe.
func (s *splicer) receive(n int) (int, error) {
	s.want = n
	for {
		if err := s.d.arm(time.Now()); err != nil {
			return 0, err
		}
		err := s.src.Read(s.in)
		if err == nil {
			err = s.err
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.d.buf.shrink()
			continue
		case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSYS):
			s.unusable = true
			s.release()
			return 0, nil
		case err != nil:
			return 0, s.d.readFailure(err, true)
		case s.done == 0:
			return 0, s.d.readFailure(io.EOF, true)
		}
		s.d.meter.read(s.done, time.Since(s.d.r.start))
		return s.done, nil
	}
}

// send moves the n bytes in the pipe to the other socket.
func (s *splicer) send(n int) error {
	p := s.d.out.begin()
	for n > 0 {
		if err := p.arm(); err != nil {
			return err
		}
		s.want, s.done, s.err = n, 0, nil
		err := s.dst.Write(s.push)
		if err == nil {
			err = s.err
		}
		n -= s.done
		if err := p.judge(s.done, err); err != nil {
			return err
		}
	}
	return nil
}

func (s *splicer) acquire() bool {
	if s.open {
		return true
	}
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return false // out of descriptors: copying needs none
	}
	s.r, s.w, s.open = fds[0], fds[1], true
	size, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(s.w), syscall.F_SETPIPE_SZ, pipeSize)
	if errno != 0 {
		size, _, _ = syscall.Syscall(syscall.SYS_FCNTL, uintptr(s.w), syscall.F_GETPIPE_SZ, 0)
	}
	if s.size = int(size); s.size < s.least {
		s.release()
		return false
	}
	return true
}

// peek returns the header that begins offset bytes behind the next one to be read, if it has arrived in whole. It is valid
// until the next call.
func (s *splicer) peek(offset int) mcbp.Frame {
	if s == nil || s.unusable || s.near && offset > 0 {
		return nil
	}
	s.offset, s.done = int32(offset), 0
	if s.src.Control(s.look) != nil {
		return nil
	}
	return s.seen()
}

// seen is the header that was looked at last; nil if it was not all there, or could not be looked at.
func (s *splicer) seen() mcbp.Frame {
	if s.err != nil || s.done < len(s.header) {
		return nil
	}
	return s.header[:]
}

// await waits until bytes arrive and returns the header that they begin with. It is nil if they are fewer, or if there is
// another reason to read them. It does not wait for the rest of a header: as long as one byte of a large segment is unread
// the kernel counts all of it, and may have no room for what is waited for.
func (s *splicer) await() (mcbp.Frame, error) {
	if s == nil || s.unusable {
		return nil, nil
	}
	for {
		if err := s.d.arm(time.Now()); err != nil {
			return nil, s.d.readFailure(err, false)
		}
		s.offset = 0
		err := s.src.Read(s.lookOrSleep)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.d.buf.shrink()
			s.release()
			continue
		}
		return s.seen(), s.d.readFailure(err, false)
	}
}

// glance copies a header out of what the socket has, and leaves it there. It reports false if there is nothing yet.
func (s *splicer) glance(fd uintptr) bool {
	const peekOffset = 42 // SO_PEEK_OFF
	s.done, s.err = 0, nil
	if !s.near {
		_, _, errno := syscall.Syscall6(syscall.SYS_SETSOCKOPT, fd, syscall.SOL_SOCKET, peekOffset,
			uintptr(unsafe.Pointer(&s.offset)), unsafe.Sizeof(s.offset), 0)
		if s.near = errno != 0; s.near && s.offset > 0 {
			s.err = errno
			return true
		}
	}
	for {
		n, _, errno := syscall.Syscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&s.header)), uintptr(len(s.header)),
			syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			s.done = int(n)
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			s.err = errno
			return true
		}
	}
}

// holds reports whether there is a pipe to release.
func (s *splicer) holds() bool { return s != nil && s.open }

// release closes the pipe; it is made anew when it is needed again.
func (s *splicer) release() {
	if s == nil || !s.open {
		return
	}
	s.open = false
	_ = syscall.Close(s.r)
	_ = syscall.Close(s.w)
}
