package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// Handler runs one job. What it returns is the result, at most 256 KiB; an error is a failed attempt, retried
// with backoff, unless it is (or wraps) one of Retry, Reject, Snooze, Release and Cancel. The context ends when
// the handler should stop: context.Cause tells whether by ErrCancelRequested, ErrLeaseLost or ErrDraining. A
// panic is a failed attempt.
type Handler func(ctx context.Context, job *Job) ([]byte, error)

// Middleware wraps a handler.
type Middleware func(Handler) Handler

// App is the registry of handlers: kinds are strings, and nothing is found by a name from the wire but here.
type App struct {
	handlers   map[string]Handler
	queues     map[string]bool
	middleware []Middleware
}

var name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// NewApp makes an App without handlers.
func NewApp() *App { return &App{handlers: map[string]Handler{}, queues: map[string]bool{}} }

// Handle registers the handler of a kind, and the queue that it is expected in. It panics when the kind has a
// handler already, or kind or queue is no name: a mistake in the program, found when it starts.
func (a *App) Handle(kind, queue string, handler Handler) {
	for what, given := range map[string]string{"kind": kind, "queue": queue} {
		if !name.MatchString(given) {
			panic(fmt.Sprintf("worker: %s %q must match %s", what, given, name))
		}
	}
	if _, taken := a.handlers[kind]; taken {
		panic(fmt.Sprintf("worker: kind %q has a handler already", kind))
	}
	if handler == nil {
		panic(fmt.Sprintf("worker: the handler of kind %q is nil", kind))
	}
	a.handlers[kind] = handler
	a.queues[queue] = true
}

// HandleJSON registers a handler whose payload and result are JSON. A payload that cannot be read is rejected: no
// retry would mend it.
func HandleJSON[In, Out any](a *App, kind, queue string, handler func(ctx context.Context, job *Job, in In) (Out, error)) {
	a.Handle(kind, queue, func(ctx context.Context, job *Job) ([]byte, error) {
		var in In
		if err := job.JSON(&in); err != nil {
			return nil, Reject(fmt.Errorf("payload of kind %s: %w", kind, err))
		}
		out, err := handler(ctx, job, in)
		if err != nil {
			return nil, err
		}
		result, err := json.Marshal(out)
		if err != nil {
			return nil, Reject(fmt.Errorf("result of kind %s: %w", kind, err))
		}
		return result, nil
	})
}

// Use wraps all handlers, also those registered later; the first one named is the outermost.
func (a *App) Use(middleware ...Middleware) { a.middleware = append(a.middleware, middleware...) }

// Queues of the registered handlers.
func (a *App) Queues() []string { return slices.Sorted(maps.Keys(a.queues)) }

func (a *App) wrapped() map[string]Handler {
	handlers := make(map[string]Handler, len(a.handlers))
	for kind, handler := range a.handlers {
		for _, wrap := range slices.Backward(a.middleware) {
			handler = wrap(handler)
		}
		handlers[kind] = handler
	}
	return handlers
}
