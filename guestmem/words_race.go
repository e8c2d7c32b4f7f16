//go:build race

package guestmem

import "math"

// wordwise has every access made of atomic pieces under the race detector: it
// would otherwise take a test's hostile guest, which writes while the device
// reads, for a mistake of the device's.
const wordwise = math.MaxInt
