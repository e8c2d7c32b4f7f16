//go:build !race

package vsmmu

const raceEnabled = false
