// Package floors has no code. Its test compares the table of packages in docs/architecture.md with
// what the packages of both modules import.
package floors
