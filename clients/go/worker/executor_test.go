package worker

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// It was reported as released: a failure spent no attempt and was not in the history, and a snooze ran at once.
func TestADrainThatCannotTellACheckpointReportsHowTheHandlerEnded(t *testing.T) {
	job := newJob(t.Context(), &pb.LeasedJob{Queue: "q", JobId: "id", Fence: 1, Kind: "k"})
	reported := make(chan *pb.JobOutcome, 2)
	telling, told := make(chan struct{}), make(chan struct{})
	defer close(told)
	e := &executor{
		handlers: map[string]Handler{"k": func(_ context.Context, job *Job) ([]byte, error) {
			return nil, errors.Join(job.SaveCheckpoint([]byte("page 7")), errors.New("the disk is full"))
		}},
		held: newHeld(), report: func(outcome *pb.JobOutcome) { reported <- outcome }, log: slog.New(slog.DiscardHandler),
		tell: func(context.Context) { close(telling); <-told }, idle: make(chan struct{}, 1),
	}
	e.held.add([]*Job{job})
	e.start([]*Job{job})
	<-telling
	over, cancel := context.WithCancel(t.Context())
	cancel()
	e.drain(over)
	if outcome := <-reported; outcome.GetFail().GetError().GetMessage() != "the disk is full" {
		t.Errorf("reported %v", outcome)
	}
}
