package rebalance

// lacking is how many documents the copies still lack, by their producer's last word. It is empty once the backfill is over,
// and leaves out copies of which the producer has said nothing that counts.
func (m *moveMachine) lacking() []copyNeed {
	if m.step() != StepBackfill {
		return nil
	}
	var left []copyNeed
	for _, w := range m.watches {
		if w.asked && (w.last.Status == "backfilling" || w.last.Status == "in-memory") {
			left = append(left, copyNeed{VB: m.plan.VB, Node: w.consumer, Items: w.last.Items})
		}
	}
	return left
}
