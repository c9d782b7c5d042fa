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
cached=
[ "${1:-}" != --cached ] || cached=yes
build_once "$cache/helm-$version-${inputs:0:16}" "Helm $version" "$cached" \
    -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=v$version" helm.sh/helm/v3/cmd/helm
