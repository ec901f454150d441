package transport

import (
	"testing"
	"time"
)

// How it showed: a worker opened its stream 20 times a second at a server that ended each one at once.
func TestBackoffGoesOnAfterStreamsThatEndAtOnce(t *testing.T) {
	backoff := Backoff{First: time.Millisecond, Longest: time.Second}
	for range 12 {
		backoff.Next()
		backoff.ResetIfLived(time.Second - 1)
	}
	if backoff.tries != 12 {
		t.Errorf("%d tries are counted, 12 were made", backoff.tries)
	}
	backoff.ResetIfLived(time.Second)
	if backoff.tries != 0 {
		t.Errorf("%d tries are counted after one that lived", backoff.tries)
	}
}

// A shift without a bound of its own makes a ceiling below zero of many tries, which rand.N does not take.
func TestBackoffGrowsToItsLongestAndHasNoLastTry(t *testing.T) {
	backoff := Backoff{First: time.Millisecond, Longest: time.Second}
	longest := time.Duration(0)
	for range 2000 {
		longest = max(longest, backoff.Next())
	}
	if longest < time.Second/2 || longest > time.Second {
		t.Errorf("the longest of 2000 delays was %s", longest)
	}
}
