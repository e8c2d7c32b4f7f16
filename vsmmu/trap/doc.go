// Package trap takes the guest's Stream Table Entries as they take effect, and
// turns them into bind-guest-stage calls on the host.
//
// Three steps lead from guest memory to a host call, each a file: a lookup
// reads an STE through the Stream table (Reader.Lookup); a pure function says
// what the stream has to do (Decide); and the stream moves there, if it is
// elsewhere (Streams).
//
// vsmmu.Device is made of it. Who embeds one needs nothing from here but
// ErrNotAttached.
//
// Nothing here locks: a Streams belongs to one goroutine at a time, and the
// device sees to that.
package trap
