// Package schedule decides which vbucket moves next. It is pure: it is told what was planned and what has been done, and
// answers with the moves that may start now (rebalance.md §5).
package schedule
