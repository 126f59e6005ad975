#!/usr/bin/env bash
# Installs what this machine lacks, asking nothing; says nothing and changes nothing where all is there.
#
#   scripts/setup.sh NEED...
#
#   build       compile the workspace: C compiler, protoc and its well-known types, libtss2
#   run         devices to sign with: SoftHSM2, swtpm
#   test        the test runner cargo-nextest, tpm2-tools
#   python      what the Python example needs, in target/python: Python 3 and packages from PyPI
#   container   make images without a registry: debootstrap
#   fuzz        libFuzzer: cargo-fuzz, a C++ compiler
#   ci          rustfmt, clippy, cargo-deny
#
# Rust, git and make are expected to be there. Debian packages come through apt-get, as root or by
# `sudo -n`; Rust programs through `cargo install`, at the versions below.

. "$(dirname "$0")/lib.sh"

readonly NEXTEST=0.9.143
readonly DENY=0.20.2
readonly FUZZ=0.13.2

packages=()
wants() { packages+=("$@"); }

need_build() {
    have cargo || die "cargo not found: install Rust 1.95 or newer with rustup, or put it on PATH"
    have cc || wants gcc
    # aws-lc-sys and cryptoki-sys bring their bindings along: neither cmake nor clang is needed.
    [[ -e /usr/include/stdio.h ]] || wants libc6-dev
    have protoc || wants protobuf-compiler
    # google/protobuf/*.proto; protobuf-compiler only recommends it.
    [[ -e /usr/include/google/protobuf/timestamp.proto ]] || wants libprotobuf-dev
    # The worker for TPMs; it opens the way to the TPM (libtss2-tcti-*) when it runs.
    [[ -e /usr/include/tss2/tss2_esys.h ]] || wants libtss2-dev
    have pkg-config || wants pkg-config
}

need_run() {
    have softhsm2-util || wants softhsm2
    have swtpm || wants swtpm
}

need_test() {
    # A TPM with a manufacturer's certificates; swtpm-tools brings gnutls-bin along.
    have swtpm_setup || wants swtpm-tools
    # What a TPM says to others than us.
    have tpm2_getcap || wants tpm2-tools
}

test_runner() {
    tool nextest "$NEXTEST" --no-default-features --features default-no-update
}

need_python() {
    find_python >/dev/null || wants python3 python3-venv
}

# An interpreter that can make virtual environments; Debian's first, because packages fit it.
find_python() {
    local found
    for found in /usr/bin/python3 "$(command -v python3 || true)"; do
        [[ -x $found ]] && "$found" -c 'import ensurepip, venv' 2>/dev/null && say "$found" && return
    done
    return 1
}

# The virtual environment of the Python example; made anew when its requirements or Python change.
virtual_environment() {
    local interpreter requirements=$repo/client/python/requirements.txt directory stamp
    interpreter=$(find_python) || die "no Python 3 that can make a virtual environment: install python3-venv"
    directory=$(target_dir)/python
    stamp=$({ "$interpreter" -V; cat "$requirements"; } | sha256sum)
    [[ -x $directory/bin/python && $(cat "$directory/made-from" 2>/dev/null) == "$stamp" ]] && return
    say "setup: packages for the Python example"
    rm -rf "$directory"
    "$interpreter" -m venv "$directory"
    # As wheels only: compiling gRPC takes an hour.
    "$directory/bin/pip" --disable-pip-version-check install --quiet --no-deps --only-binary :all: \
        --requirement "$requirements" || die "pip could not install $requirements: see above"
    printf '%s\n' "$stamp" >"$directory/made-from"
}

need_container() {
    have debootstrap || wants debootstrap
}

need_fuzz() {
    have c++ || wants g++
}

need_ci() {
    cargo fmt --version >/dev/null 2>&1 || component rustfmt
    cargo clippy --version >/dev/null 2>&1 || component clippy
    tool deny "$DENY"
}

# A cargo subcommand from crates.io, into cargo's own directory, so that other clones find it too.
tool() {
    local name=$1 version=$2
    shift 2
    cargo "$name" --version >/dev/null 2>&1 && return
    say "setup: building cargo-$name $version (once per machine, some minutes)"
    # Without optimisation: less than half the time to build, and they are not what takes long.
    (cd / && CARGO_PROFILE_DEV_DEBUG=0 cargo install --debug --locked --quiet --version "$version" "$@" "cargo-$name") ||
        die "cargo install cargo-$name --version $version failed: see above"
}

component() {
    have rustup && rustup component add "$1" && return
    die "cargo ${1/rustfmt/fmt} not found: install the Rust component $1"
}

install_packages() {
    ((${#packages[@]})) || return 0
    have apt-get || die "not found here: ${packages[*]} (Debian's names), and there is no apt-get to install them"
    root_for "apt-get install ${packages[*]}"
    say "setup: installing ${packages[*]}"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
    local log
    log=$(mktemp)
    # A third-party source that does not answer must not stop us: what counts is the install.
    as_root "${apt[@]}" update >"$log" 2>&1 || cat "$log" >&2
    as_root "${apt[@]}" install -y --no-install-recommends "${packages[@]}" >"$log" 2>&1 ||
        { cat "$log" >&2; die "apt-get could not install: ${packages[*]}"; }
    rm -f "$log"
    packages=()
}

(($#)) || die "say what for: build, run, test, python, container, fuzz, ci"
for need; do
    [[ $(type -t "need_$need") == function ]] || die "unknown need '$need': build, run, test, python, container, fuzz, ci"
done
# Debian's packages first, all in one go; programs built from source after them.
for need in "$@"; do
    case $need in build | run | test | python | container | fuzz) "need_$need" ;; esac
done
install_packages
for need in "$@"; do
    case $need in
        test) test_runner ;;
        ci) need_ci ;;
        python) virtual_environment ;;
        fuzz) tool fuzz "$FUZZ" ;;
    esac
done
