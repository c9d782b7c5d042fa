#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# e2e/helm/build.sh [--cached]: builds Helm from the Go modules pinned in go.mod unless the cache has it, and prints its path
# on stdout. Exit 77 with the reason on stdout where there is no Go that can, or, with --cached, when it isn't built yet.
# COFFER_HELM_CACHE: another cache.
set -euo pipefail
cache=${COFFER_HELM_CACHE:-$HOME/.cache/coffer-helm}
cd "$(dirname "$(readlink -f "$0")")"
version=$(sed -n 's|^\(require\)\? *helm.sh/helm/v3 v\([0-9.]*\).*|\2|p' go.mod)
# shellcheck source=e2e/go-module.sh
. ../go-module.sh
need_go "Helm"
inputs=$({ cat go.mod go.sum build.sh && go env GOVERSION GOARCH; } | sha256sum)
helm=$cache/helm-$version-${inputs:0:16}
if [ ! -x "$helm" ] && [ "${1:-}" = --cached ]; then
    echo "Helm isn't built yet: e2e/helm/build.sh does it"
    exit 77
fi
mkdir -p "$cache"
if [ ! -x "$helm" ]; then
    exec 9>"$helm.lock"
    flock 9 # who asks while it is being built waits for it
fi
if [ ! -x "$helm" ]; then
    echo "build.sh: building Helm $version, once: some 4 minutes of two processors" >&2
    nice go build -trimpath -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=v$version" -o "$helm.new" \
        helm.sh/helm/v3/cmd/helm >&2 9>&-
    mv "$helm.new" "$helm"
    find "$cache" -name 'helm-*' -mtime +30 -delete # of other inputs, long unused
fi
touch "$helm"
echo "$helm"
