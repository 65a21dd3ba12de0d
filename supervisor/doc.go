// Package supervisor keeps processes running the way OTP's supervisors do: it starts its children in order, restarts them
// when they die, gives up when that happens too often, and stops them in the reverse order.
package supervisor
