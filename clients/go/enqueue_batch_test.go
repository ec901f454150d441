package atlasqueue_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	"github.com/atlasqueue/atlasqueue/clients/go/atlasqueuetest"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// batches are the messages that a client has sent; a server of before the uniform form sees only what it knows of them.
type batches struct {
	older bool
	sent  []*pb.EnqueueBatchRequest
	// Instead of all answers but the first so many.
	failure error
	answers int
}

func (b *batches) invoke(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if asked, ok := request.(*pb.EnqueueBatchRequest); ok {
		if b.sent = append(b.sent, asked); b.failure != nil && len(b.sent) > b.answers {
			return b.failure
		}
		if b.older {
			seen := proto.CloneOf(asked)
			seen.Uniform = nil
			if len(seen.GetJobs()) == 0 {
				return invalidField("jobs")
			}
			request = seen
		}
	}
	return invoke(ctx, method, request, reply, conn, options...)
}

func invalidField(field string) error {
	answer, err := status.New(codes.InvalidArgument, field).WithDetails(
		&errdetails.ErrorInfo{Reason: "INVALID_FIELD", Domain: "atlasqueue"},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field}}},
	)
	return errors.Join(err, answer.Err())
}

// forms tells of each message how many jobs went one by one and how many were uniform.
func (b *batches) forms() [][2]int {
	var counted [][2]int
	for _, each := range b.sent {
		uniform := 0
		for _, group := range each.GetUniform() {
			uniform += len(group.GetPayloads())
		}
		counted = append(counted, [2]int{len(each.GetJobs()), uniform})
	}
	return counted
}

func (b *batches) client(t *testing.T, server *atlasqueuetest.Server) *atlasqueue.Client {
	t.Helper()
	return newClient(t, atlasqueue.WithServers(server.Address), atlasqueue.WithDialOptions(grpc.WithUnaryInterceptor(b.invoke)))
}

// alike are jobs that differ in id alone.
func alike(count int, kind string) []atlasqueue.NewJob {
	return slices.Repeat([]atlasqueue.NewJob{{Queue: "q", Kind: kind, Payload: []byte("payload")}}, count)
}

// stored gives the ids in the queue.
func stored(t *testing.T, client *atlasqueue.Client) []string {
	t.Helper()
	var ids []string
	for job, err := range client.List(t.Context(), "q", atlasqueue.JobFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, job.JobID)
	}
	return ids
}

func TestRefusalsOfUniformJobsAreByPosition(t *testing.T) {
	sent := &batches{}
	client := sent.client(t, atlasqueuetest.NewServer(t))
	taken, err := client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "q", Kind: "other"})
	if err != nil {
		t.Fatal(err)
	}
	// In turn: one that is sound and one that is not.
	var jobs []atlasqueue.NewJob
	for i := range 40 {
		jobs = append(jobs, alike(1, "k")[0], alike(1, "not a name")[0])
		jobs[2*i].Priority = 1
	}
	jobs[10].JobID, jobs[20].JobID, jobs[30].JobID = strings.ToUpper(taken), "00000000-0000-0000-0000-000000000000", "an id"
	ids, err := client.EnqueueBatch(t.Context(), jobs)
	var refused *atlasqueue.EnqueueBatchError
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	for i := range jobs {
		got := refused.Errors[i]
		switch {
		case i == 10:
			expect(t, got, atlasqueue.ErrJobIDConflict)
		case i%2 == 1 || i == 20 || i == 30:
			expect(t, got, atlasqueue.ErrInvalidField)
		case got != nil:
			t.Errorf("job %d: %v", i, got)
		}
	}
	if ids[10] != taken || ids[20] != jobs[20].JobID || ids[30] != "an id" || !slices.Equal(ids, refused.JobIDs) {
		t.Errorf("the ids are %v", ids)
	}
	var failure *atlasqueue.Error
	if !errors.As(refused.Errors[7], &failure) || failure.Violations[0].Field != "uniform[1].shared.kind" {
		t.Errorf("got %+v", failure)
	}
	if got := stored(t, client); len(got) != 1+40-3 {
		t.Errorf("%d jobs are stored", len(got))
	}
	if got := sent.forms(); !slices.Equal(got, [][2]int{{2, 78}}) {
		t.Errorf("sent %v", got)
	}
}

// The form in which jobs go has an order of its own.
func TestOfJobsWithOneIDTheFirstIsStored(t *testing.T) {
	for name, each := range map[string]struct {
		jobs          []atlasqueue.NewJob
		first, second int
	}{
		"the second would go one by one":   {slices.Concat(alike(40, "a"), alike(1, "b")), 30, 40},
		"the second is of an earlier kind": {slices.Concat(alike(1, "b"), alike(40, "a"), alike(40, "b")), 30, 60},
	} {
		client := newClient(t, atlasqueue.WithServers(atlasqueuetest.NewServer(t).Address))
		id := atlasqueue.NewJobID()
		each.jobs[each.first].JobID, each.jobs[each.second].JobID = id, strings.ToUpper(id)
		ids, err := client.EnqueueBatch(t.Context(), each.jobs)
		var refused *atlasqueue.EnqueueBatchError
		if !errors.As(err, &refused) || len(refused.Errors) != 1 || !errors.Is(refused.Errors[each.second], atlasqueue.ErrJobIDConflict) {
			t.Errorf("%s: got %v", name, err)
		}
		if ids[each.first] != id || ids[each.second] != id {
			t.Errorf("%s: %s became %s and %s", name, id, ids[each.first], ids[each.second])
		}
	}
}

func TestAnOlderServerIsSentTheSameJobsOneByOne(t *testing.T) {
	for name, each := range map[string]struct {
		jobs  []atlasqueue.NewJob
		forms [][2]int
	}{
		"uniform alone":        {alike(40, "k"), [][2]int{{0, 40}, {40, 0}}},
		"beside others":        {slices.Concat(alike(3, "a"), alike(40, "b"), alike(3, "a"), alike(50, "c")), [][2]int{{6, 90}, {90, 0}}},
		"in turn":              {slices.Repeat(slices.Concat(alike(1, "a"), alike(1, "b")), 40), [][2]int{{0, 80}, {80, 0}}},
		"in several messages":  {alike(4500, "k"), [][2]int{{0, 2000}, {2000, 0}, {2000, 0}, {500, 0}}},
		"with refusals":        {slices.Concat(alike(40, "not a name"), alike(2, "k")), [][2]int{{2, 40}, {40, 0}}},
		"no uniform jobs":      {alike(31, "k"), [][2]int{{31, 0}}},
		"no uniform jobs, one": {alike(1, "not a name"), [][2]int{{1, 0}}},
	} {
		sent := &batches{older: true}
		client := sent.client(t, atlasqueuetest.NewServer(t))
		ids, err := client.EnqueueBatch(t.Context(), each.jobs)
		refused := &atlasqueue.EnqueueBatchError{}
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("%s: %v", name, err)
		}
		var wanted []string
		for i, job := range each.jobs {
			if (refused.Errors[i] != nil) != (job.Kind == "not a name") {
				t.Errorf("%s: job %d: %v", name, i, refused.Errors[i])
			}
			if refused.Errors[i] == nil {
				wanted = append(wanted, ids[i])
			}
		}
		if len(wanted) > 0 && !slices.Equal(stored(t, client), wanted) {
			t.Errorf("%s: the jobs that are stored are others than those that are returned", name)
		}
		if got := sent.forms(); !slices.Equal(got, each.forms) {
			t.Errorf("%s: sent %v", name, got)
		}
		for _, message := range sent.sent {
			if !slices.IsSortedFunc(message.GetJobs(), func(a, b *pb.NewJob) int { return cmp.Compare(a.GetJobId(), b.GetJobId()) }) {
				t.Errorf("%s: the jobs have lost their order", name)
			}
		}
	}
}

// Jobs are settled by the message: what an older server has stored of it may be among those that are repeated.
func TestABatchThatBreaksOffOnAnOlderServerLeavesItsMessageOpen(t *testing.T) {
	sent := &batches{older: true, failure: status.Error(codes.ResourceExhausted, "too large"), answers: 1}
	client := sent.client(t, atlasqueuetest.NewServer(t))
	ids, err := client.EnqueueBatch(t.Context(), slices.Concat(alike(3, "a"), alike(40, "b")))
	if refused := (*atlasqueue.EnqueueBatchError)(nil); !errors.Is(err, atlasqueue.ErrMessageTooLarge) || errors.As(err, &refused) || len(ids) != 0 {
		t.Errorf("got %v, %v", ids, err)
	}
}

// It is for a server that has not seen any job.
func TestARefusalOfTheCallIsNoSignOfAnOlderServerWhenItSawJobs(t *testing.T) {
	sent := &batches{failure: invalidField("jobs")}
	client := sent.client(t, atlasqueuetest.NewServer(t))
	for _, jobs := range [][]atlasqueue.NewJob{alike(3, "k"), slices.Concat(alike(3, "a"), alike(40, "b"))} {
		sent.sent = nil
		ids, err := client.EnqueueBatch(t.Context(), jobs)
		expect(t, err, atlasqueue.ErrInvalidField)
		if len(ids) != 0 || len(sent.sent) != 1 {
			t.Errorf("got %v after %d messages", ids, len(sent.sent))
		}
	}
}

func TestUniformJobsWhoseAnswerIsLostAreStoredOnce(t *testing.T) {
	server := atlasqueuetest.NewServer(t)
	client := newClient(t, atlasqueue.WithServers(server.Address))
	server.LoseNextAnswer()
	jobs := alike(100, "k")
	for i := range jobs {
		jobs[i].Headers = map[string]string{"a": "b"}
	}
	ids, err := client.EnqueueBatch(t.Context(), jobs)
	if err != nil || !slices.Equal(stored(t, client), ids) {
		t.Errorf("got %v, %v", ids, err)
	}
	for _, id := range ids {
		if job, err := client.Get(t.Context(), id); err != nil || string(job.Payload) != "payload" || !maps.Equal(job.Headers, jobs[0].Headers) {
			t.Fatalf("got %+v, %v", job, err)
		}
	}
}

// Hooks are given the caller's jobs, and what they change is not the caller's.
func TestWhatAHookGivesIsSharedAndTheCallersJobsStay(t *testing.T) {
	sent := &batches{}
	server := atlasqueuetest.NewServer(t)
	var seen []string
	client := newClient(t, atlasqueue.WithServers(server.Address), atlasqueue.WithDialOptions(grpc.WithUnaryInterceptor(sent.invoke)),
		atlasqueue.WithEnqueueHook(func(ctx context.Context, jobs []*atlasqueue.NewJob) (context.Context, func(error)) {
			for _, job := range jobs {
				seen = append(seen, job.JobID)
				job.Headers = map[string]string{"origin": "hook"}
			}
			return ctx, func(error) {}
		}))
	jobs := alike(40, "k")
	ids, err := client.EnqueueBatch(t.Context(), jobs)
	if err != nil || !slices.Equal(ids, seen) || len(sent.sent[0].GetUniform()) != 1 {
		t.Errorf("got %v, %v; the hook saw %v", ids, err, seen)
	}
	if sent.sent[0].GetUniform()[0].GetShared().GetHeaders()["origin"] != "hook" || jobs[0].JobID != "" || jobs[0].Headers != nil {
		t.Errorf("sent %v of %+v", sent.sent[0], jobs[0])
	}
}
