package atlasqueueotel

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

// Middleware makes a span of kind CONSUMER of every run of a job that carries a traceparent, for worker.App.Use: in
// the trace of whoever enqueued the job, and linked to it, at every attempt. The handler's context holds it, so
// that spans of its own and jobs that it enqueues belong to the trace. Jobs without the header get none.
func Middleware(options ...Option) worker.Middleware {
	tracer := tracerOf(options)
	return func(next worker.Handler) worker.Handler {
		return func(ctx context.Context, job *worker.Job) ([]byte, error) {
			if _, traced := job.Headers[traceparent]; !traced {
				return next(ctx, job)
			}
			ctx, span := begin(ctx, tracer, job)
			returned := false
			defer func() {
				if !returned {
					// It panicked, or the error that it returned did; the worker reports a failed attempt.
					fail(span, "panic")
				}
				span.End()
			}()
			result, err := next(ctx, job)
			if kind := job.FailureType(err); kind != "" {
				fail(span, kind)
			}
			returned = true
			return result, err
		}
	}
}

func begin(ctx context.Context, tracer trace.Tracer, job *worker.Job) (context.Context, trace.Span) {
	ctx = propagator.Extract(ctx, propagation.MapCarrier(job.Headers))
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer)}
	if producer := trace.SpanContextFromContext(ctx); producer.IsSampled() {
		options = append(options,
			trace.WithLinks(trace.Link{SpanContext: producer}), trace.WithAttributes(processAttributes(job)...))
	}
	return tracer.Start(ctx, "process "+job.Queue, options...)
}

// processAttributes follow the semantic conventions for messaging. A first run is told by its message id alone.
func processAttributes(job *worker.Job) []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		attribute.String("messaging.system", "atlasqueue"),
		attribute.String("messaging.operation.name", "process"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.name", job.Queue),
		attribute.String("messaging.message.id", job.JobID),
		attribute.String("atlasqueue.kind", job.Kind),
	}
	if job.Deliveries > 1 {
		attributes = append(attributes,
			attribute.Int("atlasqueue.delivery", job.Deliveries),
			attribute.Int("atlasqueue.attempt", job.Attempt),
			attribute.Int64("atlasqueue.fence", job.Fence))
	}
	return attributes
}
