#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# e2e/sanity/build.sh OUTDIR: builds the pinned csi-sanity and wirecheck into OUTDIR.
# Exit 77 with the reason on stdout where there is no Go that can.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: e2e/sanity/build.sh OUTDIR" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
# shellcheck source=e2e/go-module.sh
. ../go-module.sh
need_go "csi-sanity"
go build -trimpath -o "$out/csi-sanity" github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity
go build -trimpath -o "$out/wirecheck" ./wirecheck
