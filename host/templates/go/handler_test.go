package main

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// check asks for one answer, and compares its status and its body.
func check(t *testing.T, method, target, body string, status int, expected string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	routes().ServeHTTP(recorder, httptest.NewRequest(method, target, strings.NewReader(body)))
	if recorder.Code != status || recorder.Body.String() != expected {
		t.Errorf("%s %s: %d %q", method, target, recorder.Code, recorder.Body)
	}
}

func TestAnswers(t *testing.T) {
	check(t, "GET", "/", "", 200, "Hello from {{name}}\n")
	check(t, "POST", "/echo", "\x00\x01", 200, "\x00\x01")
	check(t, "GET", "/none", "", 404, "Not found\n")
	check(t, "PUT", "/store/.hidden", "", 400, "Not the name of a file\n")
	check(t, "PUT", "/store/a/b", "", 400, "Not the name of a file\n")
}
