// Answers HTTP requests by a fetch event, as a service worker does.
//
// A fresh instance answers each request. What is to last is a file of the one directory.

import { getDirectories } from "wasi:filesystem/preopens@0.2.10";

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const path = new URL(request.url).pathname;
  switch (`${request.method} ${path.split("/", 2).join("/")}`) {
    case "GET /":
      return text(200, "Hello from {{name}}\n");
    case "GET /list":
      return text(200, list().map((name) => name + "\n").join(""));
    case "POST /echo":
      return new Response(await request.arrayBuffer());
    case "PUT /store":
      return store(path.slice("/store/".length), new Uint8Array(await request.arrayBuffer()));
    default:
      return text(404, "Not found\n");
  }
}

function text(status, body) {
  return new Response(body, { status, headers: { "content-type": "text/plain; charset=utf-8" } });
}

// The one directory that a handler has.
function directory() {
  const [[descriptor]] = getDirectories();
  return descriptor;
}

function list() {
  const names = [];
  const entries = directory().readDirectory();
  for (let entry; (entry = entries.readDirectoryEntry()); ) {
    if (entry.type === "regular-file") names.push(entry.name);
  }
  return names.sort();
}

function store(name, body) {
  if (!isSafe(name)) return text(400, "Not the name of a file\n");
  const file = directory().openAt({}, name, { create: true, truncate: true }, { write: true });
  for (let at = 0; at < body.length; ) {
    at += Number(file.write(body.subarray(at), BigInt(at)));
  }
  return text(201, `Stored ${body.length} bytes\n`);
}

// Whether a name is one of a file in the directory itself, and not hidden.
function isSafe(name) {
  return /^[\w-][\w.-]{0,99}$/.test(name);
}
