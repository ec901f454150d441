package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

const (
	resultBytesMax       = 256 << 10
	errorTypeBytesMax    = 256
	errorMessageBytesMax = 4 << 10
	errorStackBytesMax   = 16 << 10
	delayMax             = 3650 * 24 * time.Hour
)

// Why a handler's context has ended.
var (
	// ErrCancelRequested: somebody cancelled the job.
	ErrCancelRequested = errors.New("cancel was requested")
	// ErrLeaseLost: the job is another worker's by now; whatever is reported will be refused.
	ErrLeaseLost = errors.New("the lease is lost")
	// ErrDraining: the worker stops, and the job goes back without spending an attempt.
	ErrDraining = errors.New("the worker drains")
)

// ending is what a handler returns to end otherwise than with a result or a plain failure.
type ending struct {
	verb  string
	cause error
	delay *time.Duration
}

func (e *ending) Error() string {
	if e.cause != nil {
		return e.cause.Error()
	}
	return e.verb
}

func (e *ending) Unwrap() error { return e.cause }

// Retry fails the attempt like any other error, but tries again after the given time instead of the policy's
// backoff: 0 to 10 years.
func Retry(cause error, after time.Duration) error { return delayed("retry", cause, after) }

// Snooze says not now: run again after the delay (0 to 10 years), without spending an attempt.
func Snooze(delay time.Duration) error { return delayed("snooze", nil, delay) }

// Reject says that the job can never succeed: a dead letter at once.
func Reject(cause error) error { return &ending{verb: "reject", cause: cause} }

// Release says not here: ready again at once, without spending an attempt.
func Release() error { return &ending{verb: "release"} }

// Cancel cancels the job, by its own handler.
func Cancel() error { return &ending{verb: "cancel"} }

func delayed(verb string, cause error, delay time.Duration) error {
	if delay < 0 || delay > delayMax {
		refused := fmt.Errorf("worker: %s: a delay must be 0 to 10 years, not %s", verb, delay)
		if cause == nil {
			return refused
		}
		return fmt.Errorf("%w (%v)", cause, refused)
	}
	return &ending{verb: verb, cause: cause, delay: &delay}
}

// bare is how jobs end that return nothing, as most do; nobody changes it.
var bare = &pb.JobOutcome_Complete{Complete: &pb.Complete{}}

// complete fills in what a returned result means. One that cannot be kept makes a dead letter.
func complete(outcome *pb.JobOutcome, result []byte) {
	if len(result) > resultBytesMax {
		message := fmt.Sprintf("the result has %d bytes, at most %d can be kept", len(result), resultBytesMax)
		outcome.Outcome = rejected(&pb.JobError{Type: "ResultTooLarge", Message: message})
		return
	}
	if len(result) == 0 {
		outcome.Outcome = bare
		return
	}
	outcome.Outcome = &pb.JobOutcome_Complete{Complete: &pb.Complete{Result: result}}
}

// end fills in what a returned error means for a job whose context may have ended.
func end(outcome *pb.JobOutcome, job *Job, err error) {
	var how *ending
	draining := errors.Is(context.Cause(job.ctx), ErrDraining)
	switch {
	case errors.As(err, &how):
		how.fill(outcome, err, draining)
	case job.ctx.Err() != nil && stoppedBy(job.ctx, err):
		(&ending{verb: "cancel"}).fill(outcome, err, draining)
	default:
		outcome.Outcome = &pb.JobOutcome_Fail{Fail: &pb.Fail{Error: jobError(err, nil)}}
	}
}

// FailureType is what the job's failure will say of an error that its handler returned: the type of the error, or
// the empty string when the attempt has not failed, as after Snooze, Release and Cancel. For middleware.
func (j *Job) FailureType(err error) string {
	if err == nil {
		return ""
	}
	var outcome pb.JobOutcome
	end(&outcome, j, err)
	return cmp.Or(outcome.GetFail().GetError().GetType(), outcome.GetReject().GetError().GetType())
}

// stoppedBy tells whether the error is the end of the context, told by itself or by a call of gRPC that it ended.
func stoppedBy(ctx context.Context, err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)) || status.Code(err) == codes.Canceled
}

func (e *ending) fill(outcome *pb.JobOutcome, err error, draining bool) {
	switch e.verb {
	case "retry":
		fail := &pb.Fail{Error: jobError(err, nil), RetryAfter: durationpb.New(*e.delay)}
		outcome.Outcome = &pb.JobOutcome_Fail{Fail: fail}
	case "snooze":
		outcome.Outcome = &pb.JobOutcome_Snooze{Snooze: &pb.Snooze{Delay: durationpb.New(*e.delay)}}
	case "reject":
		outcome.Outcome = rejected(jobError(err, nil))
	case "cancel":
		if !draining {
			outcome.Outcome = &pb.JobOutcome_Cancel{Cancel: &pb.Cancel{}}
			return
		}
		// A job that was asked to stop by a drain alone is not cancelled.
		outcome.Outcome = &pb.JobOutcome_Release{Release: &pb.Release{}}
	default:
		outcome.Outcome = &pb.JobOutcome_Release{Release: &pb.Release{}}
	}
}

func rejected(failure *pb.JobError) *pb.JobOutcome_Reject {
	return &pb.JobOutcome_Reject{Reject: &pb.Reject{Error: failure}}
}

// jobError tells what went wrong, cut to what the contract holds.
func jobError(err error, stack []byte) *pb.JobError {
	return &pb.JobError{
		Type:    cutText(errorType(err), errorTypeBytesMax),
		Message: cutText(errorText(err), errorMessageBytesMax),
		Stack:   cutText(string(stack[:min(len(stack), errorStackBytesMax)]), errorStackBytesMax),
	}
}

// errorType is the type of the error within what fmt.Errorf and our own words have wrapped around it.
func errorType(err error) string {
	for {
		inner := errors.Unwrap(err)
		_, ours := err.(*ending)
		if text := fmt.Sprintf("%T", err); inner == nil || (!ours && text != "*fmt.wrapError") {
			return text
		}
		err = inner
	}
}

func errorText(err error) (text string) {
	defer func() {
		if recover() != nil {
			text = "(the error's own text cannot be had)"
		}
	}()
	return err.Error()
}

// cutText gives text as the contract takes it: no NUL, UTF-8, at most so many bytes.
func cutText(text string, bytesMax int) string {
	clean := strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\uFFFD"), "\uFFFD")
	if len(clean) <= bytesMax {
		return clean
	}
	for bytesMax > 0 && !utf8.RuneStart(clean[bytesMax]) {
		bytesMax--
	}
	return clean[:bytesMax]
}
