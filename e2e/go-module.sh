# SPDX-License-Identifier: Apache-2.0
# e2e/go-module.sh: sourced by the build.sh of what is built from pinned Go modules, in the folder of its go.mod.
# need_go WHAT: sets Go's environment; ends the script with 77 and the reason on stdout where there is no Go that can.
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
