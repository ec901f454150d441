package worker

import (
	"context"
	"errors"
	"testing"
)

func TestBoundsAreThoseOfTheContract(t *testing.T) {
	for delay, taken := range map[error]bool{
		Snooze(delayMax): true, Snooze(delayMax + 1): false, Retry(errors.New("later"), delayMax): true,
		Retry(errors.New("later"), delayMax+1): false, Snooze(0): true, Snooze(-1): false,
	} {
		if how := (*ending)(nil); errors.As(delay, &how) != taken {
			t.Errorf("%v: taken %t", delay, !taken)
		}
	}
	for slots, taken := range map[int]bool{1: true, 10_000: true, 0: false, 10_001: false} {
		app := NewApp()
		app.Handle("k", "q", func(context.Context, *Job) ([]byte, error) { return nil, nil })
		if _, err := New(app, WithSlots(slots)); (err == nil) != taken {
			t.Errorf("%d slots: %v", slots, err)
		}
	}
	for text, want := range map[string]string{"abc": "ab", "aé": "a", "é": "é", "a\x00": "a", "\xff": ""} {
		if got := cutText(text, 2); got != want {
			t.Errorf("%q is cut to %q", text, got)
		}
	}
}
