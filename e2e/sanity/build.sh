#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# e2e/sanity/build.sh OUTDIR: builds the pinned csi-sanity and wirecheck into OUTDIR.
# Exit 77 with the reason on stdout where there is no Go that can.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: e2e/sanity/build.sh OUTDIR" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
want=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
if ! command -v go >/dev/null; then
    echo "no Go compiler: this is built from Go modules, with Go $want or newer"
    exit 77
fi
export GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOWORK=off CGO_ENABLED=0
have=$(go env GOVERSION)
have=${have#go}
if [ "$(printf '%s\n' "$want" "$have" | sort -V | head -1)" != "$want" ]; then
    echo "Go $have is too old: this is built from Go modules, with Go $want or newer"
    exit 77
fi
go build -trimpath -o "$out/csi-sanity" github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity
go build -trimpath -o "$out/wirecheck" ./wirecheck
