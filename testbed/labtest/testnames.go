package labtest

// Tests that checks judge by name. TestNamedTestsExist compares the names with the tests.
const (
	// Package kerneltest. Package bridgetest names the parts of the conformance suite.
	testKernelATCHangs                          = "TestKernelATCHangs"
	testKernelAcceptsCommandsWithReservedBits   = "TestKernelAcceptsCommandsWithReservedBits"
	testKernelAcceptsOfferedStages              = "TestKernelAcceptsOfferedStages"
	testKernelBatchIsOneIoctl                   = "TestKernelBatchIsOneIoctl"
	testKernelCDFetchOutsideMemoryAborts        = "TestKernelCDFetchOutsideMemoryAborts"
	testKernelCloseLeavesNoObject               = "TestKernelCloseLeavesNoObject"
	testKernelConformance                       = "TestKernelConformance"
	testKernelCountsLostEvents                  = "TestKernelCountsLostEvents"
	testKernelDeviceRemovedDuringDMA            = "TestKernelDeviceRemovedDuringDMA"
	testKernelDriverConfiguresDevice            = "TestKernelDriverConfiguresDevice"
	testKernelInvalidatesBeforeStage1Translates = "TestKernelInvalidatesBeforeStage1Translates"
	testKernelKeepsBusyVDevice                  = "TestKernelKeepsBusyVDevice"
	testKernelMemoryFollowsSlots                = "TestKernelMemoryFollowsSlots"
	testKernelRefusesSharedGroup                = "TestKernelRefusesSharedGroup"
	testKernelRefusesUserWithoutPermission      = "TestKernelRefusesUserWithoutPermission"
	testKernelRefusesWithAdvice                 = "TestKernelRefusesWithAdvice"
	testKernelSavedSMMUContinuesOnAnotherHost   = "TestKernelSavedSMMUContinuesOnAnotherHost"
	testLinuxAttachesPASIDs                     = "TestLinuxAttachesPASIDs"
	testLinuxFindsDirtyPages                    = "TestLinuxFindsDirtyPages"
	testLinuxAnswersPageRequests                = "TestLinuxAnswersPageRequests"
	testLinuxEndsStallsWithoutAnAnswer          = "TestLinuxEndsStallsWithoutAnAnswer"
	testLinuxFaultOfADetachedPASIDNamesIt       = "TestLinuxFaultOfADetachedPASIDNamesIt"
	testLinuxForwardsStalls                     = "TestLinuxForwardsStalls"
	testLinuxForwardsStallsOfNestedTables       = "TestLinuxForwardsStallsOfNestedTables"
	testLinuxInvalidatesTheATC                  = "TestLinuxInvalidatesTheATC"
	testLinuxSurvivesAnATCThatHangs             = "TestLinuxSurvivesAnATCThatHangs"
	testLinuxTranslatesByStage2                 = "TestLinuxTranslatesByStage2"
	testRefusesIncoherentSMMU                   = "TestRefusesIncoherentSMMU"
	testRefusesLargeGranules                    = "TestRefusesLargeGranules"
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

// conformance is the prefix of the names of the conformance suite's parts.
const conformance = testKernelConformance + "/"
