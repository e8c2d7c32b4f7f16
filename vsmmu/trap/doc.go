// Package trap turns the guest's Stream Table Entries into calls of the host, as they take effect.
//
// It has three steps:
//
//   - Reader.Lookup reads an STE from the Stream table in guest memory.
//   - Decide, a pure function, says what the stream does.
//   - Streams binds the stream to that stage on its host, unless it is bound to it already.
//
// Package vsmmu is built on it. An embedder needs nothing from here.
//
// Nothing here locks: one goroutine at a time may use a Reader or a Streams. Errors give the cause
// alone; the caller adds the operation and the StreamID.
package trap
