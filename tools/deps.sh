#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# deps.sh PACKAGE...: installs those that are missing. Without root it prints the line to type and exits 2.
set -euo pipefail
command -v dpkg-query >/dev/null || { echo "deps.sh: not a Debian system; what is needed: $*" >&2; exit 2; }

missing() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

mapfile -t need < <(missing "$@")
[ ${#need[@]} -gt 0 ] || exit 0
install=(apt-get install -y --no-install-recommends "${need[@]}")
if [ "$(id -u)" != 0 ]; then
    echo "Packages are missing. Type, as root: apt-get update && ${install[*]}" >&2
    exit 2
fi
export DEBIAN_FRONTEND=noninteractive
echo "deps: installing ${need[*]}"
# Fresh lists first: those of an image are often empty, or older than the mirror.
apt-get update -q
"${install[@]}" -q </dev/null
