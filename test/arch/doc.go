// Package arch holds no code, only tests that keep the shape of the house: which package may import which, what may enter
// the build of a program that embeds Shearpin, which parts decide without acting, that every package says what it is for,
// that the documents point at files that exist, that the README's example and those of docs/actors.md are code that runs, and
// that every case of OTP's suites has a test, or a reason in docs/actors.md why not.
//
// The tests read the sources themselves, whatever their build tags. That is also what tells the test cache when to run
// them again.
package arch
