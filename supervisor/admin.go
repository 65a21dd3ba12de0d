package supervisor

// request handles a request of the child administration, when no job is in hand.
func (m *machine) request(ev *event) {
	var err error
	switch ev.kind {
	case evStart:
		err = m.startChild(ev)
	case evStartWith:
		err = m.startWith(ev)
	case evTerminate:
		err = m.terminate(ev)
	case evRestart:
		var c *child
		if c, err = m.idle(ev.key); err == nil {
			m.job = &job{kind: jobAPI, caller: ev.caller, starts: []*child{c}}
		}
	case evDelete:
		var c *child
		if c, err = m.idle(ev.key); err == nil {
			m.kids.remove(c)
			m.reply(ev.caller, nil, nil)
		}
	}
	if err != nil {
		m.reply(ev.caller, nil, err)
	}
}

// startChild begins the start of a new child. It becomes a member when the start has succeeded.
func (m *machine) startChild(ev *event) error {
	if m.dynamic() {
		return ErrSimpleOneForOne
	}
	spec, err := ev.spec.validate(&m.spec)
	if err != nil {
		return err
	}
	if c := m.kids.byID[spec.ID]; c != nil {
		if c.state == alive {
			return &AlreadyStartedError{ID: spec.ID, PID: c.pid}
		}
		return ErrAlreadyPresent
	}
	m.job = &job{kind: jobAPI, caller: ev.caller, starts: []*child{{spec: spec, since: m.now}}}
	return nil
}

// startWith begins the start of a dynamic child.
func (m *machine) startWith(ev *event) error {
	if !m.dynamic() {
		return ErrNotSimpleOneForOne
	}
	m.job = &job{kind: jobAPI, caller: ev.caller, starts: []*child{{spec: m.template(), arg: ev.arg, since: m.now}}}
	return nil
}

// terminate begins the stop of a child. A dynamic child may be dead and forgotten, even since the request was made.
func (m *machine) terminate(ev *event) error {
	c, err := m.find(ev.key)
	switch {
	case err == nil:
		m.job = &job{kind: jobAPI, caller: ev.caller}
		m.doom(m.job, c)
		return nil
	case m.dynamic() && ev.key.byPID:
		a := m.do(doDisown)
		a.caller, a.pid = ev.caller, ev.key.pid
		return nil
	default:
		return err
	}
}

// find returns the child with this id, or the dynamic child with this process.
func (m *machine) find(k key) (*child, error) {
	var c *child
	switch {
	case m.dynamic() != k.byPID:
		if m.dynamic() {
			return nil, ErrSimpleOneForOne
		}
	case k.byPID:
		c = m.findDynamic(k.pid)
	default:
		c = m.kids.byID[k.id]
	}
	if c == nil {
		return nil, ErrNotFound
	}
	return c, nil
}

// idle returns a child if it can be restarted or deleted by request, else why not.
func (m *machine) idle(k key) (*child, error) {
	c, err := m.find(k)
	if err != nil {
		return nil, err
	}
	switch c.state {
	case stopped:
		return c, nil
	case restarting:
		return nil, ErrRestarting
	default:
		return nil, ErrRunning
	}
}

// info returns what is known of one child.
func (m *machine) info(c *child) ChildInfo {
	i := ChildInfo{
		ID: c.spec.ID, PID: c.pid, Type: c.spec.Type, Restart: c.spec.Restart, State: c.state.String(),
		Since: c.since, Incarnation: c.incarnation, Restarts: c.restarts, LastExit: c.lastExit,
	}
	if m.dynamic() {
		i.ID = ""
	}
	if c.state == restarting {
		i.RetryAt = c.retryAt
	}
	return i
}

// childSpec returns the spec of a child; dynamic children share the template.
func (m *machine) childSpec(k key) (ChildSpec, error) {
	c, err := m.find(k)
	switch {
	case err != nil:
		return ChildSpec{}, err
	case m.dynamic():
		return m.template(), nil
	default:
		return c.spec, nil
	}
}

// count is list in four numbers.
func (m *machine) count() Counts {
	n := Counts{Specs: m.kids.n}
	if m.dynamic() {
		n.Specs = 1
	}
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
