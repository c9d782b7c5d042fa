#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# gobuild.sh MODULE OUTDIR NAME: builds the Go module in folder MODULE (beside this file) as OUTDIR/NAME. Exit 77 with the
# reason on stdout where there is no Go that can.
set -euo pipefail
[ $# -eq 3 ] || { echo "usage: tests/bench/gobuild.sh MODULE OUTDIR NAME" >&2; exit 2; }
mkdir -p "$2"
out=$(cd "$2" && pwd)
cd "$(dirname "$0")/$1"
want=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || echo go0)
have=${have#go}
if [ "$(printf '%s\n' "$want" "$have" | sort -V | head -1)" != "$want" ]; then
    echo "$1 needs Go $want or newer"
    exit 77
fi
GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOWORK=off CGO_ENABLED=0 go build -trimpath -o "$out/$3" .
