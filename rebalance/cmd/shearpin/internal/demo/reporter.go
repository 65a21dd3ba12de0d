package demo

// Reporter shows people how far the run is. Its methods are called from one goroutine at a time.
type Reporter interface {
	// Step says what happens next, or what has just happened.
	Step(text string)
	// Begin starts a task of total units. The task before it has ended.
	Begin(text string, total int) Task
}

// Task is something that takes long enough for people to want to see it advance.
type Task interface {
	// Set says that done of the units are done.
	Set(done int)
	// End takes the task off the screen, finished or not.
	End()
}
