package bridgetest

// The suite skips a test if the host or its devices lack a feature. The message begins with one of
// these texts. A runner that knows its hardware can treat any other skip as a failure.
const (
	SkipNoIDR0       = "the host has no IDR0." // followed by the field
	SkipNoIDR3       = "the host has no IDR3." // followed by the field
	SkipNoFeature    = "the host lacks the feature"
	SkipHardware     = "the host executes in hardware"
	SkipNoStage2     = "the host has no such stage 2"
	SkipNoStalls     = "the host's IDR0.STALL_MODEL is not 0b00"
	SkipNoSubstreams = "the devices have no SubstreamIDs"
	SkipNoCallback   = "the devices cannot request translations during an invalidation"
	SkipNoRoom       = "the suite's memory has no room for a block"
	SkipNoRefetch    = "the host is no bridge.STERefetcher"
)
