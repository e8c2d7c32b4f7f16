package labtest

// The tests that checks judge by name. TestNamedTestsExist compares them with the tests themselves.
const (
	// Package kerneltest. The parts of the conformance suite are named by package bridgetest.
	testKernelConformance                       = "TestKernelConformance"
	testRefusesIncoherentSMMU                   = "TestRefusesIncoherentSMMU"
	testKernelCDFetchOutsideMemoryAborts        = "TestKernelCDFetchOutsideMemoryAborts"
	testKernelCountsLostEvents                  = "TestKernelCountsLostEvents"
	testKernelDeviceRemovedDuringDMA            = "TestKernelDeviceRemovedDuringDMA"
	testKernelCloseLeavesNoObject               = "TestKernelCloseLeavesNoObject"
	testKernelSavedSMMUContinuesOnAnotherHost   = "TestKernelSavedSMMUContinuesOnAnotherHost"
	testKernelMemoryFollowsSlots                = "TestKernelMemoryFollowsSlots"
	testKernelRefusesUserWithoutPermission      = "TestKernelRefusesUserWithoutPermission"
	testKernelBatchIsOneIoctl                   = "TestKernelBatchIsOneIoctl"
	testKernelRefusesWithAdvice                 = "TestKernelRefusesWithAdvice"
	testKernelRefusesSharedGroup                = "TestKernelRefusesSharedGroup"
	testKernelAcceptsCommandsWithReservedBits   = "TestKernelAcceptsCommandsWithReservedBits"
	testKernelAcceptsOfferedStages              = "TestKernelAcceptsOfferedStages"
	testKernelInvalidatesBeforeStage1Translates = "TestKernelInvalidatesBeforeStage1Translates"
	testKernelDriverConfiguresDevice            = "TestKernelDriverConfiguresDevice"
	testRefusesStage1Alone                      = "TestRefusesStage1Alone"
	testRefusesStage2Alone                      = "TestRefusesStage2Alone"
	testRefusesWithoutCANWBS                    = "TestRefusesWithoutCANWBS"

	// Package vmm.
	testAccessThatCannotBeEmulatedEndsTheMachine = "TestAccessThatCannotBeEmulatedEndsTheMachine"
	testMachineBootsAgainAfterAReset             = "TestMachineBootsAgainAfterAReset"
	testMachineEndsAsTheGuestAsks                = "TestMachineEndsAsTheGuestAsks"
	testMachineEndsWithItsContext                = "TestMachineEndsWithItsContext"
	testMachineInterrupts                        = "TestMachineInterrupts"
)

// conformance is the beginning of the names of the conformance suite's parts.
const conformance = testKernelConformance + "/"
