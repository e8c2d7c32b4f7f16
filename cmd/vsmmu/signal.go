package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// removeOnSignal removes a temporary file if a signal ends the process before keep is called.
func removeOnSignal(path string) (keep func()) {
	caught, done := make(chan os.Signal, 1), make(chan struct{})
	signals := []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP}
	signal.Notify(caught, signals...)
	go func() {
		select {
		case s := <-caught:
			_ = os.Remove(path)
			signal.Reset(signals...)
			_ = unix.Kill(unix.Getpid(), s.(unix.Signal)) // the shell sees the signal
		case <-done:
		}
	}()
	return func() {
		signal.Stop(caught)
		close(done)
	}
}
