#!/usr/bin/env bash
# Everything that `make test` does: set-up, build, documentation tests, then all tests, container
# tests among them where a Docker engine answers. With CI=true an engine must answer.
#
#   scripts/test.sh [NEXTEST ARGUMENTS]     such as: -p mintwarden-client, or a part of a test's name

. "$(dirname "$0")/lib.sh"
cd "$repo"

# Tests that need an engine are those in a module called `container` (see .config/nextest.toml).
readonly container_tests='test(/(^|::)container(_|::)/)'

nextest=(--workspace --locked)
if in_ci; then nextest+=(--profile ci); fi

scripts/setup.sh build run test python
# With the tests' features, so that programs and tests share one build.
phase "build" cargo build --workspace --locked --lib --bins --tests --examples

if engine_answers; then
    MINTWARDEN_TEST_IMAGE=$(scripts/image.sh)
    export MINTWARDEN_TEST_IMAGE
    say "==> container tests run on the image $MINTWARDEN_TEST_IMAGE"
elif in_ci; then
    die "CI=true, but no Docker engine answers: the container tests would be left out"
else
    say "==> no Docker engine answers: CONTAINER TESTS ARE LEFT OUT"
    nextest+=(--filterset "not $container_tests")
fi

phase "documentation tests" cargo test --doc --workspace --locked --quiet
# Last, so that its summary is the last word.
phase "tests" cargo nextest run "${nextest[@]}" "$@"
