package rebalance

import (
	"github.com/shearpin/shearpin/actors"
)

// reportSaved says that the report of a rebalance that is complete is on record, or could not be brought there in time.
type reportSaved struct{ report Report }

// residual makes a report of the rebalance that ran when the last orchestrator ended, of this process or of another. It
// comes before the janitor, which forgets what that rebalance wanted.
func (o *orchestrator) residual(c *actors.Context) error {
	report, found, err := o.env.interrupted(c.Ctx(), c.Clock().Now())
	if err != nil {
		return err
	}
	if found {
		o.log.Warn("rebalance_interrupted", "rebalance_id", report.ID, "moves", report.Moves, "moves_planned", report.MovesPlanned)
		for _, run := range o.env.desk.look().runs {
			if run.id == report.ID {
				run.board.end(&report)
			}
		}
		o.env.desk.ended(report)
		o.env.events.Publish(RebalanceEnded{report})
	}
	o.env.desk.lost()
	o.env.desk.show(o.machine.state)
	return nil
}

// ended takes the end of the rebalance. That it is complete is told when it is on record: who was told so must not find it
// interrupted because the manager died in between. Everything else is told at once.
func (o *orchestrator) ended(c *actors.Context, report Report) {
	if o.run == nil || o.run.id != report.ID || o.run.over {
		return
	}
	if len(o.run.request.giveUp) > 0 && report.Outcome == Complete && o.giveUp(c, &report) {
		return
	}
	o.conclude(c, report)
}

// conclude puts the report on record and tells it.
func (o *orchestrator) conclude(c *actors.Context, report Report) {
	report.RetryOf = o.run.retryOf
	if report.Outcome == Stopped && o.run.stopped != nil {
		report.Err = o.run.stopped
		report.conclude()
	}
	if report.Outcome != Complete && report.Outcome != Partial {
		o.tellEnd(c, report)
		o.env.save(report, func() {})
		return
	}
	o.run.over = true
	self := c.Self()
	o.env.save(report, func() { self.Send(reportSaved{report}) })
}

// tellEnd tells the outcome, everywhere, before anything else is begun. The report can be read before the state is idle.
func (o *orchestrator) tellEnd(c *actors.Context, report Report) {
	if o.run == nil || o.run.id != report.ID {
		return
	}
	log := o.log.With("rebalance_id", report.ID, "moves", report.Moves, "moves_planned", report.MovesPlanned)
	switch report.Outcome {
	case Complete:
		log.Info("rebalance_complete")
	case Partial:
		log.Info("rebalance_partial", "err", report.Err)
	case Stopped:
		log.Info("rebalance_stopped")
	default:
		log.Warn("rebalance_failed", "err", report.Err, "cause", report.Cause)
	}
	o.env.desk.ended(report)
	// Who waits for the end finds it in the log and in the metrics, too.
	o.env.events.Publish(RebalanceEnded{report})
	o.run.board.end(&report)
	request := o.run.request
	o.run = nil
	o.perform(c, o.machine.ended(report.ID, report.Outcome))
	o.considerRetry(c, request, report)
}
