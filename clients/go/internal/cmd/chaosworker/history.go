//go:build unix

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

const aliveEach = 200 * time.Millisecond

// history writes down what this worker is told, in the words of tests/history/events.py. It looks at the messages
// themselves, so that it sees what a handler may never see, and needs nothing of the SDK but its dial options.
type history struct {
	who  string
	file *os.File
}

func newHistory(directory, who string) (*history, error) {
	path := filepath.Join(directory, who+".jsonl")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return &history{who, file}, nil
}

// record appends one event. One line is one write, so that a kill leaves whole lines.
func (h *history) record(event string, values map[string]any) {
	values["event"], values["at"], values["who"] = event, monotonic(), h.who
	line, err := json.Marshal(values)
	if err == nil {
		_, err = h.file.Write(append(line, '\n'))
	}
	if err != nil {
		// A history with a hole would blame the server.
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// monotonic is CLOCK_MONOTONIC in seconds, which all processes of a machine share.
func monotonic() float64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return float64(now.Sec) + float64(now.Nsec)/1e9
}

// witness tells all the time that the process runs and the machine gives it a turn.
func (h *history) witness() {
	for range time.Tick(aliveEach) {
		h.record("alive", map[string]any{})
	}
}

// stream notes jobs as they arrive, before the worker has them.
func (h *history) stream(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, next grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := next(ctx, desc, conn, method, options...)
	if err != nil {
		return nil, err
	}
	return &noted{stream, h}, nil
}

type noted struct {
	grpc.ClientStream
	history *history
}

func (n *noted) RecvMsg(message any) error {
	if err := n.ClientStream.RecvMsg(message); err != nil {
		return err
	}
	if response, ok := message.(*pb.LeaseResponse); ok {
		for _, job := range response.GetLeasedJobs().GetJobs() {
			n.history.delivered(job)
		}
	}
	return nil
}

func (h *history) delivered(job *pb.LeasedJob) {
	body := fmt.Sprintf("%s\x00%d\x00%s", job.GetKind(), job.GetPriority(), job.GetPayload())
	h.record("delivered", map[string]any{
		"queue": job.GetQueue(), "job_id": job.GetJobId(), "fence": job.GetFence(), "attempt": job.GetAttempt(),
		"crashes": job.GetCrashes(), "deliveries": job.GetDeliveries(), "body": hashed([]byte(body)),
	})
}

// unary notes the answers to reports.
func (h *history) unary(
	ctx context.Context, method string, request, response any, conn *grpc.ClientConn, next grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	err := next(ctx, method, request, response, conn, options...)
	reported, ok := request.(*pb.ReportRequest)
	if err != nil || !ok {
		return err
	}
	results := response.(*pb.ReportResponse).GetResults()
	for i, outcome := range reported.GetOutcomes() {
		h.reported(outcome, results[i])
	}
	return nil
}

func (h *history) reported(outcome *pb.JobOutcome, result *pb.ReportResult) {
	values := map[string]any{
		"queue": outcome.GetQueue(), "job_id": outcome.GetJobId(), "fence": outcome.GetFence(), "outcome": kindOf(outcome),
		"answer": strings.ToLower(strings.TrimPrefix(result.GetStatus().String(), "REPORT_STATUS_")), "state": "", "result": "",
	}
	if state := result.GetState(); state != pb.JobState_JOB_STATE_UNSPECIFIED {
		values["state"] = strings.ToLower(strings.TrimPrefix(state.String(), "JOB_STATE_"))
	}
	if complete := outcome.GetComplete(); complete != nil {
		values["result"] = hashed(complete.GetResult())
	}
	h.record("reported", values)
}

// kindOf is the name of the outcome's field in the contract.
func kindOf(outcome *pb.JobOutcome) string {
	message := outcome.ProtoReflect()
	field := message.WhichOneof(message.Descriptor().Oneofs().ByName("outcome"))
	if field == nil {
		return ""
	}
	return string(field.Name())
}

// hashed stands for a payload or a result, which do not belong in a log.
func hashed(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])[:16]
}
