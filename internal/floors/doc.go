// Package floors has no code: its test holds the table of packages in
// docs/architecture.md against what the packages import.
package floors
