//go:build !linux

package main

// runInit does nothing: the machines run Linux.
func runInit(string) (isInit bool, err error) { return false, nil }
