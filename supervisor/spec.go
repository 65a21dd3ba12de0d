package supervisor

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/shearpin/shearpin/actors"
)

// Strategy says who is restarted when one child has to be.
type Strategy uint8

const (
	// OneForOne restarts the child that died.
	OneForOne Strategy = iota
	// OneForAll stops all children, in reverse order of start, and starts all of them again, in order.
	OneForAll
	// RestForOne does so with the child that died and those that were started after it.
	RestForOne
	// SimpleOneForOne is OneForOne for any number of children of one kind, which come and go: Spec.Children is exactly
	// one template, from which StartChildWith starts them. Each is known by its process, not by an ID. One that has ended
	// and is not restarted is forgotten, whatever its restart type. All of them are stopped at the same time.
	SimpleOneForOne
)

func (s Strategy) String() string {
	return name(s, "one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one")
}

// Restart says which deaths make a child be restarted.
type Restart uint8

const (
	// Permanent restarts the child whatever it died of.
	Permanent Restart = iota
	// Transient restarts the child unless it ended in an orderly way (actors.IsNormal). Its spec stays.
	Transient
	// Temporary never restarts the child. Its spec goes with it.
	Temporary
)

func (r Restart) String() string { return name(r, "permanent", "transient", "temporary") }

// ChildType tells workers from supervisors, for listings and for the default Shutdown.
type ChildType uint8

const (
	TypeWorker ChildType = iota
	TypeSupervisor
)

func (t ChildType) String() string { return name(t, "worker", "supervisor") }

// AutoShutdown says whether the supervisor ends itself, with reason Shutdown, when children that are marked as
// significant have ended by themselves and are not restarted.
type AutoShutdown uint8

const (
	// AutoShutdownNever is the default.
	AutoShutdownNever AutoShutdown = iota
	// AnySignificant ends the supervisor with the first such child.
	AnySignificant
	// AllSignificant ends it with the last one that had a process, or a restart of its own before it. As in OTP, one that is
	// down with its siblings, until another child can be restarted, is not waited for.
	AllSignificant
)

func (a AutoShutdown) String() string { return name(a, "never", "any_significant", "all_significant") }

// Shutdown says how a child is stopped. The zero value gives a worker 5 s and a supervisor as long as it takes.
type Shutdown time.Duration

const (
	// BrutalKill kills the child without asking.
	BrutalKill Shutdown = -1
	// Infinity asks the child to stop and waits. For supervisors, whose own children have bounds.
	Infinity Shutdown = -2
)

// After asks the child to stop (exit signal actors.Shutdown) and kills it if it is not dead after d.
func After(d time.Duration) Shutdown { return Shutdown(max(d, 1)) }

// defaultShutdown is OTP's 5000 ms.
const defaultShutdown = Shutdown(5 * time.Second)

// Never as Intensity allows no restart at all: the first death that would need one ends the supervisor.
const Never = -1

// Spec describes a supervisor. The zero value is a one_for_one supervisor without children that allows one restart in
// 5 s.
type Spec struct {
	// Name says which supervisor this is, in events, errors and logs. It is not a registered name.
	Name string
	// Strategy is OneForOne by default.
	Strategy Strategy
	// Intensity is how many restarts are allowed within Period. If more are needed the supervisor stops its children in
	// reverse order and exits, with a reason that is a Shutdown and holds a *GaveUpError. Zero means 1; Never means 0.
	Intensity int
	// Period is 5 s if zero.
	Period time.Duration
	// Backoff delays restarts. The zero value, OTP's behaviour, does not.
	Backoff Backoff
	// AutoShutdown is AutoShutdownNever by default. A SimpleOneForOne supervisor has no other.
	AutoShutdown AutoShutdown
	// Children are started in this order, and stopped in the reverse order. If one cannot be started, the others are
	// stopped and the start of the supervisor fails with a *StartError.
	Children []ChildSpec
	// Log gets a line per event; nil means the logger of the actor system.
	Log *slog.Logger
	// Events gets the events; nil means nobody.
	Events *actors.Bus[Event]
}

// ChildSpec describes a child.
type ChildSpec struct {
	// ID names the child within its supervisor. It must not be empty. That of a template stands for all of its children
	// in events and logs.
	ID string
	// Start starts the child, in the supervisor, for the first time and at every restart. It must use c.StartLink, and
	// should return soon: a supervisor that waits for it does nothing else. actors.ErrIgnore means that the child is
	// not needed at present. Other errors, and panics, are failed starts, and so is a process that is a child already.
	Start func(c *actors.Context) (*actors.PID, error)
	// StartWith is the Start of a SimpleOneForOne supervisor's template, and of no other child. arg is what StartChildWith
	// was given; the supervisor keeps it for restarts.
	StartWith func(c *actors.Context, arg any) (*actors.PID, error)
	// Restart is Permanent by default.
	Restart Restart
	// Shutdown is 5 s for workers and Infinity for supervisors by default.
	Shutdown Shutdown
	// Type is TypeWorker by default.
	Type ChildType
	// Significant children can trigger AutoShutdown. They must not be permanent.
	Significant bool
}

// Worker describes a permanent child that runs what fresh returns: a new value for every start.
func Worker(id string, fresh func() actors.Process, opts ...actors.StartOption) ChildSpec {
	return ChildSpec{ID: id, Start: func(c *actors.Context) (*actors.PID, error) {
		return c.StartLink(fresh(), opts...)
	}}
}

// Sub describes a permanent child that is itself a supervisor. A restart begins with the children of the spec: those that
// were added by StartChild are gone.
func Sub(id string, spec Spec, opts ...actors.StartOption) ChildSpec {
	opts = append([]actors.StartOption{actors.WithKind("supervisor")}, opts...)
	child := Worker(id, func() actors.Process { return New(spec) }, opts...)
	child.Type = TypeSupervisor
	return child
}

// Template describes the permanent children of a SimpleOneForOne supervisor. Each runs what fresh makes of the argument of
// StartChildWith, anew for every start; nil is A's zero value, and an argument of another type a start that fails with a *ArgumentError.
func Template[A any](id string, fresh func(arg A) actors.Process, opts ...actors.StartOption) ChildSpec {
	return ChildSpec{ID: id, StartWith: func(c *actors.Context, arg any) (*actors.PID, error) {
		a, ok := arg.(A)
		if !ok && arg != nil {
			return nil, &ArgumentError{ID: id, Arg: arg}
		}
		return c.StartLink(fresh(a), opts...)
	}}
}

// validate checks s and returns it with the defaults filled in.
func (s Spec) validate() (Spec, error) {
	bad := func(problem string) (Spec, error) { return s, &SpecError{Supervisor: s.Name, Problem: problem} }
	switch {
	case s.Strategy > SimpleOneForOne:
		return bad("unknown strategy")
	case s.Intensity < Never:
		return bad("negative intensity")
	case s.Period < 0:
		return bad("negative period")
	case s.AutoShutdown > AllSignificant:
		return bad("unknown auto-shutdown")
	case s.Strategy == SimpleOneForOne && s.AutoShutdown != AutoShutdownNever:
		return bad("auto-shutdown under simple_one_for_one")
	case s.Strategy == SimpleOneForOne && len(s.Children) != 1:
		return bad("simple_one_for_one needs exactly one child")
	}
	var problem string
	if s.Backoff, problem = s.Backoff.validate(); problem != "" {
		return bad(problem)
	}
	switch s.Intensity {
	case 0:
		s.Intensity = 1
	case Never:
		s.Intensity = 0
	}
	if s.Period == 0 {
		s.Period = 5 * time.Second
	}
	children := make([]ChildSpec, 0, len(s.Children))
	ids := make(map[string]bool, len(s.Children))
	for _, c := range s.Children {
		c, err := c.validate(&s)
		if err != nil {
			return s, err
		}
		if ids[c.ID] {
			return s, &SpecError{Supervisor: s.Name, Child: c.ID, Problem: "duplicate id"}
		}
		ids[c.ID] = true
		children = append(children, c)
	}
	s.Children = children
	return s, nil
}

// validate checks c as a child of sup and returns it with the defaults filled in.
func (c ChildSpec) validate(sup *Spec) (ChildSpec, error) {
	bad := func(problem string) (ChildSpec, error) {
		return c, &SpecError{Supervisor: sup.Name, Child: c.ID, Problem: problem}
	}
	start, other := c.Start != nil, c.StartWith != nil
	if sup.Strategy == SimpleOneForOne {
		start, other = other, start
	}
	switch {
	case c.ID == "":
		return bad("child without id")
	case !start:
		return bad("no start function")
	case other:
		return bad("start function of another strategy")
	case c.Restart > Temporary:
		return bad("unknown restart type")
	case c.Shutdown < Infinity:
		return bad("negative shutdown")
	case c.Type > TypeSupervisor:
		return bad("unknown child type")
	case c.Significant && c.Restart == Permanent:
		return bad("a permanent child cannot be significant")
	case c.Significant && sup.AutoShutdown == AutoShutdownNever:
		return bad("significant child without auto-shutdown")
	}
	if c.Shutdown == 0 {
		c.Shutdown = defaultShutdown
		if c.Type == TypeSupervisor {
			c.Shutdown = Infinity
		}
	}
	return c, nil
}

// name is the text of an enumerated value.
func name[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown(%d)", v)
}
