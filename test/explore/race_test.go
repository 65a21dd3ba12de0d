//go:build race

package explore

// raceEnabled says that this test binary has the race detector.
const raceEnabled = true
