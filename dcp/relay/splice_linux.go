package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// pipeSize is what a splicer asks for: the most that an unprivileged process may have. The kernel may give less.
const pipeSize = 1 << 20

// splicer moves bytes from one TCP socket to another inside the kernel, through a pipe. It has the pipe only from its first
// use to release.
type splicer struct {
	d        *direction
	src, dst syscall.RawConn
	r, w     int // the pipe
	open     bool
	unusable bool // the kernel refused; there is no point in trying again

	// What the callbacks below are to do and have done. The callbacks are made once, so that moving allocates nothing.
	want     int
	done     int
	err      error
	in, push func(fd uintptr) bool
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
	s := &splicer{d: d}
	var err error
	if s.src, err = src.SyscallConn(); err != nil {
		return nil
	}
	if s.dst, err = dst.SyscallConn(); err != nil {
		return nil
	}
	s.in = func(fd uintptr) bool { return s.splice(int(fd), s.w) }
	s.push = func(fd uintptr) bool { return s.splice(s.r, int(fd)) }
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
	got, err := s.receive(min(n, pipeSize))
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
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, uintptr(s.w), syscall.F_SETPIPE_SZ, pipeSize)
	return true
}

// release closes the pipe; it is made anew when it is needed again.
func (s *splicer) release() {
	if s == nil || !s.open {
		return
	}
	s.open = false
	_ = syscall.Close(s.r)
	_ = syscall.Close(s.w)
}
