// Package bridge defines the interface between the virtual SMMU and the host that translates for
// the guest. It has interfaces and plain values, and no behaviour.
//
// A host is one physical SMMU as one virtual machine sees it, or an SMMU in software. This module
// has three hosts: record, a fake for tests; soft, for endpoints that the VMM emulates; iommufd,
// for devices that Linux passes through. Package bridgetest is the test suite for every host.
//
// # States of a stream
//
// A [Stream] is one device behind a host. [GuestStage] is the configuration of a stream, taken from
// the guest's Stream Table Entry. [Stream.Bind] puts a stage into effect. Both come from the
// mailing-list thread "iommu: Introduce bind_guest_stage API" (kvmarm, 2018). The thread defines
// five states of a device:
//
//	state of the thread                        here
//	(1) default domain, no container           no Stream exists
//	(2) stage 1 bypasses, stage 2 translates   Bind(Bypass)
//	    stage 1 aborts, stage 2 translates     Attach, Bind(Abort)
//	(3) BIND_GUEST_STAGE: both translate       Bind(Translate)
//	(4) UNBIND_GUEST_STAGE: stage 1 bypasses   Bind(Bypass) or Bind(Abort)
//	(5) container removed, default domain      Stream.Close
//
// Stage 2 of the thread is the host's own stage 2: it maps guest memory, and is not part of this
// interface. A Bind replaces any stage by any other stage in one step. The thread's state between
// (2) and (3) is the stage Abort here. Abort is the first stage: an attached stream aborts until
// its first Bind.
//
// # The life of a host
//
// A host belongs to one device at a time. The device calls, in this order: Capabilities; Events,
// which claims the host; SetGuestIDs; PageRequests, if the guest has PRI; Attach, Bind, Invalidate
// and the rest, one call at a time; Close of each stream; Events(nil), which releases the host for
// another device. The owner of the host closes it.
//
// # Errors
//
// Methods of Host, Stream and the optional interfaces return the cause only, such as "endpoint in
// use" or "IOMMU_HWPT_ALLOC: invalid argument". The device that calls them adds its package, the
// operation and the StreamID: "vsmmu: attach stream 0x20: endpoint in use". No device calls
// Host.Close: its errors begin with the host's package, such as "soft: close: host closed". Causes
// that callers distinguish match one of the errors below with errors.Is.
//
// # Close
//
// The first Close of a host or a stream closes it. Any later Close has no effect and returns an
// error that matches ErrClosed. All other methods then return such an error as well, except
// Capabilities and Events(nil), which work on a closed host.
package bridge

import (
	"errors"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Endpoint identifies a device to a host. Each host documents the types that it accepts. It refuses
// others with ErrEndpoint.
type Endpoint any

// Capabilities are the features that a host can execute for a guest.
type Capabilities struct {
	// IDs are the host's ID registers, without features that it cannot offer to a guest. Fields
	// that the virtual device implements by itself, such as the sizes of its queues, are ignored.
	IDs smmuv3.IDRegs
}

// Host is one physical SMMU, or one in software, as one virtual machine sees it.
//
// The device calls Attach, Invalidate and the methods of Streams one at a time, and Close last.
// Capabilities may be called at any time.
type Host interface {
	// Capabilities returns the same value during the life of the host.
	Capabilities() (Capabilities, error)

	// Attach attaches a device under the guest's StreamID for it. Its DMA aborts, without an event,
	// until the first Bind. Attach fails with ErrInUse if the StreamID or the endpoint is attached,
	// and with ErrEndpoint if the endpoint is not one of this host's.
	Attach(sid smmuv3.StreamID, ep Endpoint) (Stream, error)

	// Invalidate executes commands in order and returns when they have taken effect, as if a
	// CMD_SYNC followed. On return, in-flight DMA that used invalidated entries has completed, and
	// the sink of Events has received its faults.
	//
	// The commands are legal and as the guest wrote them. They are TLBI_NH_*, TLBI_NSNH_ALL,
	// CFGI_CD, CFGI_CD_ALL and ATC_INV. A guest that reads IDR0.S2P = 1 also sends TLBI_S12_VMALL
	// and TLBI_S2_IPA. An ATC_INV names a stream whose stage has EATS. A TLBI is complete before an
	// ATC_INV that follows it begins. Invalidate does not keep the slice.
	//
	// After an error, each command may or may not have been executed. After ErrATCTimeout, all
	// commands except ATC_INVs have been executed.
	Invalidate([]smmuv3.Command) error

	// Events claims the host for a device and sets the sink for faults that the guest must see. The
	// events have the guest's StreamIDs, and the form that the guest's ID registers imply. Events
	// fails with ErrInUse if the host has a sink, and keeps that sink. The device calls it before
	// the first Attach.
	//
	// Events(nil) removes the sink and releases the host. The device calls it after the last stream
	// is closed. On return no call of the sink is in flight, and no other follows. Events(nil) has
	// no effect on a host without a sink.
	//
	// The sink never blocks. The host may call it from any goroutine, also during calls of its
	// other methods.
	Events(sink func(smmuv3.Event)) error

	// SetGuestIDs sets the ID registers that the guest reads. The device calls it after Events and
	// before the first Attach. Until then the guest reads the Capabilities.
	//
	// A host in software behaves as an SMMU with these registers: it does not have features that
	// they do not show. Every host interprets the guest's commands by these registers. TTL hints
	// depend on IDR5.DS, for example, and are RES0 without IDR3.RIL. SetGuestIDs fails if the host
	// cannot do so.
	SetGuestIDs(smmuv3.IDRegs) error

	// Close closes the streams that are open and releases all resources of the host. The owner of
	// the host calls it.
	Close() error
}

// Stream is one device behind a Host.
type Stream interface {
	// Bind puts a stage into effect for all DMA that starts after it returns. On return no DMA uses
	// the previous stage or the configuration cached for it, and the sink of Events has received
	// the faults of such DMA. The stage replaces the previous one in one step. After an error the
	// previous stage stays in effect.
	Bind(GuestStage) error

	// Close detaches the device. On return its DMA does not reach the guest's memory: it aborts, or
	// uses a domain that the owner of the host chooses. After an error other than ErrClosed the
	// stream stays open. It keeps its stage or aborts, and Bind and Close may be called again.
	Close() error
}

// Sentinel errors. A cause matches one of them with errors.Is if callers distinguish it.
var (
	// ErrRejected means that the host does not support the stage. Another Bind of it fails as well.
	ErrRejected = errors.New("stage not supported by the host")
	// ErrGone means that the device, or the host, no longer exists and makes no DMA.
	ErrGone = errors.New("device is gone")
	// ErrATCTimeout means that an endpoint did not complete an ATC_INV in time (IHI 0070 §3.9.1.4).
	// A retry does not help. The host ensures that the endpoint cannot use the entries in its ATC.
	ErrATCTimeout = errors.New("ATC invalidation timed out")
	// ErrInUse means that the StreamID or the endpoint is attached, or that the host belongs to
	// another device.
	ErrInUse = errors.New("in use")
	// ErrEndpoint means that the host does not accept endpoints of this type.
	ErrEndpoint = errors.New("not an endpoint of this host")
	// ErrClosed means that the host or the stream is closed.
	ErrClosed = errors.New("closed")
)
