// A handler as a CGI program: the request is in the environment and on standard input.
//
// A fresh instance answers each request. What is to last is a file of the one directory.

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Asks the server for a memory that grows without the kernel, and whose addresses are compared with
// its end. That makes requests cheaper. A handler that computes for more than a tenth of a
// millisecond is faster without this.
__asm__(".section \".custom_section.swapbox:compare-addresses\",\"\",@\n.byte 1\n.text\n");

// The one directory that a handler has, by the name that it has inside.
static const char DIRECTORY[] = "folder/";

static int text(const char *status, const char *body) {
  printf("Status: %s\nContent-Type: text/plain\n\n%s", status, body);
  return 0;
}

// Copies the body of the request to a file; returns its length, or -1.
static long copy_body(FILE *to) {
  static char buffer[65536];
  long length = 0;
  for (size_t got; (got = fread(buffer, 1, sizeof buffer, stdin)) > 0; length += got) {
    if (fwrite(buffer, 1, got, to) != got) return -1;
  }
  return ferror(stdin) ? -1 : length;
}

static int echo(void) {
  printf("Content-Type: application/octet-stream\n\n");
  return copy_body(stdout) < 0;
}

static int list(void) {
  DIR *directory = opendir(DIRECTORY);
  if (!directory) return text("500 Internal Server Error", "The directory cannot be read\n");
  text("200 OK", "");
  for (struct dirent *entry; (entry = readdir(directory));) {
    if (entry->d_type == DT_REG) puts(entry->d_name);
  }
  return closedir(directory);
}

// Whether a name is one of a file in the directory itself, and not hidden.
static bool is_safe(const char *name) {
  size_t length = strlen(name);
  if (length == 0 || length > 100 || name[0] == '.') return false;
  for (const char *c = name; *c; c++) {
    if (!isalnum((unsigned char)*c) && !strchr("._-", *c)) return false;
  }
  return true;
}

static int store(const char *name) {
  if (!is_safe(name)) return text("400 Bad Request", "Not the name of a file\n");
  char path[sizeof DIRECTORY + 100];
  snprintf(path, sizeof path, "%s%s", DIRECTORY, name);
  FILE *file = fopen(path, "wb");
  long length = file ? copy_body(file) : -1;
  if (!file || fclose(file) != 0 || length < 0) {
    return text("500 Internal Server Error", "The file cannot be written\n");
  }
  text("201 Created", "");
  printf("Stored %ld bytes\n", length);
  return 0;
}

int main(void) {
  const char *method = getenv("REQUEST_METHOD");
  const char *path = getenv("PATH_INFO");
  if (!method || !path) return 1;
  bool get = strcmp(method, "GET") == 0;
  if (get && strcmp(path, "/") == 0) return text("200 OK", "Hello from {{name}}\n");
  if (get && strcmp(path, "/list") == 0) return list();
  if (strcmp(method, "POST") == 0 && strcmp(path, "/echo") == 0) return echo();
  if (strcmp(method, "PUT") == 0 && strncmp(path, "/store/", 7) == 0) return store(path + 7);
  return text("404 Not Found", "Not found\n");
}
