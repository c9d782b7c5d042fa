#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# goserver/build.sh OUTDIR: builds bare-csi into OUTDIR. Exit 77 with the reason on stdout where there is no Go that can.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: tests/bench/goserver/build.sh OUTDIR" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
want=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || echo go0)
have=${have#go}
if [ "$(printf '%s\n' "$want" "$have" | sort -V | head -1)" != "$want" ]; then
    echo "the server in Go needs Go $want or newer"
    exit 77
fi
GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOWORK=off CGO_ENABLED=0 go build -trimpath -o "$out/bare-csi" .
