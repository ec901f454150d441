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
