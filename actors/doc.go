// Package actors gives Go processes in the sense of Erlang/OTP: isolated, addressed by PID, with exit reasons, links,
// monitors, names, calls, casts and timers, on top of Proto.Actor's mailboxes.
package actors
