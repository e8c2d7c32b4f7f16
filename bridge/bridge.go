// Package bridge is the seam between the virtual SMMU and the host that carries
// out its translations: interfaces and plain values, no behaviour.
//
// It comes from the 2018 mailing-list thread "iommu: Introduce bind_guest_stage
// API", with its five states:
//
//	state of the thread                    here
//	(1) default domain, no container       no Stream exists
//	(2) stage 1 bypass, stage 2 translates Bind(Bypass)
//	    intermediate: stage 1 aborts       Attach, Bind(Abort)
//	(3) BIND_GUEST_STAGE                   Bind(Translate)
//	(4) UNBIND_GUEST_STAGE                 Bind(Bypass) or Bind(Abort)
//	(5) container removed                  Stream.Close
//
// A host is one physical SMMU as one virtual machine sees it, or a software
// one. Hosts of this module are in the packages below: record, a fake for
// tests; soft, for endpoints that the VMM emulates; iommufd, for Linux.
// Package bridgetest holds what every host must pass.
package bridge

import (
	"errors"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Endpoint is whatever a host needs to find a device: each host says which
// types it takes, and refuses others.
type Endpoint any

// Capabilities say what a host can carry out for a guest.
type Capabilities struct {
	// IDs are the host's ID registers, less whatever it cannot offer to a
	// guest. Fields that are the virtual device's own affair, such as the sizes
	// of its queues, are not looked at.
	IDs smmuv3.IDRegs
}

// Host is one physical SMMU, or a software one, as one virtual machine sees it.
//
// The virtual device calls Attach, Invalidate and the methods of Streams one
// at a time, and Close last; Capabilities may be called at any time.
type Host interface {
	// Capabilities never change during the life of the host.
	Capabilities() (Capabilities, error)

	// Attach takes a device under the name that the guest has for it. Until
	// the first Bind its DMA aborts, in silence.
	Attach(sid smmuv3.StreamID, ep Endpoint) (Stream, error)

	// Invalidate carries out commands in order and returns when they have taken effect,
	// in-flight DMA included, as if a SYNC had followed. The faults of the DMA that it
	// waited for have reached the sink of Events by then. The commands are as the guest
	// wrote them, legal, and of the kinds TLBI_NH_*, TLBI_NSNH_ALL, CFGI_CD,
	// CFGI_CD_ALL and ATC_INV; where the guest was shown IDR0.S2P, also TLBI_S12_VMALL
	// and TLBI_S2_IPA. An ATC_INV names a stream whose stage has EATS. The slice is the caller's again on return. After an error each
	// command may or may not have been carried out; but after ErrATCTimeout all have
	// been except ATC_INVs.
	Invalidate([]smmuv3.Command) error

	// Events claims the host for a device and registers the sink for faults that the
	// guest must see: with the guest's StreamIDs and in the form of the SMMU that the
	// guest was shown. It is called before the first Attach. A host belongs to one
	// device: Events fails with ErrInUse if a sink is registered. Events(nil) removes the
	// sink and releases the host, after the last stream is closed; it never fails on a
	// host without a sink. The sink never blocks. The host may call it from any
	// goroutine, also during calls of its other methods.
	Events(sink func(smmuv3.Event)) error

	// SetGuestIDs tells the host which ID registers the guest reads. It is called after
	// Events and before the first Attach. A host that executes in software for the guest
	// must not offer what these registers do not show. A host must read the guest's
	// commands as an SMMU with these registers does: TTL hints depend on IDR5.DS, for
	// example.
	SetGuestIDs(smmuv3.IDRegs) error

	// Close gives back everything. Streams still open are closed with it.
	Close() error
}

// Stream is one device of a Host.
type Stream interface {
	// Bind has the stage take effect for all DMA that starts after it returns:
	// the configuration cached from the stage before is gone, and DMA which
	// used it is done, its faults reported. The stage replaces the one before in
	// a single step, with nothing in between; on an error the one before stands.
	Bind(GuestStage) error

	// Close detaches the device. Its DMA aborts, or goes wherever the host's
	// owner sends it; no longer to the guest's memory. Once the stream is closed,
	// by itself or with its host, Bind and Close fail with ErrClosed. After any other
	// error it is not closed, does what it did or aborts, and either may be tried again.
	Close() error
}

// Errors that hosts' errors match, with errors.Is.
var (
	// ErrRejected: the host does not take this stage, and would not the next
	// time.
	ErrRejected = errors.New("the host rejects the guest stage")
	// ErrGone: the device, or the host, is no longer there, and makes no more
	// DMA.
	ErrGone = errors.New("the device is gone")
	// ErrATCTimeout: an endpoint did not complete an ATC_INV in time (IHI 0070
	// §3.9.1.4). Asking again would not help; the host sees to it that what the
	// endpoint holds is of no use to it.
	ErrATCTimeout = errors.New("an ATC invalidation timed out")
	// ErrInUse: the StreamID or the endpoint is attached already.
	ErrInUse = errors.New("in use")
	// ErrEndpoint: the endpoint is of a kind that the host does not take.
	ErrEndpoint = errors.New("not an endpoint of this host")
	// ErrClosed: the host or the stream has been closed.
	ErrClosed = errors.New("closed")
)
