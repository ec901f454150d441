package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	"github.com/atlasqueue/atlasqueue/clients/go/atlasqueuetest"
	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

// bench is a fake server, a client and what workers of a test need.
type bench struct {
	*testing.T
	server *atlasqueuetest.Server
	client *atlasqueue.Client
}

func newBench(t *testing.T) *bench {
	t.Helper()
	server := atlasqueuetest.NewServer(t)
	client, err := atlasqueue.NewClient(atlasqueue.WithServers(server.Address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return &bench{t, server, client}
}

// run starts a worker; the returned function stops it and gives what Run returned.
func (b *bench) run(app *worker.App, options ...worker.Option) (*worker.Worker, func() error) {
	b.Helper()
	options = append([]worker.Option{
		worker.WithServers(b.server.Address), worker.WithGrace(0), worker.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))),
	}, options...)
	w, err := worker.New(app, options...)
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(b.Context()) }()
	stopped := false
	stop := func() error {
		stopped = true
		w.Stop()
		return <-ended
	}
	b.Cleanup(func() {
		if !stopped {
			_ = stop()
		}
	})
	return w, stop
}

func (b *bench) enqueue(job atlasqueue.NewJob) string {
	b.Helper()
	job.Queue = "q"
	id, err := b.client.Enqueue(b.Context(), job)
	if err != nil {
		b.Fatal(err)
	}
	return id
}

// reaches waits until the job is as it should be.
func (b *bench) reaches(id string, fits func(atlasqueue.Job) bool) atlasqueue.Job {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	var last atlasqueue.Job
	for job, err := range b.client.Watch(ctx, id) {
		if err != nil {
			b.Fatalf("%v; last it was %+v", err, last)
		}
		if last = job; fits(job) {
			return job
		}
	}
	b.Fatalf("it settled otherwise: %+v", last)
	return last
}

func in(state atlasqueue.JobState) func(atlasqueue.Job) bool {
	return func(job atlasqueue.Job) bool { return job.State == state }
}

func app(handler worker.Handler) *worker.App {
	made := worker.NewApp()
	made.Handle("k", "q", handler)
	return made
}

func TestHowAHandlerEnds(t *testing.T) {
	for _, each := range []struct {
		name    string
		handler worker.Handler
		state   atlasqueue.JobState
		check   func(atlasqueue.Job) string
	}{
		{"result", func(_ context.Context, job *worker.Job) ([]byte, error) { return job.Payload, nil },
			atlasqueue.Succeeded, func(j atlasqueue.Job) string { return string(j.Result) }},
		{"failure", func(context.Context, *worker.Job) ([]byte, error) {
			return nil, fmt.Errorf("within: %w", &time.ParseError{Message: "bad"})
		}, atlasqueue.Scheduled, func(j atlasqueue.Job) string { return j.Failures[0].Type }},
		{"retry", func(context.Context, *worker.Job) ([]byte, error) {
			return nil, worker.Retry(errors.New("later"), time.Hour)
		},
			atlasqueue.Scheduled, func(j atlasqueue.Job) string { return fmt.Sprint(time.Until(j.RunAt) > 50*time.Minute, j.Attempt) }},
		{"snooze", func(context.Context, *worker.Job) ([]byte, error) { return nil, worker.Snooze(time.Hour) },
			atlasqueue.Scheduled, func(j atlasqueue.Job) string { return fmt.Sprint(j.Attempt) }},
		{"reject", func(context.Context, *worker.Job) ([]byte, error) {
			return nil, fmt.Errorf("well: %w", worker.Reject(errors.New("never\x00")))
		}, atlasqueue.Dead, func(j atlasqueue.Job) string { return j.DeadLetterReason.String() + j.Failures[0].Message }},
		{"cancel", func(context.Context, *worker.Job) ([]byte, error) { return nil, worker.Cancel() },
			atlasqueue.Cancelled, func(atlasqueue.Job) string { return "" }},
		{"panic", func(context.Context, *worker.Job) ([]byte, error) { panic("oh") },
			atlasqueue.Scheduled, func(j atlasqueue.Job) string {
				return fmt.Sprint(j.Failures[0].Message+" ", strings.Contains(j.Failures[0].Stack, "worker_test.go"))
			}},
		{"goexit", func(context.Context, *worker.Job) ([]byte, error) { runtime.Goexit(); return nil, nil },
			atlasqueue.Scheduled, func(j atlasqueue.Job) string { return j.Failures[0].Message }},
		{"too large", func(context.Context, *worker.Job) ([]byte, error) { return make([]byte, 256<<10+1), nil },
			atlasqueue.Dead, func(j atlasqueue.Job) string { return j.Failures[0].Type }},
		{"own cancellation", func(context.Context, *worker.Job) ([]byte, error) { return nil, context.Canceled },
			atlasqueue.Scheduled, func(j atlasqueue.Job) string { return fmt.Sprint(j.Attempt) }},
		{"bad delay", func(context.Context, *worker.Job) ([]byte, error) { return nil, worker.Snooze(-1) },
			atlasqueue.Scheduled, func(j atlasqueue.Job) string { return fmt.Sprint(j.Attempt) }},
		{"bad delay of a retry", func(context.Context, *worker.Job) ([]byte, error) {
			return nil, worker.Retry(&time.ParseError{Message: "what went wrong"}, -1)
		}, atlasqueue.Scheduled, func(j atlasqueue.Job) string {
			return fmt.Sprint(j.Failures[0].Type, strings.Contains(j.Failures[0].Message, "what went wrong"))
		}},
		// It ended the process, and with it every other job: errors.As calls Unwrap, which takes the pointer's field.
		{"nil of a type", func(context.Context, *worker.Job) ([]byte, error) { return nil, (*fs.PathError)(nil) },
			atlasqueue.Scheduled, func(j atlasqueue.Job) string {
				return fmt.Sprint(strings.Contains(j.Failures[0].Stack, "(*PathError).Unwrap"))
			}},
	} {
		want := map[string]string{
			"result": "payload", "failure": "*time.ParseError", "retry": "true 1", "snooze": "0",
			"reject": "REJECTEDwell: never\uFFFD", "panic": "panic: oh true",
			"goexit": "the handler ended its goroutine without returning", "too large": "ResultTooLarge",
			"own cancellation": "1", "bad delay": "1", "bad delay of a retry": "*time.ParseErrortrue", "nil of a type": "true",
		}
		t.Run(each.name, func(t *testing.T) {
			b := newBench(t)
			b.run(app(each.handler))
			policy := &atlasqueue.RetryPolicy{InitialBackoff: new(time.Hour)}
			id := b.enqueue(atlasqueue.NewJob{Kind: "k", Payload: []byte("payload"), RetryPolicy: policy})
			job := b.reaches(id, in(each.state))
			if got := each.check(job); got != want[each.name] {
				t.Errorf("got %q instead of %q", got, want[each.name])
			}
		})
	}
}

func TestTheFailureTypeIsThatOfTheReport(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	job := worker.NewJob(ctx, "k", nil)
	for _, each := range []struct {
		err  error
		want string
	}{
		{nil, ""}, {worker.Snooze(0), ""}, {worker.Release(), ""}, {worker.Cancel(), ""},
		{context.Canceled, "*errors.errorString"}, {fmt.Errorf("well: %w", &time.ParseError{}), "*time.ParseError"},
		{worker.Reject(&time.ParseError{}), "*time.ParseError"}, {worker.Retry(&time.ParseError{}, 0), "*time.ParseError"},
	} {
		if got := job.FailureType(each.err); got != each.want {
			t.Errorf("%v: got %q instead of %q", each.err, got, each.want)
		}
	}
	cancel()
	if got := job.FailureType(ctx.Err()); got != "" {
		t.Errorf("a job that was asked to stop and did has failed with %q", got)
	}
}

func TestAnUnknownKindIsSetAside(t *testing.T) {
	b := newBench(t)
	b.run(app(nothing))
	id := b.enqueue(atlasqueue.NewJob{Kind: "other"})
	job := b.reaches(id, in(atlasqueue.Scheduled))
	if job.Attempt != 0 || job.Failures[0].Cause.String() != "UNKNOWN_KIND" {
		t.Errorf("got %+v", job)
	}
}

func nothing(context.Context, *worker.Job) ([]byte, error) { return nil, nil }

func TestTypedHandlers(t *testing.T) {
	type point struct{ X, Y int }
	b := newBench(t)
	made := worker.NewApp()
	worker.HandleJSON(made, "sum", "q", func(_ context.Context, _ *worker.Job, in point) (int, error) { return in.X + in.Y, nil })
	b.run(made)
	id := b.enqueue(atlasqueue.NewJob{Kind: "sum", Payload: []byte(`{"X":1,"Y":2}`)})
	if job := b.reaches(id, in(atlasqueue.Succeeded)); string(job.Result) != "3" {
		t.Errorf("got %s", job.Result)
	}
	id = b.enqueue(atlasqueue.NewJob{Kind: "sum", Payload: []byte(`{"X":"one"}`)})
	b.reaches(id, in(atlasqueue.Dead))
}

func TestACancelEndsTheContext(t *testing.T) {
	b := newBench(t)
	started := make(chan struct{})
	b.run(app(func(ctx context.Context, _ *worker.Job) ([]byte, error) {
		close(started)
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), worker.ErrCancelRequested) {
			return []byte("another cause"), nil
		}
		return nil, ctx.Err()
	}))
	id := b.enqueue(atlasqueue.NewJob{Kind: "k"})
	<-started
	if state, err := b.client.Cancel(t.Context(), id); err != nil || state != atlasqueue.Leased {
		t.Fatalf("%v, %v", state, err)
	}
	b.reaches(id, in(atlasqueue.Cancelled))
}

func TestAHandlerThatCompletesWinsOverACancel(t *testing.T) {
	b := newBench(t)
	started := make(chan struct{})
	b.run(app(func(ctx context.Context, _ *worker.Job) ([]byte, error) {
		close(started)
		<-ctx.Done()
		return []byte("done"), nil
	}))
	id := b.enqueue(atlasqueue.NewJob{Kind: "k"})
	<-started
	if _, err := b.client.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.reaches(id, in(atlasqueue.Succeeded))
}

func TestALostSessionEndsHandlersAndTheirJobsRunAgain(t *testing.T) {
	b := newBench(t)
	causes := make(chan error, 1)
	started := make(chan struct{}, 1)
	fences := make(chan int64, 2)
	b.run(app(func(ctx context.Context, job *worker.Job) ([]byte, error) {
		fences <- job.Fence
		if job.Deliveries > 1 {
			return []byte("second"), nil
		}
		started <- struct{}{}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return []byte("first"), nil
	}))
	id := b.enqueue(atlasqueue.NewJob{Kind: "k"})
	<-started
	b.server.ExpireSessions()
	job := b.reaches(id, in(atlasqueue.Succeeded))
	if string(job.Result) != "second" || job.Crashes != 1 {
		t.Errorf("got %s after %d crashes", job.Result, job.Crashes)
	}
	if cause := <-causes; !errors.Is(cause, worker.ErrLeaseLost) {
		t.Errorf("got %v", cause)
	}
	if first, second := <-fences, <-fences; second <= first {
		t.Errorf("fence %d after %d", second, first)
	}
}

func TestAStreamThatClosesIsOpenedAgainAndLeasesStay(t *testing.T) {
	b := newBench(t)
	release := make(chan struct{})
	started := make(chan struct{}, 1)
	w, _ := b.run(app(func(context.Context, *worker.Job) ([]byte, error) {
		started <- struct{}{}
		<-release
		return nil, nil
	}))
	first := b.enqueue(atlasqueue.NewJob{Kind: "k"})
	<-started
	b.server.CloseStreams()
	second := b.enqueue(atlasqueue.NewJob{Kind: "k"})
	<-started
	close(release)
	for _, id := range []string{first, second} {
		if job := b.reaches(id, in(atlasqueue.Succeeded)); job.Deliveries != 1 {
			t.Errorf("%d deliveries", job.Deliveries)
		}
	}
	if !w.Healthy() {
		t.Error("the worker is not healthy")
	}
}

func TestAReportWhoseAnswerIsLostIsRepeated(t *testing.T) {
	b := newBench(t)
	b.run(app(func(context.Context, *worker.Job) ([]byte, error) {
		// Heartbeats may take one of these; the report comes after both at the latest.
		b.server.FailNext(2, "OVERLOADED")
		b.server.LoseNextAnswer()
		return []byte("kept"), nil
	}))
	id := b.enqueue(atlasqueue.NewJob{Kind: "k"})
	if job := b.reaches(id, in(atlasqueue.Succeeded)); string(job.Result) != "kept" || job.Deliveries != 1 {
		t.Errorf("got %+v", job)
	}
}

func TestALargeBatchDoesNotWaitForTheReportThatIsOut(t *testing.T) {
	b := newBench(t)
	const jobs = 600
	var reports atomic.Int32
	another := make(chan struct{})
	held := grpc.WithUnaryInterceptor(func(
		ctx context.Context, method string, in, out any, conn *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption,
	) error {
		if strings.HasSuffix(method, "/Report") {
			switch reports.Add(1) {
			case 1:
				select {
				case <-another:
				case <-ctx.Done():
				}
			case 2:
				close(another)
			}
		}
		return call(ctx, method, in, out, conn, options...)
	})
	b.run(app(func(_ context.Context, job *worker.Job) ([]byte, error) {
		for string(job.Payload) != "first" && reports.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		return nil, nil
	}), worker.WithSlots(jobs), worker.WithDialOptions(held))
	ids := []string{b.enqueue(atlasqueue.NewJob{Kind: "k", Payload: []byte("first")})}
	for range jobs - 1 {
		ids = append(ids, b.enqueue(atlasqueue.NewJob{Kind: "k"}))
	}
	for _, id := range ids {
		b.reaches(id, in(atlasqueue.Succeeded))
	}
}

func TestADrainReleasesWhatDoesNotEndInTime(t *testing.T) {
	for name, ends := range map[string]func(error) error{
		"listens":         func(stopped error) error { return stopped },
		"does not listen": nil,
		// It spent an attempt.
		"calls by gRPC": func(stopped error) error { return fmt.Errorf("call: %w", status.FromContextError(stopped).Err()) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			started := make(chan struct{}, 1)
			never := make(chan struct{})
			t.Cleanup(func() { close(never) })
			_, stop := b.run(app(func(ctx context.Context, _ *worker.Job) ([]byte, error) {
				started <- struct{}{}
				if ends != nil {
					<-ctx.Done()
					return nil, ends(ctx.Err())
				}
				<-never
				return nil, nil
			}))
			id := b.enqueue(atlasqueue.NewJob{Kind: "k"})
			<-started
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			// The release may come to the server before the end of the stream, on which the job then goes out once more.
			if job := b.reaches(id, in(atlasqueue.Ready)); job.Attempt != 0 {
				t.Errorf("got %+v", job)
			}
		})
	}
}

func TestADrainLetsHandlersFinishWithinTheGrace(t *testing.T) {
	b := newBench(t)
	started, release := make(chan struct{}), make(chan struct{})
	_, stop := b.run(app(func(context.Context, *worker.Job) ([]byte, error) {
		close(started)
		<-release
		return nil, nil
	}), worker.WithGrace(time.Minute))
	id := b.enqueue(atlasqueue.NewJob{Kind: "k"})
	<-started
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	close(release)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	b.reaches(id, in(atlasqueue.Succeeded))
}

func TestASecondStopEndsTheGrace(t *testing.T) {
	b := newBench(t)
	started := make(chan struct{})
	w, stop := b.run(app(func(ctx context.Context, _ *worker.Job) ([]byte, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}), worker.WithGrace(time.Hour))
	b.enqueue(atlasqueue.NewJob{Kind: "k"})
	<-started
	w.Stop()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatTheServerRefusesForGoodEndsTheWorker(t *testing.T) {
	b := newBench(t)
	w, err := worker.New(app(nothing), worker.WithServers(b.server.Address), worker.WithQueues("not a name"),
		worker.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); !errors.Is(err, atlasqueue.ErrInvalidField) {
		t.Errorf("got %v", err)
	}
}

// It was asked for again and again, for ever: gRPC tells of a message that it cannot encode as of a broken connection.
func TestANameThatIsNotUTF8EndsTheWorker(t *testing.T) {
	b := newBench(t)
	w, err := worker.New(app(nothing), worker.WithServers(b.server.Address), worker.WithName("\xff"),
		worker.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.Run(ctx); !errors.Is(err, atlasqueue.ErrMalformedMessage) {
		t.Errorf("got %v", err)
	}
}

func TestAWorkerChecksWhatItIsGiven(t *testing.T) {
	for name, make := range map[string]func() (*worker.Worker, error){
		"no app":      func() (*worker.Worker, error) { return worker.New(nil) },
		"no handlers": func() (*worker.Worker, error) { return worker.New(worker.NewApp()) },
		"slots":       func() (*worker.Worker, error) { return worker.New(app(nothing), worker.WithSlots(0)) },
		"grace":       func() (*worker.Worker, error) { return worker.New(app(nothing), worker.WithGrace(-1)) },
	} {
		if _, err := make(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	b := newBench(t)
	w, stop := b.run(app(nothing), worker.WithName(""), worker.WithLogger(nil))
	b.reaches(b.enqueue(atlasqueue.NewJob{Kind: "k"}), in(atlasqueue.Succeeded))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); err == nil {
		t.Error("a worker ran a second time")
	}
}

func TestACheckpointReachesTheNextRunBeforeTheReport(t *testing.T) {
	b := newBench(t)
	b.run(app(func(_ context.Context, job *worker.Job) ([]byte, error) {
		if job.Checkpoint == nil {
			job.SetProgress(150, "half\x00way")
			if err := job.SaveCheckpoint([]byte("page 7")); err != nil {
				return nil, err
			}
			return nil, worker.Retry(errors.New("again"), 0)
		}
		return job.Checkpoint, nil
	}))
	id := b.enqueue(atlasqueue.NewJob{Kind: "k"})
	job := b.reaches(id, in(atlasqueue.Succeeded))
	if string(job.Result) != "page 7" || job.Progress.Percent != 100 || job.Progress.Note != "half\uFFFDway" {
		t.Errorf("got %s, %+v", job.Result, job.Progress)
	}
	if err := worker.NewJob(t.Context(), "k", nil).SaveCheckpoint(make([]byte, 64<<10+1)); err == nil {
		t.Error("a large checkpoint was taken")
	}
}

func TestNoMoreJobsThanSlotsRunAtOnce(t *testing.T) {
	b := newBench(t)
	var now, most atomic.Int32
	gate := make(chan struct{}, 3)
	b.run(app(func(context.Context, *worker.Job) ([]byte, error) {
		running := now.Add(1)
		for seen := most.Load(); running > seen && !most.CompareAndSwap(seen, running); seen = most.Load() {
		}
		gate <- struct{}{}
		<-gate
		now.Add(-1)
		return nil, nil
	}), worker.WithSlots(3))
	var ids []string
	for range 30 {
		ids = append(ids, b.enqueue(atlasqueue.NewJob{Kind: "k"}))
	}
	for _, id := range ids {
		b.reaches(id, in(atlasqueue.Succeeded))
	}
	if most.Load() > 3 {
		t.Errorf("%d ran at once", most.Load())
	}
}

func TestMiddlewareWrapsInOrder(t *testing.T) {
	b := newBench(t)
	made := app(nothing)
	wrap := func(letter string) worker.Middleware {
		return func(next worker.Handler) worker.Handler {
			return func(ctx context.Context, job *worker.Job) ([]byte, error) {
				result, err := next(ctx, job)
				return append(result, letter...), err
			}
		}
	}
	made.Use(wrap("outer"), wrap("inner"))
	b.run(made)
	id := b.enqueue(atlasqueue.NewJob{Kind: "k"})
	if job := b.reaches(id, in(atlasqueue.Succeeded)); string(job.Result) != "innerouter" {
		t.Errorf("got %s", job.Result)
	}
}
