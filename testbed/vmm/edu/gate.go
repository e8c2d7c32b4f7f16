package edu

import (
	"context"
	"sync"
)

// gate lets transactions pass while it is open. The zero value is open.
type gate struct {
	mu     sync.Mutex
	inside int
	shut   chan struct{} // closed by open; nil while the gate is open
	idle   chan struct{} // closed by the last leave; nil if nothing waits for it
}

// enter waits until the gate is open. Each enter that succeeds has its leave.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		shut := g.shut
		if shut == nil {
			g.inside++
		}
		g.mu.Unlock()
		if shut == nil {
			return nil
		}
		select {
		case <-shut:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// close shuts the gate and waits until nothing is inside. If ctx ends earlier, the gate is open
// again. At most one goroutine closes a gate at a time.
func (g *gate) close(ctx context.Context) error {
	g.mu.Lock()
	if g.shut == nil {
		g.shut = make(chan struct{})
	}
	idle := make(chan struct{})
	if g.inside == 0 {
		close(idle)
	} else {
		g.idle = idle
	}
	g.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		g.open()
		return context.Cause(ctx)
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
	g.idle = nil
}
