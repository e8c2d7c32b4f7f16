// Package transcript records the actions of a guest and a host on a vsmmu.Device. It replays them
// on another device, on any machine, without the guest and the host. Replay compares every action
// of the device with the recording.
//
// # Recording
//
// Record returns a Recorder: a device with taps at its interfaces. A VMM uses the Recorder in place
// of the device. The entries go to an io.Writer in the background; the guest never waits for it.
// Close closes the device and the transcript. It returns ErrCut if the transcript is incomplete.
//
// # Reading and replaying
//
// Read returns a whole transcript, and a Reader returns its entries one by one. Replay runs a
// transcript on a new device and returns a *Difference if that device behaves differently.
// ReplayRestored also saves the device at every step and restores it into a new one.
// docs/transcript.md describes the format and the rules of comparison.
//
// # What is exact
//
// The entries of one Channel are in their exact order: the accesses of the vCPUs, the commands of
// the queue, the records of the event queue, the calls for a stream or a host, the pulses of a
// line. Replay compares them in that order. Between channels, entries are in the order in which the
// taps saw them. Replay keeps that order for inputs of the device, but not for its actions. A
// device may act earlier or later than the recorded one, but its actions must be the same.
//
// # Bounds
//
// A Recorder uses Options.Buffer bytes for entries that wait for the writer, and a few hundred KiB
// more. A transcript has at most 1024 hosts, and entries of at most 64 KiB. Read takes up to 2^22
// entries that fill up to 512 MiB. The memory of Replay is proportional to the entries.
package transcript
