package atlasqueueotel_test

import (
	"bytes"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/atlasqueue/atlasqueue/clients/go/atlasqueuetest"
)

var readmeFile = regexp.MustCompile("(?ms)^```go\n// (\\S+\\.go)\n(.*?)^```$")

const readmeModule = `module example.com/media

go 1.26.0

require (
	github.com/atlasqueue/atlasqueue/clients/go v0.0.0
	github.com/atlasqueue/atlasqueue/clients/go/otel v0.0.0
)

replace (
	github.com/atlasqueue/atlasqueue/clients/go => SDK
	github.com/atlasqueue/atlasqueue/clients/go/otel => SDK/otel
)
`

// The files of clients/go/README.md make a module that builds and passes its own tests, and its programs print what
// they should. Here, because this module depends on everything that the page shows.
func TestTheREADMERuns(t *testing.T) {
	directory := readmeFiles(t)
	goCommand(t, directory, "test", "./...")
	goCommand(t, directory, "build", "-o", "bin/", "./...")
	server := atlasqueuetest.NewServer(t)
	program := func(name string) *exec.Cmd {
		command := exec.CommandContext(t.Context(), filepath.Join(directory, "bin", name))
		command.Env = append(os.Environ(), "ATLASQUEUE_ADDRESS="+server.Address)
		return command
	}
	worker := program("work")
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	for _, each := range []struct{ name, want string }{
		{"produce", "HELLO\n"},
		{"once", "true <nil>\nthe id is taken by another body\n"},
		{"operate", "REJECTED - there is nothing to shout\na redrive would move 1 <nil>\nshout DEAD <nil>\na cancel would take 0 <nil>\n"},
		{"traced", ""},
	} {
		if printed, err := program(each.name).CombinedOutput(); err != nil || string(printed) != each.want {
			t.Errorf("%s printed %q, %v", each.name, printed, err)
		}
	}
	_ = worker.Process.Signal(syscall.SIGTERM)
	if err := worker.Wait(); err != nil {
		t.Errorf("the worker has not drained: %v", err)
	}
}

func readmeFiles(t *testing.T) string {
	t.Helper()
	sdk, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(sdk, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"go.mod": []byte(strings.ReplaceAll(readmeModule, "SDK", sdk)), "go.sum": sums}
	for _, found := range readmeFile.FindAllSubmatch(page, -1) {
		files[string(found[1])] = found[2]
		if formatted, err := format.Source(found[2]); err != nil || !bytes.Equal(formatted, found[2]) {
			t.Errorf("%s is not as gofmt has it: %v", found[1], err)
		}
	}
	if blocks := bytes.Count(page, []byte("\n```go\n")); blocks != len(files)-2 {
		t.Errorf("of %d blocks of Go, %d are files", blocks, len(files)-2)
	}
	directory := t.TempDir()
	for name, text := range files {
		path := filepath.Join(directory, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

func goCommand(t *testing.T, directory string, arguments ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", arguments...)
	command.Dir = directory
	// What it needs is what this module needs, so nothing has to be fetched.
	command.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off")
	if printed, err := command.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(arguments, " "), err, printed)
	}
}
