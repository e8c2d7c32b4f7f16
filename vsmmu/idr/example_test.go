package idr_test

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

func ExampleDerive() {
	host := bridge.Capabilities{IDs: smmuv3.IDRegs{
		IDR:  [6]uint32{0x0d44101b, 0x02730010, 0, 0x00001414, 0, 0x00000074},
		AIDR: 1,
	}}
	r, err := idr.Derive(idr.Policy{smmuv3.CMDQS: 10, smmuv3.MSI: 1}, host)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(r.Table())

	_, err = idr.Derive(idr.Policy{smmuv3.SSIDSIZE: 20}, host)
	fmt.Println()
	fmt.Println(err, errors.Is(err, idr.ErrPolicy))
	// Output:
	// field            host  guest  reason
	// IDR0  S2P                 1      0  carried out by the host, which nests a stage 2 of the guest's, if the policy asks: for guests that are hypervisors
	// IDR0  S1P                 1      1  carried out by the host, which translates by the guest's tables
	// IDR0  TTF                 2      2  carried out by the host, which walks the tables
	// IDR0  COHACC              1      1  carried out by the host, which walks the tables; the device's own accesses are coherent
	// IDR0  BTM                 0      0  the guest's broadcast TLBI reaches no host
	// IDR0  HTTU                0      0  carried out by the host, which walks the tables and updates their flags
	// IDR0  DORMHINT            0      0  the device cannot tell when a host's caches are empty
	// IDR0  Hyp                 0      0  a guest's hypervisor has no contexts of its own in the SMMU
	// IDR0  ATS                 0      0  carried out by the host, which answers translation requests
	// IDR0  NS1ATS              0      0  RES0 without ATS and S2P, and never are there both
	// IDR0  ASID16              1      1  carried out by the host, which keeps the TLBs
	// IDR0  MSI                 0      1  as the policy asks; the device's own interrupts: wired, with MSI also messages
	// IDR0  SEV                 0      0  nothing of the device wakes a vCPU from WFE
	// IDR0  ATOS                0      0  the device does no address translation operations
	// IDR0  PRI                 0      0  carried out by the host, which passes page requests on; their queue is the device's
	// IDR0  VMW                 0      0  wildcards are for broadcasts, which reach no host
	// IDR0  VMID16              1      0  has no meaning without S2P (§6.3.1)
	// IDR0  CD2L                0      0  carried out by the host, which reads the CDs
	// IDR0  VATOS               0      0  the device does no address translation operations
	// IDR0  TTENDIAN            2      2  carried out by the host, which walks the tables
	// IDR0  ATSRECERR           0      0  its switch, CR2.REC_CFG_ATS, is the host's
	// IDR0  STALL_MODEL         1      1  carried out by the host, which resumes what is stalled; faults terminate unless the policy asks: PCI devices must not stall (§3.12.1)
	// IDR0  TERM_MODEL          1      1  carried out by the host, which terminates transactions
	// IDR0  ST_LEVEL            1      1  the device reads the stream table, linear or of two levels
	// IDR0  RME_IMPL            0      0  granule protection is the host's
	// IDR1  SIDSIZE            16     16  StreamIDs are the device's own; a PCI requester ID has 16 bits (§3.2)
	// IDR1  SSIDSIZE            0      0  carried out by the host, which is presented with SubstreamIDs
	// IDR1  PRIQS               0      0  RES0 without PRI (§6.3.2)
	// IDR1  EVENTQS            19      8  the device's own queue: log2 of its entries
	// IDR1  CMDQS              19     10  as the policy asks; the device's own queue: log2 of its entries
	// IDR1  ATTR_PERMS_OVR      0      0  overrides are no part of a guest stage
	// IDR1  ATTR_TYPES_OVR      0      0  overrides are no part of a guest stage
	// IDR1  REL                 0      0  the guest chooses where its tables and queues are
	// IDR1  QUEUES_PRESET       0      0  the guest chooses where its tables and queues are
	// IDR1  TABLES_PRESET       0      0  the guest chooses where its tables and queues are
	// IDR1  ECMDQ               0      0  the device has one command queue
	// IDR2  BA_VATOS            0      0  the device does no address translation operations
	// IDR3  HAD                 1      1  carried out by the host, which reads the CDs
	// IDR3  PBHA                0      0  carried out by the host, which reads the CDs
	// IDR3  XNX                 1      0  has no meaning without S2P (§6.3.4)
	// IDR3  PPS                 0      0  carried out by the host, which sends the device's own answers with a PASID
	// IDR3  MPAM                0      0  partitions of the memory system are the host's
	// IDR3  FWB                 0      0  comes with SMMUv3.2 (§2.4)
	// IDR3  STT                 0      0  carried out by the host, which walks the tables
	// IDR3  RIL                 1      1  carried out by the host, which keeps the TLBs
	// IDR3  BBML                2      2  carried out by the host, which keeps the TLBs
	// IDR3  E0PD                0      0  carried out by the host, which reads the CDs
	// IDR3  PTWNNC              0      0  carried out by the host, which walks the tables
	// IDR3  DPT                 0      0  the device permission table is the host's
	// IDR3  PASIDTT             0      0  carried out by the host, which takes translated transactions
	// IDR3  EPAN                0      0  carried out by the host, which reads the CDs
	// IDR3  S1PI                0      0  STE.S1PIE, which allows it, is no part of a guest stage (§3.26.1)
	// IDR3  S2PI                0      0  STE.S2PIE, which allows it, is no part of a guest stage
	// IDR3  S2PO                0      0  needs S2PI
	// IDR3  THE                 0      0  carried out by the host, which reads the CDs
	// IDR3  MTEPERM             0      0  memory tags are the host's
	// IDR3  AIE                 0      0  carried out by the host, which reads the CDs
	// IDR5  OAS                 4      4  carried out by the host, which puts addresses out; 56 bits would need D128
	// IDR5  GRAN4K              1      1  carried out by the host, which walks the tables
	// IDR5  GRAN16K             1      1  carried out by the host, which walks the tables
	// IDR5  GRAN64K             1      1  carried out by the host, which walks the tables
	// IDR5  DS                  0      0  carried out by the host, which walks the tables
	// IDR5  D128                0      0  needs S1PI and S2PO
	// IDR5  VAX                 0      0  carried out by the host, which walks the tables; 56 bits would need D128
	// IDR5  STALL_MAX           0      0  carried out by the host, which holds stalled transactions; the device keeps book of them
	// IIDR  Implementer         0      0  the device names itself; 0 is nobody's part, to which no erratum belongs
	// IIDR  Revision            0      0  the device names itself; 0 is nobody's part, to which no erratum belongs
	// IIDR  Variant             0      0  the device names itself; 0 is nobody's part, to which no erratum belongs
	// IIDR  ProductID           0      0  the device names itself; 0 is nobody's part, to which no erratum belongs
	// AIDR  ArchMinor           1      1  carried out by the host, which keeps what the version promises
	// AIDR  ArchMajor           0      0  the device is an SMMUv3
	//
	// idr: the policy cannot be met: it asks for SSIDSIZE 20, the host has 0: carried out by the host, which is presented with SubstreamIDs true
}
