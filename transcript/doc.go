// Package transcript records what a guest and a host do to a vsmmu.Device, and
// does it to another one again: on any machine, without the guest and without
// the host, and with every step of the device checked against the first time.
//
// Record makes a device whose seams are tapped. A VMM uses the Recorder in the
// device's place; what passes goes to an io.Writer. Read takes it in again, and
// Replay runs it. docs/transcript.md describes the format.
//
// # What is exact
//
// The entries of one Channel are in the order in which things happened: the
// stores of a vCPU, the commands of the queue, the records of the event queue,
// the calls for a stream or a host, the pulses of a line. Replay compares them
// in that order. Between channels the order is that in which they were seen,
// and Replay takes it as the order of what the device was given, but not of
// what it did. So a device may do its work sooner or later than the recorded
// one did, but it has to do the same.
package transcript
