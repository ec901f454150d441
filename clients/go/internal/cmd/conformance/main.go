// Command conformance is the executor of the Go SDK: it reads calls and writes answers and events as JSON lines, with
// nothing but the public SDK between. docs/protocol.md names the calls; tests/conformance plays them.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
)

const lineBytesMax = 32 << 20

func main() {
	servers := flag.String("servers", "", "host:port, several with commas")
	flag.Parse()
	if err := run(*servers, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// arguments of a call, by name.
type arguments map[string]json.RawMessage

// get reads an argument; what is not given stays as it is.
func (a arguments) get(name string, into any) error {
	given, ok := a[name]
	if !ok || string(given) == "null" {
		return nil
	}
	if err := json.Unmarshal(given, into); err != nil {
		return fmt.Errorf("argument %s: %w", name, err)
	}
	return nil
}

// executor answers calls, each in a goroutine of its own.
type executor struct {
	servers string
	out     *json.Encoder
	writing sync.Mutex

	mutex   sync.Mutex
	clients map[string]*atlasqueue.Client
	workers map[string]*running
	gates   map[string]*gate
}

func run(servers string, in io.Reader, out io.Writer) error {
	client, err := atlasqueue.NewClient(atlasqueue.WithServers(servers))
	if err != nil {
		return err
	}
	e := &executor{
		servers: servers, out: json.NewEncoder(out),
		clients: map[string]*atlasqueue.Client{"": client}, workers: map[string]*running{}, gates: map[string]*gate{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		var call arguments
		if err := json.Unmarshal(lines.Bytes(), &call); err != nil {
			cancel()
			return err
		}
		go e.answer(ctx, call)
	}
	e.end()
	cancel()
	return lines.Err()
}

func (e *executor) answer(ctx context.Context, call arguments) {
	var id int
	var name string
	if err := errors.Join(call.get("id", &id), call.get("call", &name)); err != nil {
		e.write(map[string]any{"id": id, "error": told(err)})
		return
	}
	answer, err := e.call(ctx, name, call)
	if err != nil {
		e.write(map[string]any{"id": id, "error": told(err)})
		return
	}
	e.write(map[string]any{"id": id, "answer": answer})
}

func (e *executor) write(message map[string]any) {
	e.writing.Lock()
	defer e.writing.Unlock()
	if err := e.out.Encode(message); err != nil {
		// Nobody listens any more.
		os.Exit(1)
	}
}

func (e *executor) client(name string) (*atlasqueue.Client, error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if client := e.clients[name]; client != nil {
		return client, nil
	}
	return nil, fmt.Errorf("no client %q", name)
}

// here puts the executor's own servers where a list has an empty string.
func (e *executor) here(servers []string) []string {
	addresses := make([]string, len(servers))
	for i, server := range servers {
		if addresses[i] = server; server == "" {
			addresses[i] = e.servers
		}
	}
	return addresses
}

func (e *executor) end() {
	e.mutex.Lock()
	gates, workers, clients := e.gates, e.workers, e.clients
	e.mutex.Unlock()
	for _, gate := range gates {
		gate.open()
	}
	for _, worker := range workers {
		worker.stop()
	}
	for _, client := range clients {
		_ = client.Close()
	}
}
