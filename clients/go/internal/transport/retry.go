package transport

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff gives delays drawn evenly from zero to a ceiling that doubles from First up to Longest.
type Backoff struct {
	First   time.Duration
	Longest time.Duration
	tries   int
}

// Next is the next delay.
func (b *Backoff) Next() time.Duration {
	ceiling := min(b.Longest, b.First<<min(b.tries, 20))
	b.tries++
	return rand.N(ceiling + 1)
}

// ResetIfLived begins anew after what opened and lasted so long, if that was as long as the longest delay. Who opens
// streams and ends them at once would else be asked 20 times a second.
func (b *Backoff) ResetIfLived(lived time.Duration) {
	if lived >= b.Longest {
		b.Reset()
	}
}

// Reset begins anew after a success.
func (b *Backoff) Reset() { b.tries = 0 }

// Sleep waits; false when the context ended first.
func Sleep(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
