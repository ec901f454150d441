package atlasqueuetest_test

import (
	"math"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

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
