#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# e2e/sanity/wire.sh: TAP; is csi/proto/csi.proto what the CSI specification publishes? Needs Go and protoc.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
reason=$("$here/build.sh" "$tmp") || {
    [ $? -eq 77 ] || exit 1
    echo "ok 1 - csi.proto equals the published descriptor # SKIP $reason"
    exit 77
}
protoc --proto_path="$here/../../csi/proto" --include_imports --descriptor_set_out="$tmp/csi.pb" csi.proto
"$tmp/wirecheck" "$tmp/csi.pb"
