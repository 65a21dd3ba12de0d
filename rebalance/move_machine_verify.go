package rebalance

import (
	"fmt"
	"slices"
	"time"
)

// Before its switch a move can compare the copies that it has built with the active (Config.Verify). Writes go on meanwhile,
// so digests are only compared when both were taken at the same seqno; a copy that is never met there is compared by seqno.

// verifyRounds is how often digests at the same seqno are looked for; verifyRoundPause lies between two looks.
const (
	verifyRounds     = 20
	verifyRoundPause = 50 * time.Millisecond
)

// verifying adds the step.
func (m *moveMachine) verifying(v Verification) *moveMachine {
	m.verification = v
	at := slices.IndexFunc(m.steps, func(s Step) bool { return s == StepTakeover || s == StepCommit })
	if v != VerifyNothing && !m.plan.fromNothing() && len(m.plan.Build) > 0 {
		m.steps = slices.Insert(slices.Clone(m.steps), at, StepVerify)
	}
	return m
}

// verifyRound asks the active first: what it has then, the copies shall have.
func (m *moveMachine) verifyRound() []moveEffect {
	m.round++
	m.found = map[string]digestAnswer{}
	return []moveEffect{m.ask(m.plan.From, m.digestRequest())}
}

func (m *moveMachine) digestRequest() readDigest {
	return readDigest{VB: m.plan.VB, Data: m.verification == VerifyData}
}

// verifyAnswered takes one answer of a round, and compares when all are there.
func (m *moveMachine) verifyAnswered(node string, answer digestAnswer) (more []moveEffect, err error) {
	m.found[node] = answer
	if node == m.plan.From {
		if m.round == 1 {
			m.floor = answer.High
		}
		for _, copied := range m.plan.Build {
			more = append(more, m.ask(copied, m.digestRequest()))
		}
		return more, nil
	}
	if len(m.pending) > 0 {
		return nil, nil
	}
	again := false
	for _, copied := range m.plan.Build {
		equal, err := m.compare(copied)
		if err != nil {
			return nil, err
		}
		again = again || !equal
	}
	if !again {
		return nil, nil
	}
	return []moveEffect{m.timer(timerPoll, "", verifyRoundPause)}, nil
}

// compare says whether a copy is known to be what the active is; an error that it is not.
func (m *moveMachine) compare(copied string) (equal bool, err error) {
	active, replica := m.found[m.plan.From], m.found[copied]
	differs := func(format string, args ...any) error {
		return &VerifyError{VB: m.plan.VB, Active: m.plan.From, Copied: copied, Why: fmt.Sprintf(format, args...)}
	}
	if active.UUID != replica.UUID {
		return false, differs("its history has UUID %x, not %x", replica.UUID, active.UUID)
	}
	digests := active.Digest != "" && replica.Digest != ""
	switch {
	case active.High == replica.High && digests && active.Digest != replica.Digest:
		return false, differs("at seqno %d its documents come to %s, not %s", active.High, replica.Digest, active.Digest)
	case active.High == replica.High:
		return true, nil
	case digests && m.round < verifyRounds:
		return false, nil
	case replica.High >= m.floor:
		return true, nil
	case m.round < verifyRounds:
		return false, nil
	}
	return false, differs("it has seqno %d, not %d", replica.High, m.floor)
}
