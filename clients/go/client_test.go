package atlasqueue_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	"github.com/atlasqueue/atlasqueue/clients/go/atlasqueuetest"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

func newClient(t *testing.T, options ...atlasqueue.Option) *atlasqueue.Client {
	t.Helper()
	client, err := atlasqueue.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestIDsAscendAndAreVersion7(t *testing.T) {
	last := ""
	for range 10_000 {
		id := atlasqueue.NewJobID()
		if len(id) != 36 || id[14] != '7' || !strings.ContainsRune("89ab", rune(id[19])) {
			t.Fatalf("%s is no UUID of version 7", id)
		}
		if id <= last {
			t.Fatalf("%s came after %s", id, last)
		}
		last = id
	}
}

func TestAnEnqueueWhoseAnswerIsLostStoresOneJob(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address))
	server.LoseNextAnswer()
	id, err := client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "q", Kind: "k"})
	if err != nil {
		t.Fatal(err)
	}
	depth, err := client.Queues.Depth(t.Context(), "q")
	if err != nil || depth.Ready != 1 {
		t.Fatalf("job %s: depth %+v, %v", id, depth, err)
	}
}

func TestTheNextServerIsAskedWhenOneDoesNotAnswer(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := nobody.Addr().String()
	_ = nobody.Close()
	client := newClient(t, atlasqueue.WithServers(dead+","+server.Address))
	if _, err := client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "q", Kind: "k"}); err != nil {
		t.Fatal(err)
	}
}

func TestACallThatMayWorkLaterIsRepeatedAndOneThatCannotIsNot(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address))
	server.FailNext(2, "DATABASE_UNAVAILABLE")
	if _, err := client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "q", Kind: "k"}); err != nil {
		t.Fatal(err)
	}
	_, err := client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "not a name", Kind: "k"})
	var failure *atlasqueue.Error
	if !errors.Is(err, atlasqueue.ErrInvalidField) || !errors.As(err, &failure) {
		t.Fatalf("got %v", err)
	}
	if failure.Reason != "INVALID_FIELD" || len(failure.Violations) != 1 || failure.Violations[0].Field != "job.queue" {
		t.Fatalf("got %+v", failure)
	}
}

func TestGivingUpSaysWhatWasWrong(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address), atlasqueue.WithRetryFor(0))
	server.FailNext(1, "OVERLOADED")
	_, err := client.Cluster(t.Context())
	if !errors.Is(err, atlasqueue.ErrOverloaded) || !errors.Is(err, atlasqueue.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
}

func TestErrorsByReason(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address))
	ctx := t.Context()
	id, err := client.Enqueue(ctx, atlasqueue.NewJob{Queue: "q", Kind: "k"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Enqueue(ctx, atlasqueue.NewJob{Queue: "q", Kind: "other", JobID: id})
	expect(t, err, atlasqueue.ErrJobIDConflict)
	if _, err = client.Enqueue(ctx, atlasqueue.NewJob{Queue: "p", Kind: "k", JobID: id}); err != nil {
		t.Fatal(err)
	}
	_, err = client.Get(ctx, id)
	expect(t, err, atlasqueue.ErrJobIDAmbiguous)
	if state, err := client.Cancel(ctx, id, atlasqueue.InQueue("q")); err != nil || state != atlasqueue.Cancelled {
		t.Fatalf("%v, %v", state, err)
	}
	_, err = client.Cancel(ctx, id, atlasqueue.InQueue("q"))
	expect(t, err, atlasqueue.ErrJobFinal)
	_, err = client.Get(ctx, atlasqueue.NewJobID())
	expect(t, err, atlasqueue.ErrJobNotFound)
	_, err = client.Queues.Depth(ctx, "nowhere")
	expect(t, err, atlasqueue.ErrQueueNotFound)
	_, err = client.Wait(ctx, id, atlasqueue.InQueue("q"))
	expect(t, err, atlasqueue.ErrJobCancelled)
}

func expect(t *testing.T, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got %v instead of %v", err, kind)
	}
}

func TestABatchIsCutIntoMessagesAndRefusalsAreByPosition(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address))
	jobs := make([]atlasqueue.NewJob, 12)
	for i := range jobs {
		// Two of a mebibyte fit into a message, three do not.
		jobs[i] = atlasqueue.NewJob{Queue: "q", Kind: "k", Payload: make([]byte, 1<<20)}
	}
	jobs[7].Kind = "not a name"
	ids, err := client.EnqueueBatch(t.Context(), jobs)
	var refused *atlasqueue.EnqueueBatchError
	if !errors.As(err, &refused) || len(refused.Errors) != 1 || !errors.Is(refused.Errors[7], atlasqueue.ErrInvalidField) {
		t.Fatalf("got %v", err)
	}
	if len(ids) != len(jobs) {
		t.Fatalf("%d ids", len(ids))
	}
	listed := 0
	for _, err := range client.List(t.Context(), "q", atlasqueue.JobFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		listed++
	}
	if listed != len(jobs)-1 {
		t.Fatalf("%d jobs are stored", listed)
	}
}

// It ended the batch in the middle.
func TestAJobThatNoMessageCarriesIsOneOfTheRefused(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address))
	ids, err := client.EnqueueBatch(t.Context(), []atlasqueue.NewJob{
		{Queue: "q", Kind: "k"}, {Queue: "q", Kind: "k", Payload: make([]byte, 5<<20)}, {Queue: "q", Kind: "k"},
	})
	var refused *atlasqueue.EnqueueBatchError
	if !errors.As(err, &refused) || len(refused.Errors) != 1 || !errors.Is(refused.Errors[1], atlasqueue.ErrMessageTooLarge) {
		t.Fatalf("got %v, %v", ids, err)
	}
	if depth, err := client.Queues.Depth(t.Context(), "q"); err != nil || depth.Ready != 2 {
		t.Errorf("got %+v, %v", depth, err)
	}
}

// The refusals until then were forgotten: who kept the ids took refused jobs for stored ones.
func TestABatchThatBreaksOffTellsWhatWasRefusedUntilThen(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address))
	ids, err := client.EnqueueBatch(t.Context(), []atlasqueue.NewJob{
		{Queue: "q", Kind: "k"}, {Queue: "q", Kind: "not a name"}, {Queue: "q", Kind: "\xff", Payload: make([]byte, 3<<20)},
	})
	expect(t, err, atlasqueue.ErrMalformedMessage)
	if len(ids) != 2 || ids[0] == "" || ids[1] != "" || !strings.Contains(err.Error(), "1 of 2 jobs were refused") {
		t.Errorf("got %v, %v", ids, err)
	}
	if refused := (*atlasqueue.EnqueueBatchError)(nil); errors.As(err, &refused) {
		t.Errorf("%v says that all other jobs are stored", err)
	}
}

// It was repeated for 30 s, and then nobody had answered.
func TestWhatIsNotUTF8IsRefusedAtOnce(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address), atlasqueue.WithRetryFor(time.Hour))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := client.Enqueue(ctx, atlasqueue.NewJob{Queue: "q", Kind: "k", Headers: map[string]string{"name": "\xff"}})
	expect(t, err, atlasqueue.ErrMalformedMessage)
	if !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("%v does not say what is wrong", err)
	}
	_, err = client.Wait(ctx, "\xff")
	expect(t, err, atlasqueue.ErrMalformedMessage)
}

// It was said to be unavailable: who repeats what nobody answered repeated what the caller had given up.
func TestACallThatItsCallerEndsIsNotUnavailable(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address))
	mine := errors.New("mine")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(mine)
	_, err := client.Cluster(ctx)
	expect(t, err, context.Canceled)
	expect(t, err, mine)
	if errors.Is(err, atlasqueue.ErrUnavailable) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

func TestANumberThatIsNoPriorityDoesNotBecomeOne(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address))
	id, err := client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "q", Kind: "k", Priority: 1<<32 + 1})
	if err != nil {
		t.Fatal(err)
	}
	// The fake takes any number; the server refuses this one.
	if job, err := client.Get(t.Context(), id); err != nil || job.Priority != math.MaxInt32 {
		t.Errorf("priority %d, %v", job.Priority, err)
	}
}

// A kind beside ids was left away, so that a purge took dead letters of other kinds.
func TestDeadLettersAreChosenByIDsOrByTheRest(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address))
	if _, err := client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "q", Kind: "k"}); err != nil {
		t.Fatal(err)
	}
	for _, filter := range []atlasqueue.DeadLetterFilter{
		{JobIDs: []string{atlasqueue.NewJobID()}, Kind: "k"}, {JobIDs: []string{}}, {JobIDs: []string{}, Kind: "k"},
	} {
		_, err := client.DeadLetters.Purge(t.Context(), "q", filter, false)
		expect(t, err, atlasqueue.ErrInvalidField)
		_, err = client.DeadLetters.Redrive(t.Context(), "q", filter, true)
		expect(t, err, atlasqueue.ErrInvalidField)
	}
}

func TestAClientChecksWhatItIsGiven(t *testing.T) {
	for _, option := range []atlasqueue.Option{atlasqueue.WithTimeout(0), atlasqueue.WithRetryFor(-1)} {
		if _, err := atlasqueue.NewClient(option); err == nil {
			t.Error("taken")
		}
	}
}

// secured is a way to a fake server through TLS, and a config that trusts it.
func secured(t *testing.T, server *atlasqueuetest.Server) (address string, config *tls.Config) {
	t.Helper()
	certified := httptest.NewTLSServer(nil)
	t.Cleanup(certified.Close)
	listener, err := tls.Listen("tcp", "127.0.0.1:0",
		&tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			outer, err := listener.Accept()
			if err != nil {
				return
			}
			inner, err := net.Dial("tcp", server.Address)
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(inner, outer); _ = inner.Close() }()
			go func() { _, _ = io.Copy(outer, inner); _ = outer.Close() }()
		}
	}()
	trusted := x509.NewCertPool()
	trusted.AddCert(certified.Certificate())
	return listener.Addr().String(), &tls.Config{RootCAs: trusted}
}

func TestClientAndWorkerOverTLS(t *testing.T) {
	address, config := secured(t, atlasqueuetest.NewServer(t))
	app := worker.NewApp()
	app.Handle("k", "q", func(context.Context, *worker.Job) ([]byte, error) { return []byte("safely"), nil })
	w, err := worker.New(app, worker.WithServers(address), worker.WithTLS(config), worker.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context()) }()
	client := newClient(t, atlasqueue.WithServers(address), atlasqueue.WithTLS(config))
	id, err := client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "q", Kind: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if job, err := client.Wait(t.Context(), id); err != nil || string(job.Result) != "safely" {
		t.Errorf("got %s, %v", job.Result, err)
	}
	w.Stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	distrustful := newClient(t, atlasqueue.WithServers(address), atlasqueue.WithTLS(&tls.Config{}), atlasqueue.WithRetryFor(0))
	_, err = distrustful.Cluster(t.Context())
	expect(t, err, atlasqueue.ErrUnavailable)
	if !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v does not say what is wrong", err)
	}
}

// A nil config, which elsewhere in Go is that of the defaults, meant plain text.
func TestTLSWithoutAConfigIsTLS(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address), atlasqueue.WithTLS(nil), atlasqueue.WithRetryFor(0))
	_, err := client.Cluster(t.Context())
	expect(t, err, atlasqueue.ErrUnavailable)
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address))
	id, err := client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "q", Kind: "k"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = client.Wait(ctx, id)
	expect(t, err, atlasqueue.ErrDeadlineExceeded)
	expect(t, err, context.DeadlineExceeded)
}

// The server's clock may find the caller's deadline passed a moment before the caller's own does; the wait had ended
// with the server's word alone then, now and again on a busy machine.
func TestAWaitEndsWithItsContextThoughTheServerSaysSoFirst(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	early := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption) (grpc.ClientStream, error) {
		return nil, status.Error(codes.DeadlineExceeded, "the server's word")
	}
	client := newClient(t, atlasqueue.WithServers(server.Address), atlasqueue.WithDialOptions(grpc.WithStreamInterceptor(early)))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client.Wait(ctx, atlasqueue.NewJobID())
	expect(t, err, context.DeadlineExceeded)
}

func TestAddressesAreChecked(t *testing.T) {
	for _, address := range []string{"", "nowhere", "host:0", ":7420", "host:port"} {
		if _, err := atlasqueue.NewClient(atlasqueue.WithServers(address)); err == nil {
			t.Errorf("%q was taken", address)
		}
	}
}

func TestAHookSeesIDsAndGivesHeaders(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	var ids []string
	var outcomes []error
	hook := func(ctx context.Context, jobs []*atlasqueue.NewJob) (context.Context, func(error)) {
		for _, job := range jobs {
			ids = append(ids, job.JobID)
			job.Headers = map[string]string{"origin": "hook"}
		}
		return ctx, func(err error) { outcomes = append(outcomes, err) }
	}
	client := newClient(t, atlasqueue.WithServers(server.Address), atlasqueue.WithEnqueueHook(hook))
	id, err := client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "q", Kind: "k"})
	if err != nil {
		t.Fatal(err)
	}
	_, refused := client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "q", Kind: "no name"})
	job, err := client.Get(t.Context(), id)
	if err != nil || ids[0] != id || job.Headers["origin"] != "hook" {
		t.Errorf("got %v, %v; the hook saw %v", job.Headers, err, ids)
	}
	if len(outcomes) != 2 || outcomes[0] != nil || !errors.Is(outcomes[1], refused) {
		t.Errorf("the hook was told %v", outcomes)
	}
}

func TestCancelManyTakesWhatFitsAndInADryRunNothing(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address))
	ctx := t.Context()
	later := time.Now().Add(time.Hour)
	ids, err := client.EnqueueBatch(ctx, []atlasqueue.NewJob{
		{Queue: "q", Kind: "a"}, {Queue: "q", Kind: "b"}, {Queue: "q", Kind: "a", RunAt: later},
	})
	if err != nil {
		t.Fatal(err)
	}
	cancelled := func(filter atlasqueue.JobFilter, dryRun bool, wanted ...string) {
		t.Helper()
		done, err := client.CancelMany(ctx, "q", filter, dryRun)
		if err != nil || !slices.Equal(done.Cancelled, wanted) || len(done.Requested) != 0 {
			t.Errorf("got %+v, %v instead of %v", done, err, wanted)
		}
	}
	cancelled(atlasqueue.JobFilter{Kind: "a"}, true, ids[0], ids[2])
	cancelled(atlasqueue.JobFilter{CreatedBefore: later.Add(-2 * time.Hour)}, false)
	cancelled(atlasqueue.JobFilter{CreatedAfter: later}, false)
	cancelled(atlasqueue.JobFilter{State: atlasqueue.Scheduled}, false, ids[2])
	cancelled(atlasqueue.JobFilter{Kind: "a"}, false, ids[0])
	cancelled(atlasqueue.JobFilter{}, false, ids[1])
	cancelled(atlasqueue.JobFilter{}, false)
	_, err = client.CancelMany(ctx, "q", atlasqueue.JobFilter{State: atlasqueue.Dead}, false)
	expect(t, err, atlasqueue.ErrInvalidField)
	_, err = client.CancelMany(ctx, "nowhere", atlasqueue.JobFilter{}, false)
	expect(t, err, atlasqueue.ErrQueueNotFound)
}

func TestCancelManyGoesPageByPageAndKeepsWhatIsDoneBesideAnError(t *testing.T) {
	answers := map[string]*pb.CancelJobsResponse{
		"":  {CancelledJobIds: []string{"1"}, NextPageToken: "2"},
		"2": {CancelledJobIds: []string{"2"}, RequestedJobIds: []string{"3"}, NextPageToken: "3"},
	}
	server := grpc.WithUnaryInterceptor(func(
		_ context.Context, _ string, request, reply any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption,
	) error {
		answer := answers[request.(*pb.CancelJobsRequest).GetPageToken()]
		if answer == nil {
			return status.Error(codes.Internal, "broken")
		}
		proto.Merge(reply.(proto.Message), answer)
		return nil
	})
	client := newClient(t, atlasqueue.WithDialOptions(server), atlasqueue.WithRetryFor(0))
	for _, broken := range []bool{true, false} {
		done, err := client.CancelMany(t.Context(), "q", atlasqueue.JobFilter{}, false)
		if (err != nil) != broken || !slices.Equal(done.Cancelled, []string{"1", "2"}) || !slices.Equal(done.Requested, []string{"3"}) {
			t.Errorf("got %+v, %v", done, err)
		}
		answers["3"] = &pb.CancelJobsResponse{}
	}
}
