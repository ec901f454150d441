package atlasqueue_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// Each field has a value of its own here, so that none can stand for another.
func TestAJobComesOverWhole(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC) }
	retries := &pb.RetryPolicy{
		MaxAttempts: new(int32(7)), InitialBackoff: durationpb.New(2 * time.Second), Multiplier: new(3.0),
		MaxBackoff: durationpb.New(time.Minute),
	}
	server := &scripted{get: func(context.Context, int32) (*pb.GetJobResponse, error) {
		return &pb.GetJobResponse{Job: &pb.Job{
			Queue: "q", JobId: "an id", Kind: "k", State: pb.JobState_JOB_STATE_DEAD, Payload: []byte("payload"),
			Headers: map[string]string{"a": "b"}, Priority: 1, Attempt: 2, Crashes: 3, Deliveries: 4, Fence: 5,
			CreatedAt: timestamppb.New(at(0)), RunAt: timestamppb.New(at(1)), Deadline: durationpb.New(6 * time.Second),
			RetryPolicy: retries, FinishedAt: timestamppb.New(at(2)), DiedAt: timestamppb.New(at(3)),
			DeadLetterReason: pb.DeadLetterReason_DEAD_LETTER_REASON_CRASH_LOOP, LeasedAt: timestamppb.New(at(4)),
			SessionId: 8, CancelRequested: true, Result: []byte("result"), Checkpoint: []byte("checkpoint"),
			Progress: &pb.Progress{Percent: 9, Note: "note"},
			Failures: []*pb.Failure{{
				Fence: 10, Attempt: 11, Cause: pb.FailureCause_FAILURE_CAUSE_EXPIRED, FailedAt: timestamppb.New(at(5)),
				Error: &pb.JobError{Type: "type", Message: "message", Stack: "stack"},
			}},
		}}, nil
	}}
	client := newClient(t, atlasqueue.WithServers(serve(t, server)))
	got, err := client.Get(t.Context(), "an id")
	want := atlasqueue.Job{
		Queue: "q", JobID: "an id", Kind: "k", State: atlasqueue.Dead, Payload: []byte("payload"),
		Headers: map[string]string{"a": "b"}, Priority: 1, Attempt: 2, Crashes: 3, Deliveries: 4, Fence: 5,
		CreatedAt: at(0), RunAt: at(1), Deadline: 6 * time.Second,
		RetryPolicy: &atlasqueue.RetryPolicy{
			MaxAttempts: new(int32(7)), InitialBackoff: new(2 * time.Second), Multiplier: new(3.0), MaxBackoff: new(time.Minute),
		},
		FinishedAt: at(2), DiedAt: at(3), DeadLetterReason: atlasqueue.CrashLoop, LeasedAt: at(4), SessionID: 8,
		CancelRequested: true, Result: []byte("result"), Checkpoint: []byte("checkpoint"),
		Progress: &atlasqueue.Progress{Percent: 9, Note: "note"},
		Failures: []atlasqueue.Failure{{
			Fence: 10, Attempt: 11, Cause: atlasqueue.FailureCause(pb.FailureCause_FAILURE_CAUSE_EXPIRED), FailedAt: at(5),
			Type: "type", Message: "message", Stack: "stack",
		}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestANewJobIsSentWhole(t *testing.T) {
	server := &scripted{}
	client := newClient(t, atlasqueue.WithServers(serve(t, server)))
	job := atlasqueue.NewJob{
		Queue: "q", Kind: "k", Payload: []byte("payload"), JobID: "an id", Headers: map[string]string{"a": "b"}, Priority: 2,
		RunAt: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), Deadline: -time.Second,
		RetryPolicy: &atlasqueue.RetryPolicy{
			MaxAttempts: new(int32(7)), InitialBackoff: new(2 * time.Second), Multiplier: new(3.0), MaxBackoff: new(time.Minute),
		},
	}
	if _, err := client.Enqueue(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	sent, retries := server.stored, server.stored.GetRetryPolicy()
	if sent.GetQueue() != "q" || sent.GetKind() != "k" || string(sent.GetPayload()) != "payload" || sent.GetJobId() != "an id" ||
		sent.GetHeaders()["a"] != "b" || sent.GetPriority() != 2 || !sent.GetRunAt().AsTime().Equal(job.RunAt) ||
		// What is out of bounds is for the server to refuse, not to become no deadline.
		sent.GetDeadline().AsDuration() != -time.Second {
		t.Errorf("sent %v", sent)
	}
	if retries.GetMaxAttempts() != 7 || retries.GetInitialBackoff().AsDuration() != 2*time.Second || retries.GetMultiplier() != 3 ||
		retries.GetMaxBackoff().AsDuration() != time.Minute {
		t.Errorf("sent %v", retries)
	}
	if _, err := client.Enqueue(t.Context(), atlasqueue.NewJob{Queue: "q", Kind: "k"}); err != nil {
		t.Fatal(err)
	}
	if bare := server.stored; bare.GetJobId() == "" || bare.Priority != nil || bare.RunAt != nil || bare.Deadline != nil || bare.RetryPolicy != nil {
		t.Errorf("what is not set was sent as %v", bare)
	}
}
