"""What the handler answers: nothing here knows how the request came."""

import os
import re

# The one directory that a handler has, by the name that it has inside.
DIRECTORY = "folder"

# The name of a file in the directory itself, and not hidden.
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def answer(method: str, path: str, body: bytes) -> tuple[int, bytes]:
    """Answers one request with a status and a body."""
    match method, path.split("/")[1:]:
        case "GET", [""]:
            return 200, b"Hello from {{name}}\n"
        case "GET", ["list"]:
            return list_files()
        case "POST", ["echo"]:
            return 200, body
        case "PUT", ["store", *name]:
            return store("/".join(name), body)
    return 404, b"Not found\n"


def list_files() -> tuple[int, bytes]:
    names = sorted(entry.name for entry in os.scandir(DIRECTORY) if entry.is_file())
    return 200, "".join(name + "\n" for name in names).encode()


def store(name: str, body: bytes) -> tuple[int, bytes]:
    if not NAME.fullmatch(name):
        return 400, b"Not the name of a file\n"
    with open(os.path.join(DIRECTORY, name), "wb") as file:
        file.write(body)
    return 201, f"Stored {len(body)} bytes\n".encode()
