//go:build race

package vsmmu

const raceEnabled = true
