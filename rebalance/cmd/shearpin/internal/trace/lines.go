package trace

import (
	"bufio"
	"io"
	"sync"
	"time"
)

const (
	// bufferSize is what may be waiting to be written, in bytes.
	bufferSize = 256 << 10
	// flushEvery is how old a buffered line may get, so that a reader who follows the file, or who finds it after a
	// kill, has all but the last moment.
	flushEvery = 200 * time.Millisecond
)

// lines is a buffered, locked writer that flushes itself now and then, keeps its first error, and swallows everything
// after it: losing the trace must not disturb what is traced. All methods may be called from any goroutine.
type lines struct {
	mu     sync.Mutex
	w      io.Writer
	buf    *bufio.Writer
	err    error
	closed bool

	stop    chan struct{}
	stopped chan struct{}
}

func newLines(w io.Writer) *lines {
	l := &lines{
		w:       w,
		buf:     bufio.NewWriterSize(w, bufferSize),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	go l.flusher()
	return l
}

// Write takes one whole line.
func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		_, err := l.buf.Write(line)
		l.keep(err)
	}
	return len(line), nil
}

func (l *lines) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.keep(l.buf.Flush())
	}
	return l.err
}

func (l *lines) Close() error {
	l.mu.Lock()
	already := l.closed
	l.closed = true
	l.mu.Unlock()
	if !already {
		close(l.stop)
	}
	<-l.stopped

	l.mu.Lock()
	defer l.mu.Unlock()
	if !already {
		l.keep(l.buf.Flush())
		if c, ok := l.w.(io.Closer); ok {
			l.keep(c.Close())
		}
	}
	return l.err
}

func (l *lines) flusher() {
	defer close(l.stopped)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
			_ = l.Flush() // Close returns it
		}
	}
}

func (l *lines) keep(err error) {
	if l.err == nil {
		l.err = err
	}
}
