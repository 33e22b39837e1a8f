// A program of CGI as Go's own net/http/cgi makes it, with nothing in it that knows of Swapbox.
package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

func main() {
	http.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "Hello from Go") })
	http.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusCreated)
		io.Copy(w, r.Body)
	})
	http.Handle("/redirect", http.RedirectHandler("/elsewhere", http.StatusFound))
	http.HandleFunc("/environment", environment)
	http.HandleFunc("/files", files)
	http.HandleFunc("/sleep", sleep)
	http.HandleFunc("/random", random)
	http.HandleFunc("/memory", memory)
	http.HandleFunc("/panic", func(w http.ResponseWriter, r *http.Request) { panic("on purpose") })
	if err := cgi.Serve(nil); err != nil {
		log.Fatal(err)
	}
}

func environment(w http.ResponseWriter, r *http.Request) {
	pairs := os.Environ()
	sort.Strings(pairs)
	fmt.Fprintln(w, strings.Join(pairs, "\n"))
}

// Writes, lists, renames, reads and removes files below the directory that the query names.
func files(w http.ResponseWriter, r *http.Request) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	dir := filepath.Join("/folder", r.URL.RawQuery)
	must(os.Mkdir(dir, 0o755))
	name := func(i int) string { return filepath.Join(dir, strings.Repeat("n", 100)+fmt.Sprint(1000+i)) }
	for i := range 100 {
		must(os.WriteFile(name(i), []byte(fmt.Sprint("file ", i)), 0o644))
	}
	large := make([]byte, 1<<20)
	rand.Read(large)
	must(os.WriteFile(name(0), large, 0o644))
	must(os.Rename(name(0), name(100)))
	read, err := os.ReadFile(name(100))
	must(err)
	entries, err := os.ReadDir(dir)
	must(err)
	info, err := os.Stat(name(1))
	must(err)
	_, missing := os.Stat(name(0))
	fmt.Fprintln(w, len(entries), "files,", string(read) == string(large), info.Size(), missing)
	must(os.RemoveAll(dir))
	entries, err = os.ReadDir("/folder")
	must(err)
	for _, entry := range entries {
		if entry.Name() == r.URL.RawQuery {
			panic("it is still there")
		}
	}
}

func sleep(w http.ResponseWriter, r *http.Request) {
	before := time.Now()
	time.Sleep(20 * time.Millisecond)
	fmt.Fprintln(w, "slept", time.Since(before) >= 20*time.Millisecond, before.Year() > 2020)
}

func random(w http.ResponseWriter, r *http.Request) {
	a, b := make([]byte, 200_000), make([]byte, 200_000)
	rand.Read(a)
	rand.Read(b)
	zeros := 0
	for i := range a {
		if a[i] == 0 && b[i] == 0 {
			zeros++
		}
	}
	fmt.Fprintln(w, "random", string(a) != string(b), zeros < 100)
}

// Takes memory until there is no more.
func memory(w http.ResponseWriter, r *http.Request) {
	var taken [][]byte
	for {
		piece := make([]byte, 1<<20)
		for i := range piece {
			piece[i] = byte(i)
		}
		taken = append(taken, piece)
		log.Println(len(taken), "MiB")
	}
}
