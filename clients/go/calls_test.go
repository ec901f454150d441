package atlasqueue_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// scripted answers as a test wants it, and counts what it was asked.
type scripted struct {
	pb.UnimplementedJobServiceServer
	asked  atomic.Int32
	stored *pb.NewJob
	get    func(ctx context.Context, asked int32) (*pb.GetJobResponse, error)
	watch  func(stream grpc.ServerStreamingServer[pb.WatchJobResponse], asked int32) error
}

func (s *scripted) Enqueue(_ context.Context, request *pb.EnqueueRequest) (*pb.EnqueueResponse, error) {
	s.stored = request.GetJob()
	return &pb.EnqueueResponse{JobId: request.GetJob().GetJobId()}, nil
}

func (s *scripted) EnqueueBatch(context.Context, *pb.EnqueueBatchRequest) (*pb.EnqueueBatchResponse, error) {
	s.asked.Add(1)
	return nil, status.Error(codes.ResourceExhausted, "too large")
}

func (s *scripted) GetJob(ctx context.Context, _ *pb.GetJobRequest) (*pb.GetJobResponse, error) {
	return s.get(ctx, s.asked.Add(1))
}

func (s *scripted) WatchJob(_ *pb.WatchJobRequest, stream grpc.ServerStreamingServer[pb.WatchJobResponse]) error {
	return s.watch(stream, s.asked.Add(1))
}

// serve gives the address at which it listens.
func serve(t *testing.T, answers *scripted) string {
	t.Helper()
	return listening(t, func(server *grpc.Server) { pb.RegisterJobServiceServer(server, answers) })
}

// listening gives the address of a server of these services.
func listening(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// nobody gives an address at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func show(stream grpc.ServerStreamingServer[pb.WatchJobResponse], states ...atlasqueue.JobState) error {
	for _, state := range states {
		if err := stream.Send(&pb.WatchJobResponse{Job: &pb.Job{State: pb.JobState(state)}}); err != nil {
			return err
		}
	}
	return nil
}

func found(context.Context, int32) (*pb.GetJobResponse, error) {
	return &pb.GetJobResponse{Job: &pb.Job{}}, nil
}

func TestWhatMayHaveWorkedIsRepeatedUntilThereIsAnAnswer(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.Canceled, codes.Unknown, codes.Internal, codes.DeadlineExceeded} {
		server := &scripted{get: func(_ context.Context, asked int32) (*pb.GetJobResponse, error) {
			if asked < 3 {
				return nil, status.Error(code, "a test wants it so")
			}
			return &pb.GetJobResponse{Job: &pb.Job{}}, nil
		}}
		client := newClient(t, atlasqueue.WithServers(serve(t, server)), atlasqueue.WithRetryFor(time.Hour))
		if _, err := client.Get(t.Context(), "an id"); err != nil || server.asked.Load() != 3 {
			t.Errorf("%v: got %v after %d tries", code, err, server.asked.Load())
		}
	}
}

func TestATryWithoutAnAnswerEndsAndTheNextServerIsAsked(t *testing.T) {
	silent := &scripted{get: func(ctx context.Context, _ int32) (*pb.GetJobResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	client := newClient(t, atlasqueue.WithServers(serve(t, silent), serve(t, &scripted{get: found})),
		atlasqueue.WithTimeout(100*time.Millisecond), atlasqueue.WithRetryFor(time.Hour))
	if _, err := client.Get(t.Context(), "an id"); err != nil || silent.asked.Load() == 0 {
		t.Errorf("got %v; the silent server was asked %d times", err, silent.asked.Load())
	}
}

// With WithRetryFor(0) every call went to the first server, also while it was down.
func TestWhoRepeatsForHimselfComesToTheNextServer(t *testing.T) {
	client := newClient(t, atlasqueue.WithServers(nobody(t), serve(t, &scripted{get: found})), atlasqueue.WithRetryFor(0))
	_, err := client.Get(t.Context(), "an id")
	expect(t, err, atlasqueue.ErrUnavailable)
	if _, err = client.Get(t.Context(), "an id"); err != nil {
		t.Error(err)
	}
}

// A caller with a deadline shorter than that of a try stayed with a server that never answered.
func TestACallersDeadlineLeavesASilentServer(t *testing.T) {
	silent := &scripted{
		get: func(ctx context.Context, _ int32) (*pb.GetJobResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		watch: func(stream grpc.ServerStreamingServer[pb.WatchJobResponse], _ int32) error {
			<-stream.Context().Done()
			return stream.Context().Err()
		},
	}
	good := &scripted{get: found, watch: func(stream grpc.ServerStreamingServer[pb.WatchJobResponse], _ int32) error {
		return show(stream, atlasqueue.Succeeded)
	}}
	for name, ask := range map[string]func(context.Context, *atlasqueue.Client) error{
		"call": func(ctx context.Context, client *atlasqueue.Client) error {
			_, err := client.Get(ctx, "an id")
			return err
		},
		"watch": func(ctx context.Context, client *atlasqueue.Client) error {
			_, err := client.Wait(ctx, "an id")
			return err
		},
	} {
		client := newClient(t, atlasqueue.WithServers(serve(t, silent), serve(t, good)), atlasqueue.WithTimeout(time.Hour))
		// On a slow machine the time may be over before anybody was asked.
		for tries := 1; ; tries++ {
			short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			err := ask(short, client)
			cancel()
			if err == nil {
				break
			}
			if !errors.Is(err, context.DeadlineExceeded) || tries == 100 {
				t.Fatalf("%s: %v after %d tries", name, err, tries)
			}
		}
	}
}

func TestACallThatIsGivenUpLeavesNoServer(t *testing.T) {
	var giveUp context.CancelFunc
	server := &scripted{get: func(ctx context.Context, asked int32) (*pb.GetJobResponse, error) {
		if asked > 1 {
			return found(ctx, asked)
		}
		giveUp()
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	client := newClient(t, atlasqueue.WithServers(serve(t, server), nobody(t)), atlasqueue.WithRetryFor(0))
	ctx, cancel := context.WithCancel(t.Context())
	giveUp = cancel
	_, err := client.Get(ctx, "an id")
	expect(t, err, context.Canceled)
	if _, err := client.Get(t.Context(), "an id"); err != nil {
		t.Error(err)
	}
}

// A wait whose job had not moved for as long as calls are repeated ended at the first restart of a server.
func TestAWatchOutlivesAServerHoweverLongTheJobHasStood(t *testing.T) {
	const retryFor = time.Millisecond
	stops := make(chan struct{})
	server := &scripted{watch: func(stream grpc.ServerStreamingServer[pb.WatchJobResponse], asked int32) error {
		if asked > 1 {
			return show(stream, atlasqueue.Leased, atlasqueue.Succeeded)
		}
		err := show(stream, atlasqueue.Ready)
		<-stops
		return errors.Join(err, status.Error(codes.Unavailable, "the server stops"))
	}}
	client := newClient(t, atlasqueue.WithServers(serve(t, server)), atlasqueue.WithRetryFor(retryFor))
	var states []atlasqueue.JobState
	for job, err := range client.Watch(t.Context(), "an id") {
		if err != nil {
			t.Fatal(err)
		}
		if states = append(states, job.State); len(states) == 1 {
			for seen := time.Now(); time.Since(seen) <= retryFor; {
			}
			close(stops)
		}
	}
	if len(states) != 3 {
		t.Errorf("saw %v", states)
	}
}

func TestAWatchThatNobodyAnswersIsGivenUp(t *testing.T) {
	for name, end := range map[string]error{"ends": nil, "breaks": status.Error(codes.Unavailable, "the server stops")} {
		server := &scripted{watch: func(grpc.ServerStreamingServer[pb.WatchJobResponse], int32) error { return end }}
		client := newClient(t, atlasqueue.WithServers(serve(t, server)), atlasqueue.WithRetryFor(0))
		if _, err := client.Wait(t.Context(), "an id"); !errors.Is(err, atlasqueue.ErrUnavailable) || server.asked.Load() != 1 {
			t.Errorf("%s: got %v after %d tries", name, err, server.asked.Load())
		}
	}
}

// Python's client had it: calls that failed together on a silent server rotated back to it.
func TestOfCallsThatFailTogetherOneLeavesTheServer(t *testing.T) {
	together := make(chan struct{})
	silent := &scripted{get: func(_ context.Context, asked int32) (*pb.GetJobResponse, error) {
		if asked == 2 {
			close(together)
		}
		<-together
		return nil, status.Error(codes.Unavailable, "the server stops")
	}}
	client := newClient(t, atlasqueue.WithServers(serve(t, silent), serve(t, &scripted{get: found})), atlasqueue.WithRetryFor(time.Hour))
	answers := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := client.Get(t.Context(), "an id")
			answers <- err
		}()
	}
	if err := errors.Join(<-answers, <-answers); err != nil || silent.asked.Load() != 2 {
		t.Errorf("got %v; the silent server was asked %d times", err, silent.asked.Load())
	}
}

func TestAClosedClientEndsWhatWaitsAndCallsNobody(t *testing.T) {
	server := &scripted{get: found, watch: func(stream grpc.ServerStreamingServer[pb.WatchJobResponse], _ int32) error {
		err := show(stream, atlasqueue.Ready)
		<-stream.Context().Done()
		return err
	}}
	client := newClient(t, atlasqueue.WithServers(serve(t, server)))
	var ended error
	for _, err := range client.Watch(t.Context(), "an id") {
		if ended = err; err == nil {
			if err := errors.Join(client.Close(), client.Close()); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := client.Get(t.Context(), "an id"); err == nil || ended == nil || server.asked.Load() != 1 {
		t.Errorf("the watch ended with %v, a call with %v", ended, err)
	}
}

func TestABatchThatIsTooLargeIsNoRefusalOfItsFirstJob(t *testing.T) {
	server := &scripted{}
	client := newClient(t, atlasqueue.WithServers(serve(t, server)))
	ids, err := client.EnqueueBatch(t.Context(), []atlasqueue.NewJob{{Queue: "q", Kind: "k"}, {Queue: "q", Kind: "k"}})
	if refused := (*atlasqueue.EnqueueBatchError)(nil); !errors.Is(err, atlasqueue.ErrMessageTooLarge) || errors.As(err, &refused) || len(ids) != 0 {
		t.Errorf("got %v, %v", ids, err)
	}
	if server.asked.Load() != 1 {
		t.Errorf("asked %d times", server.asked.Load())
	}
}

func TestAHookLeavesAJobItsID(t *testing.T) {
	server := &scripted{}
	seen := ""
	client := newClient(t, atlasqueue.WithServers(serve(t, server)), atlasqueue.WithEnqueueHook(
		func(ctx context.Context, jobs []*atlasqueue.NewJob) (context.Context, func(error)) {
			seen = jobs[0].JobID
			return ctx, func(error) {}
		}))
	id, err := client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "q", Kind: "k", JobID: "mine"})
	if err != nil || id != "mine" || seen != "mine" || server.stored.GetJobId() != "mine" {
		t.Errorf("got %q, %v; the hook saw %q, the server %q", id, err, seen, server.stored.GetJobId())
	}
}
