package worker

import (
	"math"
	"testing"
)

// It showed as jobs that stayed leased for the visibility timeout after their worker had stopped, and then counted
// a crash: they were on their way to it.
func TestNothingIsOnItsWayToAWorkerThatStops(t *testing.T) {
	held := newHeld()
	held.add([]*Job{{Fence: 7}})
	if _, last := held.snapshot(); last != 0 {
		t.Fatalf("a job of this moment counts as settled: %d", last)
	}
	held.noMoreArrive()
	jobs, last := held.snapshot()
	if len(jobs) != 1 || last != math.MaxInt64 {
		t.Fatalf("got %d jobs, last fence %d", len(jobs), last)
	}
}
