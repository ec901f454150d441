package atlasqueueotel_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	api "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	"github.com/atlasqueue/atlasqueue/clients/go/atlasqueuetest"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	atlasqueueotel "github.com/atlasqueue/atlasqueue/clients/go/otel"
	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

// traced is a fake server, a client whose enqueues are traced, and what spans there were.
type traced struct {
	*testing.T
	server   *atlasqueuetest.Server
	client   *atlasqueue.Client
	provider *trace.TracerProvider
	spans    *tracetest.InMemoryExporter
	// What went with the last unary call, and the last request to store many jobs.
	sent  metadata.MD
	batch *pb.EnqueueBatchRequest
}

func newTraced(t *testing.T, sampler trace.Sampler) *traced {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := trace.NewTracerProvider(trace.WithSyncer(spans), trace.WithSampler(sampler))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	x := &traced{T: t, server: atlasqueuetest.NewServer(t), provider: provider, spans: spans}
	client, err := atlasqueue.NewClient(
		atlasqueue.WithServers(x.server.Address),
		atlasqueue.WithEnqueueHook(atlasqueueotel.EnqueueHook(atlasqueueotel.WithTracerProvider(provider))),
		atlasqueue.WithDialOptions(grpc.WithUnaryInterceptor(x.note)),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	x.client = client
	return x
}

func (x *traced) note(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	x.sent, _ = metadata.FromOutgoingContext(ctx)
	if batch, ok := request.(*pb.EnqueueBatchRequest); ok {
		x.batch = batch
	}
	return invoke(ctx, method, request, reply, conn, options...)
}

func (x *traced) enqueue(ctx context.Context, job atlasqueue.NewJob) string {
	x.Helper()
	id, err := x.client.Enqueue(ctx, job)
	if err != nil {
		x.Fatal(err)
	}
	return id
}

// work runs the jobs with a handler until this one has settled.
func (x *traced) work(id string, handler worker.Handler) {
	x.Helper()
	app := worker.NewApp()
	app.Use(atlasqueueotel.Middleware(atlasqueueotel.WithTracerProvider(x.provider)))
	app.Handle("resize", "media", handler)
	w, err := worker.New(app, worker.WithServers(x.server.Address), worker.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	if err != nil {
		x.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(x.Context()) }()
	ctx, cancel := context.WithTimeout(x.Context(), 30*time.Second)
	defer cancel()
	if _, err := x.client.Wait(ctx, id); err != nil && !errors.Is(err, atlasqueue.ErrJobDied) && !errors.Is(err, atlasqueue.ErrJobCancelled) {
		x.Fatal(err)
	}
	w.Stop()
	if err := <-ended; err != nil {
		x.Fatal(err)
	}
}

// named gives the spans of a name in the order in which they ended.
func (x *traced) named(name string) []tracetest.SpanStub {
	found := slices.Clone(x.spans.GetSpans())
	return slices.DeleteFunc(found, func(each tracetest.SpanStub) bool { return each.Name != name })
}

func attributesOf(span tracetest.SpanStub) map[string]any {
	found := map[string]any{}
	for _, each := range span.Attributes {
		found[string(each.Key)] = each.Value.AsInterface()
	}
	return found
}

func TestOneTraceFromProducerToHandlerAndALinkFromEachAttempt(t *testing.T) {
	x := newTraced(t, trace.AlwaysSample())
	ctx, checkout := x.provider.Tracer("shop").Start(t.Context(), "checkout")
	id := x.enqueue(ctx, atlasqueue.NewJob{Queue: "media", Kind: "resize", Headers: map[string]string{"tenant": "acme"}})
	checkout.End()
	told := x.sent.Get("traceparent")
	var fence int64
	x.work(id, func(ctx context.Context, job *worker.Job) ([]byte, error) {
		fence = job.Fence
		_, span := x.provider.Tracer("shop").Start(ctx, "scale")
		defer span.End()
		if job.Headers["tenant"] != "acme" {
			return nil, worker.Reject(errors.New("the job's own header is gone"))
		}
		if job.Attempt == 0 {
			return nil, worker.Retry(errors.New("s3cret"), 0)
		}
		return nil, nil
	})

	enqueue, runs, scales := x.named("enqueue media")[0], x.named("process media"), x.named("scale")
	if enqueue.Parent.SpanID() != checkout.SpanContext().SpanID() || enqueue.SpanKind != api.SpanKindProducer {
		t.Errorf("the enqueue is %+v", enqueue)
	}
	want := map[string]any{
		"messaging.system": "atlasqueue", "messaging.operation.name": "enqueue", "messaging.operation.type": "send",
		"messaging.destination.name": "media", "messaging.message.id": id, "atlasqueue.kind": "resize",
	}
	if got := attributesOf(enqueue); !maps.Equal(got, want) {
		t.Errorf("the enqueue has %v", got)
	}
	if len(told) != 1 || told[0][36:52] != enqueue.SpanContext.SpanID().String() {
		t.Errorf("with the call went %v", told)
	}
	if len(runs) != 2 || len(scales) != 2 {
		t.Fatalf("%d runs and %d spans of the handler", len(runs), len(scales))
	}
	for attempt, run := range runs {
		if run.Parent.SpanID() != enqueue.SpanContext.SpanID() || run.SpanContext.TraceID() != enqueue.SpanContext.TraceID() ||
			len(run.Links) != 1 || run.Links[0].SpanContext.SpanID() != enqueue.SpanContext.SpanID() || run.SpanKind != api.SpanKindConsumer {
			t.Errorf("run %d is %+v", attempt, run)
		}
		got, want := attributesOf(run), map[string]any{
			"messaging.system": "atlasqueue", "messaging.operation.name": "process", "messaging.operation.type": "process",
			"messaging.destination.name": "media", "messaging.message.id": id, "atlasqueue.kind": "resize",
		}
		if attempt == 0 {
			want["error.type"] = "*errors.errorString"
		} else {
			want["atlasqueue.delivery"], want["atlasqueue.attempt"], want["atlasqueue.fence"] = int64(2), int64(1), fence
		}
		if !maps.Equal(got, want) {
			t.Errorf("run %d has %v", attempt, got)
		}
		if scales[attempt].Parent.SpanID() != run.SpanContext.SpanID() {
			t.Errorf("the handler's span of run %d is %+v", attempt, scales[attempt])
		}
	}
	if failed := attributesOf(runs[0])["error.type"]; runs[0].Status.Code != codes.Error || failed != "*errors.errorString" {
		t.Errorf("the failed run has status %+v, %v", runs[0].Status, failed)
	}
	if runs[1].Status.Code != codes.Unset || len(runs[0].Events) != 0 {
		t.Errorf("a run has status %+v, another events %+v", runs[1].Status, runs[0].Events)
	}
}

func TestOnlyASampledSpanGoesWithTheJob(t *testing.T) {
	x := newTraced(t, trace.NeverSample())
	id := x.enqueue(t.Context(), atlasqueue.NewJob{Queue: "media", Kind: "resize"})
	x.work(id, func(_ context.Context, job *worker.Job) ([]byte, error) {
		if len(job.Headers) != 0 {
			t.Errorf("the job has %v", job.Headers)
		}
		return nil, nil
	})
	if spans := x.spans.GetSpans(); len(spans) != 0 {
		t.Errorf("there were %v", spans)
	}
}

func TestHeadersOfTheCallerStay(t *testing.T) {
	x := newTraced(t, trace.AlwaysSample())
	mine := map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	shared := map[string]string{"tenant": "acme"}
	ids, err := x.client.EnqueueBatch(t.Context(), []atlasqueue.NewJob{
		{Queue: "media", Kind: "resize", Headers: mine},
		{Queue: "media", Kind: "resize", Headers: shared},
		{Queue: "mail", Kind: "send", Headers: shared},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(shared) != 1 {
		t.Errorf("the caller's map is %v now", shared)
	}
	kept, err := x.client.Get(t.Context(), ids[0])
	if err != nil || !maps.Equal(kept.Headers, mine) {
		t.Errorf("got %v, %v", kept.Headers, err)
	}
	batch := x.named("enqueue")[0]
	if got := attributesOf(batch); got["messaging.batch.message_count"] != int64(3) || got["messaging.destination.name"] != nil {
		t.Errorf("the batch has %v", got)
	}
	added, err := x.client.Get(t.Context(), ids[2])
	if err != nil || added.Headers["traceparent"][36:52] != batch.SpanContext.SpanID().String() || added.Headers["tenant"] != "acme" {
		t.Errorf("got %v, %v", added.Headers, err)
	}
}

func TestJobsOfABatchShareTheirTraceAndEachHasIt(t *testing.T) {
	x := newTraced(t, trace.AlwaysSample())
	jobs := slices.Repeat([]atlasqueue.NewJob{{Queue: "media", Kind: "resize"}}, 40)
	for i := range jobs {
		if i%2 == 0 {
			jobs[i].Headers = map[string]string{"tenant": "acme"}
		}
	}
	jobs = slices.Concat(jobs, jobs)
	ids, err := x.client.EnqueueBatch(t.Context(), jobs)
	if err != nil {
		t.Fatal(err)
	}
	if len(x.batch.GetUniform()) != 2 || len(x.batch.GetJobs()) != 0 {
		t.Errorf("sent %v", x.batch)
	}
	trace := x.sent.Get("traceparent")[0]
	if span := x.named("enqueue media")[0].SpanContext.SpanID().String(); trace[36:52] != span {
		t.Errorf("the span is %s, the trace %s", span, trace)
	}
	for i, id := range ids {
		kept, err := x.client.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"traceparent": trace}
		if i%2 == 0 {
			want["tenant"] = "acme"
		}
		if !maps.Equal(kept.Headers, want) {
			t.Errorf("job %d has %v", i, kept.Headers)
		}
	}
}

// How it showed: a job with nearly 8 KiB of headers was refused when its trace was sampled.
func TestATraceIsNoReasonForARefusal(t *testing.T) {
	x := newTraced(t, trace.AlwaysSample())
	full := map[string]string{"k": strings.Repeat("v", 8*1024-1)}
	id, err := x.client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "media", Kind: "resize", Headers: full})
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := x.client.Get(t.Context(), id); err != nil || !maps.Equal(kept.Headers, full) {
		t.Errorf("got %v, %v", kept, err)
	}
}

func TestARefusalNamesItsReason(t *testing.T) {
	x := newTraced(t, trace.AlwaysSample())
	if _, err := x.client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "media", Kind: "s3cret kind"}); !errors.Is(err, atlasqueue.ErrInvalidField) {
		t.Fatal(err)
	}
	refused := x.named("enqueue media")[0]
	if refused.Status.Code != codes.Error || !slices.Contains(refused.Attributes, attribute.String("error.type", "INVALID_FIELD")) {
		t.Errorf("got %+v, %v", refused.Status, refused.Attributes)
	}
}

func TestWhatIsAFailedRun(t *testing.T) {
	for _, each := range []struct {
		name    string
		handler func() error
		kind    any
	}{
		{"snooze", func() error { return worker.Snooze(0) }, nil},
		{"release", worker.Release, nil},
		{"cancel", worker.Cancel, nil},
		{"reject", func() error { return worker.Reject(io.ErrUnexpectedEOF) }, "*errors.errorString"},
		{"panic", func() error { panic("oh") }, "panic"},
	} {
		t.Run(each.name, func(t *testing.T) {
			x := newTraced(t, trace.AlwaysSample())
			policy := &atlasqueue.RetryPolicy{InitialBackoff: new(time.Duration(0))}
			id := x.enqueue(t.Context(), atlasqueue.NewJob{Queue: "media", Kind: "resize", RetryPolicy: policy})
			x.work(id, func(_ context.Context, job *worker.Job) ([]byte, error) {
				if job.Deliveries > 1 {
					return nil, nil
				}
				return nil, each.handler()
			})
			first := x.named("process media")[0]
			if got := attributesOf(first)["error.type"]; got != each.kind || (first.Status.Code == codes.Error) != (each.kind != nil) {
				t.Errorf("got %v, %+v", got, first.Status)
			}
		})
	}
}
