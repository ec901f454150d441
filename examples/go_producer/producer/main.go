// Command producer enqueues every Markdown file below a directory and adds up what the workers say of them. It does
// not know in which language they are written.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"time"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
)

// document is the payload, as JSON: what both languages have to agree on.
type document struct {
	Path string `json:"path"`
}

// count is the result.
type count struct {
	Words int `json:"words"`
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: producer DIRECTORY")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, directory string) error {
	client, err := atlasqueue.NewClient() // Of ATLASQUEUE_ADDRESS.
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	jobs, err := jobsOf(directory)
	if err != nil {
		return err
	}
	ids, err := client.EnqueueBatch(ctx, jobs)
	if err != nil {
		return err
	}
	fmt.Printf("Go: enqueued %d documents\n", len(ids))
	words, counted := 0, 0
	for _, id := range ids {
		job, err := client.Wait(ctx, id)
		if died := (*atlasqueue.SettledError)(nil); errors.As(err, &died) {
			failure := died.Job.Failures[0]
			fmt.Printf("Go: a dead letter, %s: %s: %s\n", died.Job.DeadLetterReason, failure.Type, failure.Message)
			continue
		}
		if err != nil {
			return err
		}
		var result count
		if err := job.ResultJSON(&result); err != nil {
			return err
		}
		words += result.Words
		counted++
	}
	fmt.Printf("Go: %d documents have %d words\n", counted, words)
	return nil
}

func jobsOf(directory string) ([]atlasqueue.NewJob, error) {
	var jobs []atlasqueue.NewJob
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		payload, err := json.Marshal(document{path})
		if err != nil {
			return err
		}
		jobs = append(jobs, atlasqueue.NewJob{Queue: "documents", Kind: "count-words", Payload: payload})
		return nil
	})
	return jobs, err
}
