// Package atlasqueueotel traces the Go SDK by OpenTelemetry. It is a module of its own, so that programs without
// OpenTelemetry do not depend on it.
//
//	client, err := atlasqueue.NewClient(atlasqueue.WithEnqueueHook(atlasqueueotel.EnqueueHook()))
//	app.Use(atlasqueueotel.Middleware())
//
// An enqueue is a span of kind PRODUCER. It travels two ways: with the call, so that the server's span of the RPC
// is its child; and in the job's header traceparent (W3C Trace Context), so that the run of the job, in whatever
// worker, language and attempt, belongs to the same trace and links to the enqueue. Names and attributes are those
// of the Python SDK. Payloads, headers and the messages of errors are in no span.
package atlasqueueotel

import (
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const (
	scope        = "github.com/atlasqueue/atlasqueue/clients/go/otel"
	traceparent  = "traceparent"
	unknownError = "_OTHER"
)

// Baggage is not carried: it may be large, and a job's headers have a limit.
var propagator propagation.TraceContext

// Option sets up an EnqueueHook or a Middleware.
type Option func(*settings)

type settings struct {
	provider trace.TracerProvider
}

// WithTracerProvider makes spans with this provider; the default is the global one, otel.GetTracerProvider().
func WithTracerProvider(provider trace.TracerProvider) Option {
	return func(s *settings) { s.provider = provider }
}

func tracerOf(options []Option) trace.Tracer {
	chosen := settings{provider: otel.GetTracerProvider()}
	for _, option := range options {
		option(&chosen)
	}
	return chosen.provider.Tracer(scope)
}
