// Package schedule decides which vbucket moves next (rebalance.md §5). It is pure: it is told what is planned and what
// has been done, and answers with the moves that may start now.
//
//	s := schedule.New(moves, schedule.Limits{})
//	for !s.Done() {
//		for _, move := range s.Next() {
//			// start move
//		}
//		// wait for a move to report, then call s.BackfillDone(vb) or s.MoveDone(vb)
//	}
//
// A move first fills its backfill nodes with data: the old active, the new one, and every replica that is new to the
// chain. No node takes part in more backfills, and none gives or takes more actives, than [Limits] allows. Among the
// moves that are possible the schedule prefers those that the busiest node waits for, then those that spread the load.
//
// The answers are exactly those of the rules in §5.3, but found without looking at all moves each time: moves that only
// differ in their vbucket are scored together, and only those that involve a node which was freed since. 65 536 moves
// take well below a second in total.
package schedule
