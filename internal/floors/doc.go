// Package floors has no code. Its tests compare docs with the code: the table of packages in
// docs/architecture.md with the imports of both modules, and the names of tests in tables with the
// tests.
package floors
