package supervisor

// request handles a request of the child administration, when no job is in hand.
func (m *machine) request(ev event) {
	if ev.kind == evStart {
		m.startChild(ev)
		return
	}
	c := m.kids.byID[ev.id]
	if c == nil {
		m.reply(ev.caller, nil, ErrNotFound)
		return
	}
	switch ev.kind {
	case evTerminate:
		j := &job{kind: jobAPI, caller: ev.caller}
		m.doom(j, c)
		m.job = j
	case evRestart:
		if err := idle(c); err != nil {
			m.reply(ev.caller, nil, err)
			return
		}
		m.job = &job{kind: jobAPI, caller: ev.caller, starts: []*child{c}}
	case evDelete:
		err := idle(c)
		if err == nil {
			m.kids.remove(c)
		}
		m.reply(ev.caller, nil, err)
	}
}

// startChild begins the start of a new child. It becomes a member when the start has succeeded.
func (m *machine) startChild(ev event) {
	spec, err := ev.spec.validate(m.spec.Name, m.spec.AutoShutdown)
	if err != nil {
		m.reply(ev.caller, nil, err)
		return
	}
	if c := m.kids.byID[spec.ID]; c != nil {
		if c.state == alive {
			m.reply(ev.caller, nil, &AlreadyStartedError{ID: spec.ID, PID: c.pid})
		} else {
			m.reply(ev.caller, nil, ErrAlreadyPresent)
		}
		return
	}
	m.job = &job{kind: jobAPI, caller: ev.caller, starts: []*child{{spec: spec, since: m.now}}}
}

// idle returns why a child cannot be restarted or deleted by request.
func idle(c *child) error {
	switch c.state {
	case stopped:
		return nil
	case restarting:
		return ErrRestarting
	default:
		return ErrRunning
	}
}

// list returns what is known of the children, in the order of their start.
func (m *machine) list() []ChildInfo {
	infos := make([]ChildInfo, 0, len(m.kids.byID))
	for c := range m.kids.from(m.kids.first) {
		infos = append(infos, ChildInfo{
			ID: c.spec.ID, PID: c.pid, Kind: c.pid.Kind(), Type: c.spec.Type, Restart: c.spec.Restart, State: c.state.String(),
			Since: c.since, Incarnation: c.incarnation, Restarts: c.restarts, LastExit: c.lastExit,
		})
	}
	return infos
}

// count is list in four numbers.
func (m *machine) count() Counts {
	n := Counts{Specs: len(m.kids.byID)}
	for c := range m.kids.from(m.kids.first) {
		if c.state == alive || c.state == stopping {
			n.Active++
		}
		if c.spec.Type == TypeSupervisor {
			n.Supervisors++
		} else {
			n.Workers++
		}
	}
	return n
}
