package labtest

// The tests that checks judge by name. TestNamedTestsExist compares them with the tests themselves.
const (
	// Package kerneltest. The parts of the conformance suite are named by package bridgetest.
	testKernelConformance             = "TestKernelConformance"
	testIncoherentKernel              = "TestIncoherentKernel"
	testKernelCDOutsideMemory         = "TestKernelCDOutsideMemory"
	testKernelCountsLostEvents        = "TestKernelCountsLostEvents"
	testKernelDeviceVanishes          = "TestKernelDeviceVanishes"
	testKernelGivesEverythingBack     = "TestKernelGivesEverythingBack"
	testKernelGuestMoves              = "TestKernelGuestMoves"
	testKernelMemoryFollowsSlots      = "TestKernelMemoryFollowsSlots"
	testKernelNoPermission            = "TestKernelNoPermission"
	testKernelOneRequestABatch        = "TestKernelOneRequestABatch"
	testKernelRefusals                = "TestKernelRefusals"
	testKernelSharedGroup             = "TestKernelSharedGroup"
	testKernelTakesCommandsOfAnyGuest = "TestKernelTakesCommandsOfAnyGuest"
	testKernelTakesWhatTheHostOffers  = "TestKernelTakesWhatTheHostOffers"
	testKernelTranslationsOfNobody    = "TestKernelTranslationsOfNobody"
	testKernelWholeDevice             = "TestKernelWholeDevice"
	testStage1Kernel                  = "TestStage1Kernel"
	testStage2Kernel                  = "TestStage2Kernel"
	testUnnestedKernel                = "TestUnnestedKernel"

	// Package vmm.
	testAccessThatCannotBeEmulatedEndsTheMachine = "TestAccessThatCannotBeEmulatedEndsTheMachine"
	testMachineBootsAgainAfterAReset             = "TestMachineBootsAgainAfterAReset"
	testMachineEndsAsTheGuestAsks                = "TestMachineEndsAsTheGuestAsks"
	testMachineEndsWithItsContext                = "TestMachineEndsWithItsContext"
	testMachineInterrupts                        = "TestMachineInterrupts"
)

// conformance is the beginning of the names of the conformance suite's parts.
const conformance = testKernelConformance + "/"
