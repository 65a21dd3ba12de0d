package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// plainWorld is goroutines that read channels.
type plainWorld struct{ left atomic.Int64 }

func openPlain() world { return &plainWorld{} }

func (w *plainWorld) close() int { return int(w.left.Load()) }

// plainProcess is a goroutine, its mailbox and its end.
type plainProcess struct {
	in   chan any
	done chan struct{}
}

// question is a message that is answered; the channel has room for the answer.
type question struct {
	msg    any
	answer chan any
}

func (w *plainWorld) start(buffer int) *plainProcess {
	p := &plainProcess{in: make(chan any, buffer), done: make(chan struct{})}
	w.left.Add(1)
	go func() {
		defer close(p.done)
		defer w.left.Add(-1)
		n := 0
		for msg := range p.in {
			switch msg := msg.(type) {
			case tick:
				n++
			case question:
				switch ask := msg.msg.(type) {
				case ping:
					msg.answer <- aPong
				case total:
					msg.answer <- n
				case func() int:
					msg.answer <- ask()
				}
			}
		}
	}()
	return p
}

func (p *plainProcess) stop() {
	close(p.in)
	<-p.done
}

func (p *plainProcess) ask(ctx context.Context, msg any) any {
	q := question{msg, make(chan any, 1)}
	p.in <- q
	select {
	case v := <-q.answer:
		return v
	case <-p.done:
		return nil
	case <-ctx.Done():
		return nil
	}
}

// roomy is a buffer that a sender seldom fills while its receiver runs.
const roomy = 1024

func (w *plainWorld) cast(senders, n int) int {
	p := w.start(roomy)
	defer p.stop()
	if senders == 1 {
		for range n {
			p.in <- aTick
		}
	} else {
		var wg sync.WaitGroup
		for i := range senders {
			wg.Go(func() {
				for range share(n, senders, i) {
					p.in <- aTick
				}
			})
		}
		wg.Wait()
	}
	return p.ask(context.Background(), aTotal).(int)
}

func (w *plainWorld) within(do func() int) int {
	p := w.start(0)
	defer p.stop()
	return p.ask(context.Background(), do).(int)
}

func (w *plainWorld) castWithin(n int) int { return w.within(func() int { return w.cast(1, n) }) }

func (w *plainWorld) call(bound time.Duration, n int, sw *stopwatch) (answered int) {
	p := w.start(roomy)
	defer p.stop()
	sw.start()
	for range n {
		ctx, cancel := context.Background(), func() {}
		if bound > 0 {
			ctx, cancel = context.WithTimeout(ctx, bound)
		}
		if p.ask(ctx, aPing) == aPong {
			answered++
		}
		cancel()
		sw.lap()
	}
	return answered
}

func (w *plainWorld) callWithin(n int, sw *stopwatch) int {
	return w.within(func() int { return w.call(0, n, sw) })
}

func (w *plainWorld) spawn(n int, sw *stopwatch) (dead int) {
	sw.start()
	for range n {
		p := w.start(0)
		p.stop()
		dead++
		sw.lap()
	}
	return dead
}

func (w *plainWorld) spawnUnseen(n int) (dead int) {
	all := make([]*plainProcess, n)
	for i := range all {
		all[i] = w.start(0)
		close(all[i].in)
	}
	for _, p := range all {
		<-p.done
		dead++
	}
	return dead
}

// crash has a goroutine that starts the next one whenever one has panicked.
func (w *plainWorld) crash(_ time.Duration, n int, sw *stopwatch) (restarted int) {
	up := make(chan chan any, 1)
	crashed := make(chan any)
	child := func() {
		defer func() { crashed <- recover() }()
		sw.lap()
		in := make(chan any, 1)
		up <- in
		panic(<-in)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range n {
			go child()
			<-crashed
		}
		go child()
	}()
	in := <-up
	sw.reset()
	for range n {
		sw.start()
		in <- aBoom
		in = <-up
		restarted++
	}
	<-over
	in <- aBoom
	<-crashed
	return restarted
}

func (w *plainWorld) idle(n int) (stop func() int) {
	all := make([]*plainProcess, n)
	for i := range all {
		all[i] = w.start(0)
		all[i].in <- aTick // taken: it has come to rest
	}
	return func() (stopped int) {
		for _, p := range all {
			p.stop()
			stopped++
		}
		return stopped
	}
}

func (w *plainWorld) family(n int) (int, func() int) {
	var started atomic.Int64
	stop := make(chan struct{})
	var up, down sync.WaitGroup
	up.Add(n)
	for range n {
		down.Go(func() {
			started.Add(1)
			up.Done()
			<-stop
			started.Add(-1)
		})
	}
	up.Wait()
	return int(started.Load()), func() int {
		close(stop)
		down.Wait()
		return n - int(started.Load())
	}
}
