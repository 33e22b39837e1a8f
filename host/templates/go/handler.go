// A handler by net/http/cgi: Go's usual handlers, one process for each request.
//
// A fresh instance answers each request. What is to last is a file of the one directory.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"os"
	"path/filepath"
	"regexp"
)

// The one directory that a handler has, by the name that it has inside.
const directory = "/folder"

// The name of a file in the directory itself, and not hidden.
var safeName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$`)

func main() {
	if err := cgi.Serve(routes()); err != nil {
		log.Fatal(err)
	}
}

func routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "Hello from {{name}}")
	})
	mux.HandleFunc("GET /list", list)
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("PUT /store/{name...}", store)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "Not found", http.StatusNotFound)
	})
	return mux
}

func list(w http.ResponseWriter, r *http.Request) {
	// Sorted by name.
	entries, err := os.ReadDir(directory)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	for _, entry := range entries {
		if entry.Type().IsRegular() {
			fmt.Fprintln(w, entry.Name())
		}
	}
}

func store(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !safeName.MatchString(name) {
		http.Error(w, "Not the name of a file", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = os.WriteFile(filepath.Join(directory, name), body, 0o644)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, "Stored %d bytes\n", len(body))
}
