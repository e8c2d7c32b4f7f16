// Package trap applies the guest's Stream Table Entries to the streams' hosts.
//
// It has three steps:
//
//   - Reader.Lookup reads an STE from the Stream table in guest memory.
//   - Decide, a pure function, returns the stage of the stream.
//   - Streams binds the stream to that stage on its host, unless the stream already has it.
//
// Package vsmmu uses it. An embedder does not need it.
//
// The package takes no locks: one goroutine at a time may use a Reader or a Streams. Errors give
// the cause alone; the caller adds the operation and the StreamID.
package trap
