// Package smmuv3 holds the words of the Arm System MMU architecture, version 3:
// registers, Stream Table Entries, Context Descriptors, commands and events,
// as types over integers, with the architecture's own checks of legality as
// pure functions.
//
// The source is Arm's specification, IHI 0070, issue G.b; sections are cited as
// "§6.3.1". This is the one package of the module in which an offset or a bit
// position stands; those above it speak in its types.
//
// Everything here is a value: there is no state, no I/O and no concurrency to
// think of. Setters change their field and nothing else, so that bits which
// this package has no name for survive a round trip. Structures are in host
// byte order; the architecture's memory format is little-endian (§5), and
// Load and Put convert.
package smmuv3
