package atlasqueuetest_test

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	"github.com/atlasqueue/atlasqueue/clients/go/atlasqueuetest"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// workers gives the stubs on a server.
func workers(t *testing.T, server *atlasqueuetest.Server) pb.WorkerServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(server.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pb.NewWorkerServiceClient(conn)
}

// The stream ended without a word, each other time.
func TestStreamsThatAreClosedSayGoAway(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	stubs := workers(t, server)
	for range 20 {
		stream, err := stubs.Lease(t.Context(), &pb.LeaseRequest{Queues: []string{"q"}, Slots: 1, Worker: "w"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		server.CloseStreams()
		if event, err := stream.Recv(); event.GetGoAway() == nil {
			t.Fatalf("got %v, %v", event, err)
		}
	}
}

// leased gives a job as a stream of its own brings it.
func leased(t *testing.T, stubs pb.WorkerServiceClient) *pb.LeasedJob {
	t.Helper()
	stream, err := stubs.Lease(t.Context(), &pb.LeaseRequest{Queues: []string{"q"}, Slots: 1, Worker: "w"})
	for err == nil {
		var event *pb.LeaseResponse
		if event, err = stream.Recv(); event.GetLeasedJobs() != nil {
			return event.GetLeasedJobs().GetJobs()[0]
		}
	}
	t.Fatal(err)
	return nil
}

// enqueued gives a client and the id of a job that it has enqueued.
func enqueued(t *testing.T, server *atlasqueuetest.Server) (*atlasqueue.Client, string) {
	t.Helper()
	client, err := atlasqueue.NewClient(atlasqueue.WithServers(server.Address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	id, err := client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "q", Kind: "k"})
	if err != nil {
		t.Fatal(err)
	}
	return client, id
}

// The fake called the report of a lease that was lost ALREADY_APPLIED, and never made a dead letter of a crash loop.
func TestALostLeaseIsStaleAndTheThirdIsTheLast(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	stubs := workers(t, server)
	client, id := enqueued(t, server)
	for range 3 {
		job := leased(t, stubs)
		server.ExpireSessions()
		outcome := &pb.JobOutcome{Queue: "q", JobId: id, Fence: job.GetFence(), Outcome: &pb.JobOutcome_Complete{Complete: &pb.Complete{}}}
		answer, err := stubs.Report(t.Context(), &pb.ReportRequest{Outcomes: []*pb.JobOutcome{outcome}})
		if err != nil || answer.GetResults()[0].GetStatus() != pb.ReportStatus_REPORT_STATUS_STALE {
			t.Fatalf("got %v, %v", answer, err)
		}
	}
	if job, err := client.Get(t.Context(), id); err != nil || job.DeadLetterReason != atlasqueue.CrashLoop || len(job.Failures) != 3 {
		t.Errorf("got %+v, %v", job, err)
	}
}

// It was leased once more, to a worker that was gone, and nobody gave it back.
func TestAWorkerThatDrainsIsLeasedNothingMore(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	stubs := workers(t, server)
	client, id := enqueued(t, server)
	leased(t, stubs)
	if _, err := stubs.Heartbeat(t.Context(), &pb.HeartbeatRequest{SessionId: 1, Epoch: 1, LastFence: math.MaxInt64}); err != nil {
		t.Fatal(err)
	}
	if job, err := client.Get(t.Context(), id); err != nil || job.State != atlasqueue.Ready || job.Deliveries != 1 {
		t.Errorf("got %+v, %v", job, err)
	}
}

// uniformed are uniform jobs of these ids, each with its number as payload.
func uniformed(shared *pb.NewJob, ids ...string) *pb.UniformJobs {
	group := &pb.UniformJobs{Shared: shared}
	for i, id := range ids {
		raw, _ := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
		group.JobIds = append(group.JobIds, raw...)
		group.Payloads = append(group.Payloads, fmt.Append(nil, i))
	}
	return group
}

// producer gives the stubs on a server.
func producer(t *testing.T, server *atlasqueuetest.Server) pb.JobServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(server.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pb.NewJobServiceClient(conn)
}

func fieldOf(refusal *spb.Status) string {
	for _, detail := range status.FromProto(refusal).Details() {
		if broken, ok := detail.(*errdetails.BadRequest); ok {
			return broken.GetFieldViolations()[0].GetField()
		}
	}
	return refusal.GetMessage()
}

func TestUniformJobsAreRefusedTogetherForWhatTheyShare(t *testing.T) {
	stubs := producer(t, atlasqueuetest.NewServer(t))
	id := atlasqueue.NewJobID()
	short := uniformed(&pb.NewJob{Queue: "q", Kind: "k"}, id, id)
	short.JobIds = short.JobIds[1:]
	answer, err := stubs.EnqueueBatch(t.Context(), &pb.EnqueueBatchRequest{Uniform: []*pb.UniformJobs{
		uniformed(&pb.NewJob{Queue: "not a name", Kind: "k"}, id), uniformed(&pb.NewJob{Queue: "q", Kind: "not a name"}, id),
		uniformed(&pb.NewJob{Queue: "q", Kind: "k", JobId: id}, id), uniformed(&pb.NewJob{Queue: "q", Kind: "k", Payload: []byte("p")}, id),
		short,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, field := range []string{"shared.queue", "shared.kind", "shared.job_id", "shared.payload", "job_ids"} {
		result := answer.GetUniform()[i]
		if got, want := fieldOf(result.GetError()), fmt.Sprintf("uniform[%d].%s", i, field); got != want || len(result.GetRefused()) != 0 {
			t.Errorf("got %v instead of %s", result, want)
		}
	}
	if got, err := stubs.ListJobs(t.Context(), &pb.ListJobsRequest{Queue: "q"}); err == nil {
		t.Errorf("stored %v", got)
	}
}

func TestUniformJobsAreRefusedOneByOneForTheirIDs(t *testing.T) {
	stubs := producer(t, atlasqueuetest.NewServer(t))
	const nilID = "00000000-0000-0000-0000-000000000000"
	first, second, third := atlasqueue.NewJobID(), atlasqueue.NewJobID(), atlasqueue.NewJobID()
	shared := &pb.NewJob{Queue: "q", Kind: "k", Priority: new(int32(2)), Headers: map[string]string{"a": "b"}}
	answer, err := stubs.EnqueueBatch(t.Context(), &pb.EnqueueBatchRequest{
		Jobs:    []*pb.NewJob{{Queue: "q", Kind: "other", JobId: strings.ToUpper(second)}, {Queue: "q", Kind: "k", JobId: nilID}},
		Uniform: []*pb.UniformJobs{uniformed(shared, third, second, first, nilID)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if results := answer.GetResults(); results[0].GetError() != nil || results[0].GetJobId() != second || fieldOf(results[1].GetError()) != "jobs[1].job_id" {
		t.Errorf("got %v", results)
	}
	result := answer.GetUniform()[0]
	if refused := result.GetRefused(); result.GetError() != nil || len(refused) != 2 || refused[0].GetIndex() != 1 || refused[1].GetIndex() != 3 ||
		codes.Code(refused[0].GetError().GetCode()) != codes.AlreadyExists || fieldOf(refused[1].GetError()) != "uniform[0].job_ids[3]" {
		t.Errorf("got %v", result)
	}
	for id, payload := range map[string]string{first: "2", third: "0"} {
		got, err := stubs.GetJob(t.Context(), &pb.GetJobRequest{JobId: id})
		if job := got.GetJob(); err != nil || string(job.GetPayload()) != payload || job.GetPriority() != 2 || job.GetHeaders()["a"] != "b" || job.GetKind() != "k" {
			t.Errorf("got %v, %v", job, err)
		}
	}
}

// As the server does it: in whichever form and order they come.
func TestJobsOfOneCallRunInTheOrderOfTheirIDs(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	var ids []string
	for range 6 {
		ids = append(ids, atlasqueue.NewJobID())
	}
	_, err := producer(t, server).EnqueueBatch(t.Context(), &pb.EnqueueBatchRequest{
		Jobs:    []*pb.NewJob{{Queue: "q", Kind: "k", JobId: ids[4]}, {Queue: "q", Kind: "k", JobId: ids[1]}},
		Uniform: []*pb.UniformJobs{uniformed(&pb.NewJob{Queue: "q", Kind: "k"}, ids[5], ids[0]), uniformed(&pb.NewJob{Queue: "q", Kind: "l"}, ids[3], ids[2])},
	})
	if err != nil {
		t.Fatal(err)
	}
	stubs := workers(t, server)
	for _, id := range ids {
		if job := leased(t, stubs); job.GetJobId() != id {
			t.Errorf("%s ran instead of %s", job.GetJobId(), id)
		}
	}
}
