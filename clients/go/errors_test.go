package atlasqueue_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

func answer(t *testing.T, code codes.Code, reason, domain string) error {
	t.Helper()
	made, err := status.New(code, "a test wants it so").WithDetails(
		&errdetails.ErrorInfo{Reason: reason, Domain: domain},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "job.kind", Description: "must be a name"}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	return atlasqueue.FromRPC(made.Err())
}

// Reasons that only HTTP gives; no call of the SDK can meet them.
var restOnly = []string{"PATH_NOT_FOUND", "METHOD_NOT_ALLOWED", "BODY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE", "FOREIGN_ORIGIN"}

func TestEveryReasonOfTheContractHasAnErrorOfItsOwn(t *testing.T) {
	kinds := map[string]error{
		"INVALID_FIELD": atlasqueue.ErrInvalidField, "MALFORMED_MESSAGE": atlasqueue.ErrMalformedMessage,
		"JOB_NOT_FOUND": atlasqueue.ErrJobNotFound, "QUEUE_NOT_FOUND": atlasqueue.ErrQueueNotFound,
		"JOB_ID_CONFLICT": atlasqueue.ErrJobIDConflict, "JOB_ID_AMBIGUOUS": atlasqueue.ErrJobIDAmbiguous,
		"JOB_FINAL": atlasqueue.ErrJobFinal, "JOB_DEAD": atlasqueue.ErrJobDead, "TOO_MANY_QUEUES": atlasqueue.ErrTooManyQueues,
		"SESSION_LOST": atlasqueue.ErrSessionLost, "SESSION_SUPERSEDED": atlasqueue.ErrSessionSuperseded,
		"DATABASE_UNAVAILABLE": atlasqueue.ErrDatabaseUnavailable, "SHUTTING_DOWN": atlasqueue.ErrShuttingDown,
		"OVERLOADED": atlasqueue.ErrOverloaded, "INTERNAL": atlasqueue.ErrInternal,
	}
	for number, name := range pb.ErrorReason_name {
		reason := strings.TrimPrefix(name, "ERROR_REASON_")
		if number == 0 || slices.Contains(restOnly, reason) {
			continue
		}
		err := answer(t, codes.FailedPrecondition, reason, atlasqueue.Domain)
		if kinds[reason] == nil {
			t.Errorf("%s has no error", reason)
		}
		for other, kind := range kinds {
			if errors.Is(err, kind) != (other == reason) {
				t.Errorf("%s: is %v: %t", reason, kind, other != reason)
			}
		}
		var failure *atlasqueue.Error
		if !errors.As(err, &failure) || failure.Reason != reason || !slices.Equal(failure.Violations, []atlasqueue.Violation{{Field: "job.kind", Bound: "must be a name"}}) {
			t.Errorf("%s: got %+v", reason, failure)
		}
	}
}

func TestAReasonOfOthersOrOfANewerServerIsToldByItsCode(t *testing.T) {
	for _, err := range []error{
		answer(t, codes.Unavailable, "NEW", atlasqueue.Domain), answer(t, codes.Unavailable, "INTERNAL", "another.example"),
	} {
		if !errors.Is(err, atlasqueue.ErrUnavailable) || errors.Is(err, atlasqueue.ErrInternal) {
			t.Errorf("got %v", err)
		}
	}
}

func TestTheErrorOfABatchShowsTheFirstRefusal(t *testing.T) {
	refused := &atlasqueue.EnqueueBatchError{Errors: map[int]error{}, JobIDs: make([]string, 50)}
	for position := 7; position < 40; position++ {
		refused.Errors[position] = errors.New("no")
	}
	if text := refused.Error(); !strings.Contains(text, "33 of 50 jobs were refused; the first is number 7: no") {
		t.Error(text)
	}
}
