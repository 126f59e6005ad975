#!/usr/bin/env bash
# Makes the container image of deploy/Dockerfile from binaries that are already built, and prints its
# tag as the last line (everything else goes to standard error).
#
#   scripts/image.sh [PROFILE_DIRECTORY]     default: debug, in cargo's target directory
#
#   BASE=image   start from that image; default: one that debootstrap makes here, so that no registry
#                is needed. It has this machine's Debian suite (the binaries need its C library),
#                SoftHSM2, libtss2 and swtpm, and is made once: for tests, since it gets no security updates.
#   TAG=name     default: mintwarden-test:HASH, made again only when something in it changed

. "$(dirname "$0")/lib.sh"

readonly programs=(mintwarden mintwarden-pkcs11 mintwarden-tpm mintwardenctl)
readonly base_packages=softhsm2,swtpm,libtss2-esys-3.0.2-0,libtss2-tctildr0,libtss2-tcti-device0,libtss2-tcti-swtpm0

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

main() {
    local built base hash tag
    engine_answers || die "no Docker engine answers: start it, or use a machine that has one"
    built=$(target_dir)/${1:-debug}
    for program in "${programs[@]}"; do
        [[ -x $built/$program ]] || die "$built/$program is missing: build it first"
        # Debug information would make the image ten times as large.
        objcopy --strip-debug "$built/$program" "$context/$program"
    done
    base=${BASE:-$(own_base)}
    hash=$({ cd "$context" && sha256sum "${programs[@]}" && cat "$repo/deploy/Dockerfile" && echo "$base"; } |
        sha256sum | cut -c1-12)
    tag=${TAG:-mintwarden-test:$hash}
    if [[ -n ${TAG:-} ]] || ! docker image inspect "$tag" >/dev/null 2>&1; then
        # The classic builder: buildx is not everywhere, and nothing here needs it.
        DOCKER_BUILDKIT=0 docker build --build-arg "BASE=$base" --tag "$tag" \
            --file "$repo/deploy/Dockerfile" "$context" >"$context/log" 2>&1 ||
            { cat "$context/log" >&2; die "docker build failed: see above"; }
        [[ -n ${TAG:-} ]] || forget_older "$tag"
    fi
    say "$tag"
}

# The base image that debootstrap makes, by a name that changes with what goes into it.
own_base() {
    local suite recipe tag root
    suite=$(debian_suite)
    recipe=$({ declare -f own_base bootstrap; say "$base_packages"; } | sha256sum | cut -c1-12)
    tag=mintwarden-base:$suite-$recipe
    if ! docker image inspect "$tag" >/dev/null 2>&1; then
        "$repo/scripts/setup.sh" container >&2
        root=$(mktemp -d)
        say "image: making $tag with debootstrap (once per machine)" >&2
        bootstrap "$suite" "$root/root" "$base_packages" >"$root/log" 2>&1 ||
            { tail -n 30 "$root/log" >&2; die "debootstrap failed: see above"; }
        as_root tar -C "$root/root" --numeric-owner --one-file-system \
            --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' --exclude='./tmp/*' \
            --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' --exclude='./var/log/*' \
            --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' -c . |
            docker import --change "LABEL mintwarden.base=$base_packages" - "$tag" >/dev/null
        as_root rm -rf "$root"
    fi
    say "$tag"
}

# Test images of earlier builds; one that a container still uses is left alone.
forget_older() {
    docker image ls --format '{{.Repository}}:{{.Tag}}' mintwarden-test | { grep -vxF "$1" || true; } |
        xargs --no-run-if-empty docker image rm >/dev/null 2>&1 || true
}

main "$@"
