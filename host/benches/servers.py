"""Servers that a benchmark starts: Swapbox's pools and `wasmtime serve`, and what they use."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST = os.environ.get("HOST_BINARY", str(ROOT / "target/release/host"))


def build():
    """Builds the host where there is none."""
    if not os.path.exists(HOST):
        subprocess.run(["cargo", "build", "--release", "--bin", "host"], cwd=ROOT, check=True)


def swapbox(work, pool, served, *options, native=False):
    """A pool that serves a directory, or that calls native functions in the handler's place."""
    start = [HOST, "escaped"] if native else [HOST]
    return Server(work, [*start, "--pool", pool, "--port", "0", "--dir", str(served), *options])


def wasmtime(work, component, *options, reuses=False):
    """`wasmtime serve` with a fresh instance for every request or, for a component of WASI 0.3, as it is by default:
    with one for many requests, some of them at the same time."""
    port = free_port()
    reuse = [] if reuses else ["--max-instance-reuse-count", "1"]
    options = ["--addr", f"127.0.0.1:{port}", *reuse, *options]
    return Server(work, ["wasmtime", "serve", "-Scli", *options, str(component)], port)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """A server that was started for one measurement, and its processes."""

    def __init__(self, work, command, port=None):
        self.log = open(work / "server.log", "w+")
        self.process = subprocess.Popen(command, cwd=work, stdout=self.log, stderr=self.log)
        self.port = port
        # A large component is compiled first.
        for _ in range(3000):
            said = Path(self.log.name).read_text()
            if port is None and (found := re.search(r"^.*port (\d+)", said)):
                self.port = int(found.group(1))
            if self.port and self.answers():
                return
            time.sleep(0.01)
        self.process.kill()
        sys.exit(f"{Path(sys.argv[0]).name}: {command[0]} does not answer\n{said}")

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        except OSError:
            return False

    def processes(self):
        pids = [self.process.pid]
        for task in Path(f"/proc/{pids[0]}/task").iterdir():
            pids += map(int, read(task / "children").split())
        return pids

    def cpu(self):
        """Nanoseconds on a processor so far, of all threads."""
        tasks = (task for pid in self.processes() for task in Path(f"/proc/{pid}/task").iterdir())
        return sum(int((read(task / "schedstat") or "0").split()[0]) for task in tasks)

    def memory(self):
        """Bytes: the proportional set size of all processes."""
        rollups = (read(Path(f"/proc/{pid}/smaps_rollup")) for pid in self.processes())
        return sum(int(re.search(r"Pss: +(\d+)", rollup).group(1)) << 10 for rollup in rollups)

    def settle(self):
        """Waits until it has done what nobody waits for any more."""
        last, now = None, self.cpu()
        while last is None or now - last > 1e6:
            time.sleep(0.1)
            last, now = now, self.cpu()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.log.close()


def read(path):
    try:
        return path.read_text()
    except OSError:
        return ""


def in_turn(groups, number):
    """All steps, group by group, of which each begins with another of its steps in each round."""
    for group in groups:
        first = number % len(group)
        yield from group[first:] + group[:first]
