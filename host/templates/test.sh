#!/bin/sh
# Serves the built handler with `host`, and compares its answers: ./test.sh [OPTION OF host ...].
# HOST names the program where it is not on the PATH.
set -eu
cd "$(dirname "$0")"

scratch=$(mktemp -d)
"${HOST:-host}" --port 0 --handler {{wasm}} --dir "$scratch/files::folder" "$@" 2>"$scratch/log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server || true; rm -rf "$scratch"' EXIT

# The second line of the log ends in the server's address.
url=
while [ -z "$url" ]; do
  kill -0 $server 2>/dev/null || { cat "$scratch/log" >&2; exit 1; }
  sleep 0.1
  url=$(sed -n 's|^handler .* \(http://.*\)/$|\1|p' "$scratch/log")
done

# check NAME STATUS FILE OPTION...: the status of an answer, and its body, which is to be FILE's.
check() {
  name=$1 status=$2 body=$3
  shift 3
  got=$(curl -sS -o "$scratch/answer" -w '%{http_code}' "$@")
  if [ "$got" = "$status" ] && cmp "$scratch/answer" "$body"; then
    echo "ok: $name"
  else
    echo "FAILED: $name: status $got, not $status" >&2
    cat "$scratch/log" >&2
    exit 1
  fi
}

head -c 1048576 /dev/urandom >"$scratch/body"
echo "Hello from {{name}}" >"$scratch/greeting"
echo "Not found" >"$scratch/not-found"
echo "Not the name of a file" >"$scratch/refused"
echo "Stored 1048576 bytes" >"$scratch/stored"
echo "one.bin" >"$scratch/names"
: >"$scratch/nothing"

check greet 200 "$scratch/greeting" "$url/"
check "list of nothing" 200 "$scratch/nothing" "$url/list"
check echo 200 "$scratch/body" --data-binary @"$scratch/body" "$url/echo"
check store 201 "$scratch/stored" -T "$scratch/body" "$url/store/one.bin"
cmp "$scratch/files/one.bin" "$scratch/body"
check list 200 "$scratch/names" "$url/list"
check "a bad name" 400 "$scratch/refused" -T "$scratch/body" "$url/store/.hidden"
check "no such path" 404 "$scratch/not-found" "$url/none"
