package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/internal/jobid"
)

// uuid of the job under a fence.
func uuid(fence int64) string { return fmt.Sprintf("0199a3f0-7c1e-7b42-9d05-%012x", fence) }

// uniform are leases of a sort under these fences, each with its fence as payload.
func uniform(shared *pb.LeasedJob, fences ...int64) *pb.UniformLeases {
	made := &pb.UniformLeases{Shared: shared, Fences: fences}
	for _, fence := range fences {
		id := jobid.Parse(uuid(fence))
		made.JobIds = append(made.JobIds, id[:]...)
		made.Payloads = append(made.Payloads, fmt.Append(nil, fence))
	}
	return made
}

// received is what a message is to who receives it: some fields that are empty are not there any more.
func received[M proto.Message](t *testing.T, sent M) M {
	t.Helper()
	encoded, err := proto.Marshal(sent)
	got := sent.ProtoReflect().New().Interface()
	if err = errors.Join(err, proto.Unmarshal(encoded, got)); err != nil {
		t.Fatal(err)
	}
	return got.(M)
}

func TestAJobOfColumnsIsAsOneThatCameAlone(t *testing.T) {
	for _, shared := range []*pb.LeasedJob{
		{Queue: "q", Kind: "k"},
		{
			Queue: "q", Kind: "k", Headers: map[string]string{"a": "b"}, Priority: 2, Attempt: 3, Crashes: 4, Deliveries: 5,
			MaxAttempts: 6, Checkpoint: []byte("page 7"), DeadlineTimeLeft: durationpb.New(time.Hour),
		},
	} {
		columns := uniform(shared, 5, 3)
		columns.Payloads[1] = nil
		together, whole := jobsOf(t.Context(), received(t, &pb.LeasedJobs{Uniform: []*pb.UniformLeases{columns}}))
		if len(together) != 2 || !whole {
			t.Fatalf("got %d jobs; all of them: %t", len(together), whole)
		}
		for i, payload := range [][]byte{[]byte("5"), nil} {
			one := proto.CloneOf(shared)
			one.JobId, one.Fence, one.Payload = uuid(columns.GetFences()[i]), columns.GetFences()[i], payload
			alone := newJob(t.Context(), received(t, one))
			given, want := reflect.ValueOf(together[i]).Elem(), reflect.ValueOf(alone).Elem()
			for field := range want.NumField() {
				if is := want.Type().Field(field); is.IsExported() && !reflect.DeepEqual(given.Field(field).Interface(), want.Field(field).Interface()) {
					t.Errorf("%s is %#v instead of %#v", is.Name, given.Field(field), want.Field(field))
				}
			}
			left, has := together[i].TimeLeft()
			if wantLeft, wantHas := alone.TimeLeft(); has != wantHas || (wantLeft-left).Abs() > time.Minute || together[i].ctx.Err() != nil {
				t.Errorf("%s are left instead of %s", left, wantLeft)
			}
		}
	}
}

func TestWhatAHandlerDoesToItsJobNoOtherSees(t *testing.T) {
	shared := &pb.LeasedJob{Queue: "q", Kind: "k", Headers: map[string]string{"a": "b"}, Checkpoint: []byte("page 7")}
	jobs, _ := jobsOf(t.Context(), &pb.LeasedJobs{Uniform: []*pb.UniformLeases{uniform(shared, 1, 2, 3)}})
	jobs[0].Headers["a"], jobs[1].Headers["c"] = "mine", "mine"
	jobs[0].Checkpoint[0] = 'P'
	jobs[0].cancel(ErrCancelRequested)
	if other := jobs[2]; !maps.Equal(other.Headers, map[string]string{"a": "b"}) || string(other.Checkpoint) != "page 7" || other.ctx.Err() != nil {
		t.Errorf("it sees %v, %s, %v", other.Headers, other.Checkpoint, other.ctx.Err())
	}
}

func TestJobsOfAllFormsAreHeldBeforeTheyRun(t *testing.T) {
	s := streaming(t, 1, nil)
	var ran []int64
	s.onJobs = func(jobs []*Job) {
		for _, job := range jobs {
			if s.held.get(job.Fence) != job {
				t.Errorf("%d is not held", job.Fence)
			}
			ran = append(ran, job.Fence)
		}
	}
	shared := &pb.LeasedJob{Queue: "q", Kind: "k"}
	s.handle(&pb.LeaseResponse{Event: &pb.LeaseResponse_LeasedJobs{LeasedJobs: &pb.LeasedJobs{
		Jobs: []*pb.LeasedJob{{Queue: "q", Kind: "k", Fence: 4}}, Uniform: []*pb.UniformLeases{uniform(shared, 9, 1), uniform(shared, 2)},
	}}})
	if !slices.Equal(ran, []int64{4, 9, 1, 2}) || s.held.highest() != 9 {
		t.Errorf("ran %v; the highest is %d", ran, s.held.highest())
	}
	s.handle(&pb.LeaseResponse{Event: &pb.LeaseResponse_CancelRequested{CancelRequested: &pb.CancelRequested{Jobs: []*pb.JobLease{{Fence: 1}}}}})
	if !errors.Is(context.Cause(s.held.get(1).ctx), ErrCancelRequested) || s.held.get(2).ctx.Err() != nil {
		t.Error("a cancel did not reach its job alone")
	}
}

// A panic would end the process, and with it every other job.
func TestColumnsThatDifferInLengthTakeNoOthersWithThem(t *testing.T) {
	for at, broken := range []func(*pb.UniformLeases){
		func(u *pb.UniformLeases) { u.JobIds = u.GetJobIds()[1:] },
		func(u *pb.UniformLeases) { u.Fences = u.GetFences()[1:] },
		func(u *pb.UniformLeases) { u.Payloads = u.GetPayloads()[1:] },
		func(u *pb.UniformLeases) { u.JobIds = append(u.GetJobIds(), u.GetJobIds()...) },
	} {
		shared := &pb.LeasedJob{Queue: "q", Kind: "k"}
		bad := uniform(shared, 1, 2)
		broken(bad)
		jobs, whole := jobsOf(t.Context(), &pb.LeasedJobs{Uniform: []*pb.UniformLeases{bad, uniform(shared, 3)}})
		if len(jobs) != 1 || jobs[0].Fence != 3 || whole {
			t.Errorf("%d: got %d jobs; all of them: %t", at, len(jobs), whole)
		}
	}
}

func TestAWorkerAsksForColumnsAndReportsInThem(t *testing.T) {
	server := oneJob(make(chan *pb.HeartbeatRequest, 100))
	server.lease = func(request *pb.LeaseRequest, stream leases) error {
		if !request.GetUniform() {
			t.Error("the worker does not ask for columns")
		}
		jobs := &pb.LeasedJobs{Uniform: []*pb.UniformLeases{uniform(&pb.LeasedJob{Queue: "q", Kind: "k"}, 5, 6)}}
		err := errors.Join(opens(stream, 1, time.Hour), stream.Send(&pb.LeaseResponse{Event: &pb.LeaseResponse_LeasedJobs{LeasedJobs: jobs}}))
		<-stream.Context().Done()
		return err
	}
	reported := make(chan int64, 2)
	server.report = func(request *pb.ReportRequest) (*pb.ReportResponse, error) {
		for _, column := range request.GetCompleted() {
			for _, fence := range column.GetFences() {
				reported <- fence
			}
		}
		return applied(request), nil
	}
	w, ended := started(t, t.Context(), server, func(context.Context, *Job) ([]byte, error) { return nil, nil })
	if got := []int64{<-reported, <-reported}; !slices.Contains(got, 5) || !slices.Contains(got, 6) {
		t.Errorf("reported %v", got)
	}
	if w.Stop(); <-ended != nil {
		t.Error("it did not drain")
	}
}
