package atlasqueue_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// paged is a server whose answers come in two parts, and which keeps what it was asked.
type paged struct {
	pb.UnimplementedQueueServiceServer
	pb.UnimplementedJobServiceServer
	calls    int
	dryRuns  []bool
	tokens   []string
	policies []*pb.UpdateQueuePolicyRequest
	// How the second part fails, if it does.
	broken error
}

func (s *paged) next(dryRun bool) (more bool) {
	s.calls++
	s.dryRuns = append(s.dryRuns, dryRun)
	return s.calls == 1
}

func (s *paged) page(token string) string {
	if s.tokens = append(s.tokens, token); token == "" {
		return "more"
	}
	return ""
}

func (s *paged) RedriveDeadLetters(_ context.Context, request *pb.RedriveDeadLettersRequest) (*pb.RedriveDeadLettersResponse, error) {
	return &pb.RedriveDeadLettersResponse{Redriven: 3, More: s.next(request.GetDryRun())}, nil
}

func (s *paged) PurgeDeadLetters(_ context.Context, request *pb.PurgeDeadLettersRequest) (*pb.PurgeDeadLettersResponse, error) {
	return &pb.PurgeDeadLettersResponse{Purged: 3, More: s.next(request.GetDryRun())}, nil
}

func (s *paged) CancelJobs(_ context.Context, request *pb.CancelJobsRequest) (*pb.CancelJobsResponse, error) {
	if s.next(request.GetDryRun()); s.calls > 1 && s.broken != nil {
		return nil, s.broken
	}
	token := s.page(request.GetPageToken())
	return &pb.CancelJobsResponse{CancelledJobIds: []string{"c" + token}, RequestedJobIds: []string{"r" + token}, NextPageToken: token}, nil
}

func (s *paged) ListQueues(_ context.Context, request *pb.ListQueuesRequest) (*pb.ListQueuesResponse, error) {
	token := s.page(request.GetPageToken())
	return &pb.ListQueuesResponse{Queues: []*pb.Queue{{Name: "q" + token}}, NextPageToken: token}, nil
}

func (s *paged) ListWorkers(_ context.Context, request *pb.ListWorkersRequest) (*pb.ListWorkersResponse, error) {
	token := s.page(request.GetPageToken())
	return &pb.ListWorkersResponse{Workers: []*pb.WorkerSession{{Worker: "w" + token}}, NextPageToken: token}, nil
}

func (s *paged) UpdateQueuePolicy(_ context.Context, request *pb.UpdateQueuePolicyRequest) (*pb.UpdateQueuePolicyResponse, error) {
	s.policies = append(s.policies, request)
	return &pb.UpdateQueuePolicyResponse{Queue: &pb.Queue{}}, nil
}

func operating(t *testing.T, server *paged) *atlasqueue.Client {
	t.Helper()
	address := listening(t, func(served *grpc.Server) {
		pb.RegisterQueueServiceServer(served, server)
		pb.RegisterJobServiceServer(served, server)
	})
	return newClient(t, atlasqueue.WithServers(address), atlasqueue.WithRetryFor(0))
}

func TestAFilterTakesAllThatFitAndADryRunOrAListOfNamesOneCall(t *testing.T) {
	for _, each := range []struct {
		filter atlasqueue.DeadLetterFilter
		dryRun bool
		moved  int
	}{
		{atlasqueue.DeadLetterFilter{Kind: "k"}, false, 6}, {atlasqueue.DeadLetterFilter{}, true, 3},
		{atlasqueue.DeadLetterFilter{JobIDs: []string{"a"}}, false, 3},
	} {
		for verb, call := range map[string]func(*atlasqueue.DeadLetters) (int, error){
			"redrive": func(d *atlasqueue.DeadLetters) (int, error) {
				return d.Redrive(t.Context(), "q", each.filter, each.dryRun)
			},
			"purge": func(d *atlasqueue.DeadLetters) (int, error) {
				return d.Purge(t.Context(), "q", each.filter, each.dryRun)
			},
		} {
			server := &paged{}
			moved, err := call(operating(t, server).DeadLetters)
			if err != nil || moved != each.moved || server.calls != each.moved/3 || slices.Contains(server.dryRuns, !each.dryRun) {
				t.Errorf("%s %+v: %d in %d calls, dry %v, %v", verb, each, moved, server.calls, server.dryRuns, err)
			}
		}
	}
}

func TestListingsGoOnToTheLastPageAndBeginAnew(t *testing.T) {
	server := &paged{}
	client := operating(t, server)
	listing := client.Queues.List(t.Context())
	for range 2 {
		var names []string
		for queue, err := range listing {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, queue.Name)
		}
		if !slices.Equal(names, []string{"qmore", "q"}) {
			t.Errorf("listed %v", names)
		}
	}
	if workers, err := client.Workers(t.Context()); err != nil || len(workers) != 2 || workers[1].Worker != "w" {
		t.Errorf("got %v, %v", workers, err)
	}
	if !slices.Equal(server.tokens, []string{"", "more", "", "more", "", "more"}) {
		t.Errorf("asked for %q", server.tokens)
	}
}

func TestACancelOfManyGoesOnAndTellsWhatIsDoneWhenItBreaksOff(t *testing.T) {
	for _, broken := range []error{nil, status.Error(codes.Unavailable, "a connection broke")} {
		server := &paged{broken: broken}
		done, err := operating(t, server).CancelMany(t.Context(), "q", atlasqueue.JobFilter{}, true)
		cancelled, requested := []string{"cmore", "c"}, []string{"rmore", "r"}
		if broken != nil {
			cancelled, requested = cancelled[:1], requested[:1]
		}
		if !slices.Equal(done.Cancelled, cancelled) || !slices.Equal(done.Requested, requested) ||
			errors.Is(err, atlasqueue.ErrUnavailable) != (broken != nil) || !slices.Equal(server.dryRuns, []bool{true, true}) {
			t.Errorf("got %+v, %v; dry %v", done, err, server.dryRuns)
		}
	}
}

func TestAPolicyIsSentWithTheFieldsThatAreNamed(t *testing.T) {
	server := &paged{}
	client := operating(t, server)
	for _, fields := range [][]string{nil, {"retry_policy"}} {
		if _, err := client.Queues.UpdatePolicy(t.Context(), "q", atlasqueue.QueuePolicy{}, fields...); err != nil {
			t.Fatal(err)
		}
		if sent := server.policies[len(server.policies)-1]; !slices.Equal(sent.GetUpdateMask().GetPaths(), fields) {
			t.Errorf("%v: sent %v", fields, sent)
		}
	}
}
