# The commands one types: `just` lists them. Each is one line that works without just, too.

_default:
  @just --list

# Serve ./folder, with whatever options follow.
run *OPTIONS:
  cargo run --release --bin host -- {{OPTIONS}}

# All tests, or those whose path contains a word.
test *WORD:
  cargo test --release {{WORD}}

# Compile errors, and nothing else: seconds.
check:
  cargo check --release --tests

# What must be clean before a commit.
lint:
  cargo fmt --all --check
  cargo clippy --release --all-targets -- -D warnings
  RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --lib

# Write docs/configuration.md anew, from the options as they are.
bless:
  BLESS=1 cargo test --release -p host --lib documented

# Build components: all that have changed, or those that are named.
handlers *NAMES:
  handlers/build {{NAMES}}

# Attack both pools; `just demo --only loop` makes one attack.
demo *OPTIONS:
  cargo run --release --bin host -- demo {{OPTIONS}}

# The load figures beside nginx's (needs nginx and wrk).
load ROUNDS="5" SECONDS="1":
  cargo build --release --bin host
  host/benches/load {{ROUNDS}} {{SECONDS}}

# What real work costs, beside `wasmtime serve` where that is installed (needs curl).
work ROUNDS="5":
  cargo build --release --bin host
  host/benches/work {{ROUNDS}}

# What each trick for speed buys (needs wrk).
tricks ROUNDS="3":
  host/benches/tricks {{ROUNDS}}

# What loops leave to others.
starve SECONDS="15":
  cargo build --release --bin host
  host/benches/starve {{SECONDS}}

# How soon the operator's listener answers while the server is as busy as it can be.
scrape SCRAPES="500":
  cargo build --release --bin host
  host/benches/scrape {{SCRAPES}}

# How many lines the tests run, confined workers' too (needs llvm-tools).
coverage:
  .ci/coverage

# Undefined behaviour in shared memory and HTTP, and reads that come late (needs a nightly toolchain with Miri).
miri:
  .ci/miri

# The quota, in every order of changes and counts that a checker comes to.
model:
  cargo test --release -p sandbox --lib --features model model

# Fuzz all that reads bytes of others for so many seconds each (needs a nightly toolchain and cargo-fuzz).
fuzz SECONDS="60":
  host/fuzz/run {{SECONDS}}

# Whether it builds and works with the newest wasmtime, by this toolchain.
canary TOOLCHAIN="stable":
  .ci/canary {{TOOLCHAIN}}

# What a release consists of, in target/dist (the Debian package needs cargo-deb, the SBOM cargo-cyclonedx).
dist:
  deploy/dist

# All that continuous integration does; it installs Debian packages.
ci:
  bash .ci/run
