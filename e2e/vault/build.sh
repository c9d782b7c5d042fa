#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# e2e/vault/build.sh [--cached] [VERSION]: builds the test server with that Vault (default 1.21.2) unless the cache has it,
# and prints its path on stdout. Exit 77 with the reason on stdout where there is no Go that can, or, with --cached, when it
# isn't built yet. COFFER_VAULT_CACHE: another cache.
set -euo pipefail
cached=
if [ "${1:-}" = --cached ]; then
    cached=yes
    shift
fi
version=${1:-1.21.2}
cache=${COFFER_VAULT_CACHE:-$HOME/.cache/coffer-vault}
folder=$(dirname "$(readlink -f "$0")")
[ -f "$folder/$version/go.mod" ] || {
    echo "build.sh: no Vault $version here, only $(cd "$folder" && echo [0-9]*)" >&2
    exit 2
}
cd "$folder/$version"
# shellcheck source=e2e/go-module.sh
. ../../go-module.sh
need_go "the Vault server"
inputs=$({ cat go.mod go.sum ./*.go && go env GOVERSION GOARCH; } | sha256sum)
build_once "$cache/vault-$version-${inputs:0:16}" "Vault $version" "$cached" -ldflags '-s -w' .
