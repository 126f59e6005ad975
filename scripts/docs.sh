#!/usr/bin/env bash
# Writes anew what is generated and checked in; `git diff` then shows what has changed. The tests that
# compare these files are what writes them, asked through the environment.

. "$(dirname "$0")/lib.sh"
cd "$repo"

scripts/setup.sh build test
export MINTWARDEN_BLESS=1
cargo nextest run --workspace --locked --filterset 'test(/(^|::)generated_/)'
git status --short docs proto
