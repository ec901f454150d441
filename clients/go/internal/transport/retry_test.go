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
