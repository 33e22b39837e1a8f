"""Drives a server with wrk, and says what a request costs it."""

import re
import subprocess
import sys

CONNECTIONS = 32
# Requests that make a measurement: what wrk leaves unfinished at its end costs the server, too.
ENOUGH = 20 * CONNECTIONS

# A script of wrk's that stores 10 KB under one name after the other.
UPLOAD = """
local body, n = string.rep("x", 10240), 0
request = function()
  n = n % 8 + 1
  return wrk.format("PUT", "{path}/up" .. n, nil, body)
end
"""

# Whether any request failed so far.
failed = False


def wrk(port, path, seconds, connections=CONNECTIONS, script=None, refusals=False, scheme="http", fields=()):
    """What wrk found: requests, those refused, requests a second, the 99th percentile in µs."""
    global failed
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
    command += ["-s", str(script)] if script else []
    for field in fields:
        command += ["-H", field]
    out = subprocess.run([*command, f"{scheme}://127.0.0.1:{port}{path}"], capture_output=True, text=True).stdout
    requests, elapsed = re.search(r"(\d+) requests in ([\d.]+)s", out).groups()
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    refused = int(refused.group(1)) if refused else 0
    if "Socket errors" in out or (refused and not refusals):
        failed = True
        print(out, file=sys.stderr)
    p99, unit = re.search(r"99% +([\d.]+)(us|ms|s)", out).groups()
    p99 = float(p99) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]
    return int(requests), refused, (int(requests) - refused) / float(elapsed), p99


def measure(server, path, seconds, script=None, **how):
    """CPU of a request in µs, requests a second, the 99th percentile in µs."""
    warm, *_ = wrk(server.port, path, 1, script=script, **how)
    server.settle()
    before = server.cpu()
    seconds = max(seconds, min(20, ENOUGH // max(warm, 1)))
    requests, _, rate, p99 = wrk(server.port, path, seconds, script=script, **how)
    return (server.cpu() - before) / requests / 1e3, rate, p99
