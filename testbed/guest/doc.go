// Package guest has the inits of guests: of the test boot, the lab, and the disk benchmark. They
// test the disks and report to the VMM. The patterns and messages, which the VMM shares, build on
// every platform.
package guest
