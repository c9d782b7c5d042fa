# SPDX-License-Identifier: Apache-2.0
# e2e/go-module.sh: sourced by the build.sh of what is built from pinned Go modules, in the folder of its go.mod.
# need_go WHAT: sets Go's environment; ends the script with 77 and the reason on stdout where there is no Go that can.
# build_once FILE WHAT CACHED ARGUMENTS…: FILE, in a cache, is what `go build ARGUMENTS…` makes, and its path goes to stdout. With
# CACHED not empty the script ends with 77 and the reason on stdout when it isn't built yet.
# shellcheck shell=bash

need_go() {
    local want have
    want=$(sed -n 's/^go \([0-9.]*\).*/\1/p' go.mod)
    if ! command -v go >/dev/null; then
        echo "no Go compiler: $1 is built from Go modules, with Go $want or newer"
        exit 77
    fi
    export GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOWORK=off CGO_ENABLED=0
    have=$(go env GOVERSION)
    have=${have#go}
    if [ "$(printf '%s\n' "$want" "$have" | sort -V | head -1)" != "$want" ]; then
        echo "Go $have is too old: $1 is built from Go modules, with Go $want or newer"
        exit 77
    fi
}

build_once() {
    local file=$1 what=$2 cached=$3 cache name
    shift 3
    name=$(basename "$file")
    if [ ! -x "$file" ] && [ -n "$cached" ]; then
        echo "$what isn't built yet: make test does it"
        exit 77
    fi
    cache=$(dirname "$file")
    mkdir -p "$cache"
    if [ ! -x "$file" ]; then
        exec 9>"$file.lock"
        flock 9 # who asks while it is being built waits for it
    fi
    if [ ! -x "$file" ]; then
        echo "build.sh: building $what, once: some 5 minutes of two processors, 4 GiB of memory" >&2
        nice go build -trimpath -o "$file.new" "$@" >&2 9>&- # behind whatever compiles beside it
        mv "$file.new" "$file"
        find "$cache" -name "${name%%-*}-*" -mtime +30 -delete # of other inputs, long unused
    fi
    touch "$file"
    echo "$file"
}
