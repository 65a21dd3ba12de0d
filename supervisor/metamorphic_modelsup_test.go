package supervisor

import (
	"errors"
	"slices"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// modelSup performs the actions of one machine in the model world, as the process in supervisor.go does in the real one.
type modelSup struct {
	p       *modelProc
	m       *machine
	since   time.Time
	booting bool
	events  []event
	actions []action // of the event in hand
	waiting map[*actors.PID]modelWait
	// demonitored are the monitors whose news are not to be handled.
	demonitored map[*modelWatcher]bool
	// told is set once the supervisor has been told to end, and so is the reason, unless it was ending by itself.
	told bool
	why  error
}

// modelWait is what is held for a child that is being stopped.
type modelWait struct {
	monitor *modelWatcher
	stop    func() // of the timer
}

func (p *modelProc) handleSup(msg any) {
	if _, boot := msg.(modelBoot); boot {
		spec, err := p.node.supSpec(p.w.start).validate()
		if err == nil {
			err = modelOutcome(p.b)
		}
		if err != nil {
			p.exit(err)
			return
		}
		p.trap = true
		p.sup = &modelSup{
			p: p, m: newMachine(spec), since: p.w.clock.Now(), booting: true,
			waiting: map[*actors.PID]modelWait{}, demonitored: map[*modelWatcher]bool{},
		}
		p.sup.feed(event{kind: evBoot})
		return
	}
	s := p.sup
	switch m := msg.(type) {
	case modelSignal:
		switch {
		case m.from == nil:
			s.feed(event{kind: evExit, err: actors.NoProcess})
		case m.from == p.parent:
			s.feed(event{kind: evStop, err: m.reason})
		case m.from.dead:
			s.bury(m.from.pid)
			s.feed(event{kind: evExit, pid: m.from.pid, err: m.from.reason})
		}
	case modelDown:
		s.bury(m.of.pid)
		s.feed(event{kind: evDown, pid: m.of.pid, err: m.of.reason})
	case modelTimer:
		m.t.over = true
		p.handleSup(m.msg)
	case stopTimeout:
		s.feed(event{kind: evTimeout, pid: m.pid})
	case alarm:
		s.feed(event{kind: evTimeout})
	case retry:
		s.feed(event{kind: evRetry, child: m.child, attempt: m.attempt})
	case modelStop:
		s.feed(event{kind: evStop, err: m.reason})
	case modelRequest:
		s.handleRequest(m)
	}
}

func (s *modelSup) handleRequest(r modelRequest) {
	switch q := r.what.(type) {
	case adminRequest:
		s.feed(event{kind: q.kind, key: q.key, spec: &q.spec, arg: q.arg, caller: r.from})
	case specRequest:
		spec, err := s.m.childSpec(key(q))
		if err != nil {
			r.from.reply("-", err)
			return
		}
		r.from.reply(specText(spec), nil)
	case whichRequest:
		c, err := s.m.find(key(q))
		if err != nil {
			r.from.reply("-", err)
			return
		}
		info := s.m.info(c)
		r.from.reply(infoText(info, s.p.w.name(info.PID)), nil)
	}
}

func (s *modelSup) feed(ev event) {
	if ev.kind == evStop && !s.told {
		s.told = true
		if !s.m.ending {
			s.why = ev.err
		}
	}
	s.events = append(s.events, ev)
	s.goOn()
}

// goOn performs actions until one has to be waited for, or the process has ended, or there are none left.
func (s *modelSup) goOn() {
	for !s.p.dead {
		switch {
		case len(s.actions) > 0:
			a := s.actions[0]
			s.actions = s.actions[1:]
			if !s.perform(a) {
				return
			}
		case len(s.events) > 0:
			ev := s.events[0]
			s.events = s.events[1:]
			s.actions = s.m.step(&ev, s.p.w.clock.Now())
		default:
			if s.booting {
				s.booting = false
				s.p.decide(nil)
			}
			return
		}
	}
}

// perform does one action. False means that the process has ended or goes on later.
func (s *modelSup) perform(a action) bool {
	p, w := s.p, s.p.w
	switch a.kind {
	case doStart:
		start := a.child.spec.Start
		if with := a.child.spec.StartWith; with != nil {
			start = func(c *actors.Context) (*actors.PID, error) { return with(c, a.child.arg) }
		}
		var whose found
		_, err := start(nil)
		errors.As(err, &whose)
		returned := false
		later := false
		w.startChild(p, whose.n, func(child *modelProc, err error) {
			if err == nil && child.b.start == funcBoth && child.node == whose.n {
				child.signal(p, actors.Killed)
				err = errFunc
			}
			if err != nil {
				s.events = append(s.events, event{kind: evFailed, child: a.child, err: err})
			} else {
				// The supervisor makes sure of the link, and that may find nobody.
				if child.dead {
					p.post(modelSignal{child, actors.NoProcess})
				} else {
					link(p, child)
				}
				s.events = append(s.events, event{kind: evStarted, child: a.child, pid: child.pid})
			}
			later = true
			if returned {
				s.goOn()
			}
		})
		returned = true
		p.inside = !later
		return later
	case doStop:
		target := w.byPID[a.pid]
		if s.booting {
			return s.stopAndWait(target, a.how)
		}
		s.stop(target, a.how)
	case doKill:
		w.byPID[a.pid].signal(p, actors.Killed)
	case doRetry:
		if msg := (retry{a.child, a.attempt}); a.after > 0 {
			p.sendAfter(a.after, msg)
		} else {
			p.post(msg)
		}
	case doAlarm:
		p.sendAfter(a.after, alarm{})
	case doReply:
		a.caller.(*modelCaller).reply(w.name(a.pid), a.err)
	case doDisown:
		var err error
		if !w.byPID[a.pid].dead {
			err = ErrNotFound
		}
		a.caller.(*modelCaller).reply("-", err)
	case doPublish:
		w.linef("%s", eventText(p.label, a.event, w.name(a.event.PID)))
	case doExit:
		s.checkEnd(a.err)
		p.exit(a.err)
		return false
	}
	return true
}

// checkEnd puts into the trace what is wrong with the end of a supervisor.
func (s *modelSup) checkEnd(reason error) {
	if s.why != nil && reason != s.why { //nolint:errorlint // this very one
		s.p.w.linef("broken: %s ends with %v in place of %v", s.p.label, reason, s.why)
	}
	for _, child := range s.p.w.procs {
		if child.parent == s.p && slices.Contains(s.p.links, child) {
			s.p.w.linef("broken: %s ends before %s", s.p.label, child.label)
		}
	}
}

// checkIdle puts into the trace what a supervisor that waits for nobody has not done.
func (s *modelSup) checkIdle() {
	if len(s.waiting) == 0 && (s.told || s.m.job != nil || len(s.m.backlog) > 0) {
		s.p.w.linef("broken: %s waits for nothing", s.p.label)
	}
}

func (s *modelSup) stop(target *modelProc, how Shutdown) {
	if len(s.waiting) > 0 && !s.m.dynamic() {
		s.p.w.linef("broken: %s stops several children at a time", s.p.label)
	}
	wait := modelWait{monitor: s.p.monitor(target), stop: func() {}}
	if how > 0 {
		wait.stop = s.p.sendAfter(time.Duration(how), stopTimeout{target.pid})
	}
	s.waiting[target.pid] = wait
	if how == BrutalKill {
		target.signal(s.p, actors.Killed)
	} else {
		target.signal(s.p, actors.Shutdown)
	}
}

// bury takes back what is held for a child that was being stopped.
func (s *modelSup) bury(pid *actors.PID) {
	if wait, ok := s.waiting[pid]; ok {
		delete(s.waiting, pid)
		wait.monitor.over = true
		s.demonitored[wait.monitor] = true
		wait.stop()
	}
}

// list is what the supervisor says of its children, in the order of their start.
func (s *modelSup) list() (infos []ChildInfo) {
	for c := range s.m.kids.from(s.m.kids.first) {
		infos = append(infos, s.m.info(c))
	}
	return infos
}

// text is what it says of itself.
func (s *modelSup) text() string {
	return supText(SupervisorInfo{
		Strategy: s.m.spec.Strategy, AutoShutdown: s.m.spec.AutoShutdown, Restarts: s.m.window.count(s.p.w.clock.Now()),
		Intensity: s.m.spec.Intensity, Period: s.m.spec.Period,
	})
}

// stopAndWait stops a child in the middle of Init.
func (s *modelSup) stopAndWait(target *modelProc, how Shutdown) bool {
	down := func() { s.events = append(s.events, event{kind: evDown, pid: target.pid, err: target.reason}) }
	if how == BrutalKill {
		target.signal(s.p, actors.Killed)
	} else {
		target.signal(s.p, actors.Shutdown)
	}
	if target.dead {
		down()
		return true
	}
	stop := func() {}
	if how != Infinity {
		stop = s.p.after(time.Duration(how), func() { target.signal(s.p, actors.Killed) })
	}
	s.p.inside = true
	target.doomed = func() {
		stop()
		down()
		s.p.inside = false
		s.goOn()
	}
	return false
}
