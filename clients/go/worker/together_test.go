package worker_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

// columns counts jobs that travel in columns.
type columns struct{ leased, completed atomic.Int32 }

func (c *columns) counted() worker.Option {
	return worker.WithDialOptions(grpc.WithChainUnaryInterceptor(c.report), grpc.WithChainStreamInterceptor(c.lease))
}

func (c *columns) report(
	ctx context.Context, method string, in, out any, conn *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	err := call(ctx, method, in, out, conn, options...)
	if request, is := in.(*pb.ReportRequest); is && err == nil {
		for _, each := range request.GetCompleted() {
			c.completed.Add(int32(len(each.GetFences())))
		}
	}
	return err
}

func (c *columns) lease(
	ctx context.Context, description *grpc.StreamDesc, conn *grpc.ClientConn, method string, call grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := call(ctx, description, conn, method, options...)
	return &counting{stream, c}, err
}

type counting struct {
	grpc.ClientStream
	columns *columns
}

func (c *counting) RecvMsg(into any) error {
	err := c.ClientStream.RecvMsg(into)
	if response, is := into.(*pb.LeaseResponse); is && err == nil {
		for _, each := range response.GetLeasedJobs().GetUniform() {
			c.columns.leased.Add(int32(len(each.GetFences())))
		}
	}
	return err
}

const together = 100

// enqueueTogether enqueues jobs of a sort, each with its number as payload.
func (b *bench) enqueueTogether() []string {
	b.Helper()
	jobs := make([]atlasqueue.NewJob, together)
	for i := range jobs {
		jobs[i] = atlasqueue.NewJob{Queue: "q", Kind: "k", Payload: fmt.Append(nil, i), Headers: map[string]string{"a": "b"}}
	}
	ids, err := b.client.EnqueueBatch(b.Context(), jobs)
	if err != nil {
		b.Fatal(err)
	}
	return ids
}

func TestJobsOfASortTravelTogetherBothWays(t *testing.T) {
	b, counts := newBench(t), &columns{}
	ids := b.enqueueTogether()
	_, stop := b.run(app(func(_ context.Context, job *worker.Job) ([]byte, error) {
		if len(job.Headers) != 1 || job.Headers["a"] != "b" {
			return nil, fmt.Errorf("headers %v", job.Headers)
		}
		job.Headers[job.JobID] = "mine"
		if string(job.Payload) == "7" {
			return []byte(job.JobID), nil
		}
		return nil, nil
	}), worker.WithSlots(together), counts.counted())
	for i, id := range ids {
		want := ""
		if i == 7 {
			want = id
		}
		if job := b.reaches(id, in(atlasqueue.Succeeded)); string(job.Result) != want || job.Deliveries != 1 {
			t.Errorf("got %+v", job)
		}
	}
	// Then all is answered.
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if counts.leased.Load() != together || counts.completed.Load() != together-1 {
		t.Errorf("%d came and %d went in columns", counts.leased.Load(), counts.completed.Load())
	}
}

func TestJobsOfColumnsThatAreLostStopAndRunAgain(t *testing.T) {
	b, counts := newBench(t), &columns{}
	ids := b.enqueueTogether()
	running := make(chan struct{}, together)
	var lost atomic.Int32
	b.run(app(func(ctx context.Context, job *worker.Job) ([]byte, error) {
		if job.Deliveries > 1 {
			return nil, nil
		}
		running <- struct{}{}
		<-ctx.Done()
		if errors.Is(context.Cause(ctx), worker.ErrLeaseLost) {
			lost.Add(1)
		}
		return []byte("late"), nil
	}), worker.WithSlots(together), counts.counted())
	for range together {
		<-running
	}
	b.server.ExpireSessions()
	for _, id := range ids {
		if job := b.reaches(id, in(atlasqueue.Succeeded)); job.Crashes != 1 || len(job.Result) != 0 {
			t.Errorf("got %+v", job)
		}
	}
	if lost.Load() != together || counts.leased.Load() != 2*together {
		t.Errorf("%d handlers were told; %d jobs came in columns", lost.Load(), counts.leased.Load())
	}
}

func TestADrainEndsJobsOfColumnsAsAllOthers(t *testing.T) {
	b, counts := newBench(t), &columns{}
	ids := b.enqueueTogether()
	running, release := make(chan struct{}, together), make(chan struct{})
	w, stop := b.run(app(func(ctx context.Context, job *worker.Job) ([]byte, error) {
		running <- struct{}{}
		if string(job.Payload) == "7" {
			<-release
			return nil, nil
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}), worker.WithSlots(together), worker.WithGrace(time.Hour), counts.counted())
	for range together {
		<-running
	}
	w.Stop()
	close(release)
	// Within the grace one ends; then the grace is over for all others.
	b.reaches(ids[7], in(atlasqueue.Succeeded))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if i == 7 {
			continue
		}
		if job := b.reaches(id, in(atlasqueue.Ready)); job.Attempt != 0 || job.Crashes != 0 {
			t.Errorf("got %+v", job)
		}
	}
	if counts.leased.Load() != together || counts.completed.Load() != 1 {
		t.Errorf("%d came and %d went in columns", counts.leased.Load(), counts.completed.Load())
	}
}
