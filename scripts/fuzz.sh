#!/usr/bin/env bash
# Looks for inputs for which does not hold what must hold for any (tests/fuzz): each target for a time,
# two at once.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]       60 seconds and all targets, where nothing else is said
#
# libFuzzer on the stable toolchain: the compiler's coverage passes without a sanitizer. Inputs found on
# the way stay in target/fuzz/corpus, so that the next run goes on from there; an input for which something
# does not hold lies in target/fuzz/findings, and belongs into tests/fuzz/seeds once it is mended.

. "$(dirname "$0")/lib.sh"
cd "$repo"

readonly seconds=${1:-60}
shift || true
targets=("$@")
((${#targets[@]})) || targets=(claims identity configuration evidence to_worker from_worker keyset store)

scripts/setup.sh build fuzz

fuzz_dir=$(target_dir)/fuzz
# A target directory of its own: everything in it is instrumented.
export CARGO_TARGET_DIR=$fuzz_dir/build
# Less than the default for what release builds ask of the whole program.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=line-tables-only

readonly programs=$CARGO_TARGET_DIR/$(rustc -vV | sed -n 's/^host: //p')/release

# A red CI is to be about the change: there the same inputs are tried each time. By hand, others.
fixed=()
if in_ci; then fixed=(-seed=1); fi

# Roomy limits: redb allocates by what a damaged header says, 2 GiB for one wrong byte, before it refuses.
run() {
    local target=$1 corpus=$fuzz_dir/corpus/$1 findings=$fuzz_dir/findings/$1/ log=$fuzz_dir/$1.log
    mkdir -p "$corpus" "$findings"
    "$programs/$target" "$corpus" "tests/fuzz/seeds/$target" \
        "${fixed[@]}" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=8192 -max_len=65536 \
        -artifact_prefix="$findings" -print_final_stats=1 >"$log" 2>&1 || {
        tail -60 "$log" >&2
        die "$target: an input was found for which it does not hold: see $findings"
    }
    say "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions in $seconds s"
}

phase "build fuzz targets" cargo fuzz build --fuzz-dir tests/fuzz --sanitizer none --features libfuzzer

fuzz_all() {
    local running=0 failed=0 target
    for target in "${targets[@]}"; do
        if ((running == 2)); then
            wait -n || failed=1
            running=$((running - 1))
        fi
        run "$target" &
        running=$((running + 1))
    done
    while ((running)); do
        wait -n || failed=1
        running=$((running - 1))
    done
    return "$failed"
}
phase "fuzz" fuzz_all
