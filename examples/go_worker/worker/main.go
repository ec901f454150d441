// Command worker counts primes, on all cores of the machine. It does not know in which language its jobs are
// enqueued.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

const queue = "numbers"

// span is the payload, as JSON: from `From` to less than `To`.
type span struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// found is the result.
type found struct {
	Primes int `json:"primes"`
}

func countPrimes(ctx context.Context, job *worker.Job, in span) (found, error) {
	if in.From >= in.To {
		return found{}, worker.Reject(fmt.Errorf("no number is from %d to less than %d", in.From, in.To))
	}
	var out found
	for number := in.From; number < in.To; number++ {
		if number%1000 == 0 {
			// Somebody cancelled the job, its lease was lost, or the worker drains: context.Cause says which.
			if ctx.Err() != nil {
				return found{}, ctx.Err()
			}
			job.SetProgress(100*(number-in.From)/(in.To-in.From), fmt.Sprintf("%d so far", out.Primes))
		}
		if isPrime(number) {
			out.Primes++
		}
	}
	return out, nil
}

func isPrime(number int) bool {
	for divisor := 2; divisor*divisor <= number; divisor++ {
		if number%divisor == 0 {
			return false
		}
	}
	return number > 1
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	slog.SetLogLoggerLevel(slog.LevelError)
	app := worker.NewApp()
	worker.HandleJSON(app, "count-primes", queue, countPrimes)
	w, err := worker.New(app, worker.WithSlots(8)) // Of ATLASQUEUE_ADDRESS.
	if err != nil {
		log.Fatal(err)
	}
	// Until a signal; then it drains: what runs may finish, the rest stays with the server.
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
