package atlasqueueotel

import (
	"cmp"
	"context"
	"errors"
	"maps"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
)

// What the contract allows a job.
const (
	headersMax      = 32
	headersBytesMax = 8 * 1024
)

// EnqueueHook makes a span of every Enqueue and EnqueueBatch, for atlasqueue.WithEnqueueHook. Jobs get its
// traceparent when it is sampled; one that a job has already is kept. A job without headers is the cheapest, so a
// span that is not sampled leaves none.
func EnqueueHook(options ...Option) atlasqueue.EnqueueHook {
	tracer := tracerOf(options)
	return func(ctx context.Context, jobs []*atlasqueue.NewJob) (context.Context, func(error)) {
		queue := commonQueue(jobs)
		name := "enqueue"
		if queue != "" {
			name += " " + queue
		}
		ctx, span := tracer.Start(ctx, name,
			trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(enqueueAttributes(jobs, queue)...))
		carried := propagation.MapCarrier{}
		propagator.Inject(ctx, carried)
		if span.SpanContext().IsSampled() {
			for _, job := range jobs {
				carry(job, carried)
			}
		}
		return withMetadata(ctx, carried), func(err error) {
			if err != nil {
				fail(span, reasonOf(err))
			}
			span.End()
		}
	}
}

// commonQueue is the queue of all jobs; empty when they have several.
func commonQueue(jobs []*atlasqueue.NewJob) string {
	queue := ""
	for i, job := range jobs {
		if i == 0 {
			queue = job.Queue
		} else if job.Queue != queue {
			return ""
		}
	}
	return queue
}

// enqueueAttributes follow the semantic conventions for messaging.
func enqueueAttributes(jobs []*atlasqueue.NewJob, queue string) []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		attribute.String("messaging.system", "atlasqueue"),
		attribute.String("messaging.operation.name", "enqueue"),
		attribute.String("messaging.operation.type", "send"),
	}
	if queue != "" {
		attributes = append(attributes, attribute.String("messaging.destination.name", queue))
	}
	if len(jobs) == 1 {
		return append(attributes,
			attribute.String("messaging.message.id", jobs[0].JobID), attribute.String("atlasqueue.kind", jobs[0].Kind))
	}
	return append(attributes, attribute.Int("messaging.batch.message_count", len(jobs)))
}

func carry(job *atlasqueue.NewJob, carried map[string]string) {
	if _, own := job.Headers[traceparent]; own {
		return
	}
	// Jobs without headers of their own share one map.
	headers := carried
	if len(job.Headers) > 0 {
		headers = maps.Clone(carried)
		maps.Copy(headers, job.Headers)
	}
	// A trace must not be why a job is refused.
	if len(headers) <= headersMax && bytesOf(headers) <= headersBytesMax {
		job.Headers = headers
	}
}

func bytesOf(headers map[string]string) int {
	size := 0
	for key, value := range headers {
		size += len(key) + len(value)
	}
	return size
}

// withMetadata sends the trace with the call, in place of one that the caller's metadata may have.
func withMetadata(ctx context.Context, carried map[string]string) context.Context {
	outgoing, _ := metadata.FromOutgoingContext(ctx)
	outgoing = outgoing.Copy()
	for key, value := range carried {
		outgoing.Set(key, value)
	}
	return metadata.NewOutgoingContext(ctx, outgoing)
}

// reasonOf is the contract's reason, else the code of gRPC.
func reasonOf(err error) string {
	var refused *atlasqueue.Error
	if !errors.As(err, &refused) {
		return unknownError
	}
	return cmp.Or(refused.Reason, refused.Code.String())
}

// fail marks a span as failed; it says the kind of error alone, for a message may hold what the payload held.
func fail(span trace.Span, kind string) {
	span.SetAttributes(attribute.String("error.type", kind))
	span.SetStatus(codes.Error, kind)
}
