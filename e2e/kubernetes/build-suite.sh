#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# e2e/kubernetes/build-suite.sh: makes the storage suite of Kubernetes' own tests, unless the cache has it, and prints its folder:
#   storage.test   the suite; ginkgo runs it in several processes
#   agnhost        the program that the suite's helper pods consist of
# The module suite/ pins the versions that components/ has, so what build.sh compiled is used again.
# Exit 77 with the reason on stdout where there is no Go that can. COFFER_KUBERNETES_CACHE: another cache.
set -euo pipefail
cache=${COFFER_KUBERNETES_CACHE:-$HOME/.cache/coffer-kubernetes}
here=$(dirname "$(readlink -f "$0")")

cd "$here/suite"
# shellcheck source=e2e/go-module.sh
. ../../go-module.sh
need_go "Kubernetes' storage suite"
inputs=$({ cat go.mod go.sum suite_test.go && go env GOVERSION GOARCH; } | sha256sum)
folder=$cache/suite-${inputs:0:16}

if [ ! -e "$folder/complete" ]; then
    mkdir -p "$folder"
    exec 9>"$folder/lock"
    flock 9 # who asks while it is being built waits for it
fi
if [ ! -e "$folder/complete" ]; then
    echo "build-suite.sh: building Kubernetes' storage suite, once: 3 minutes of two processors when Kubernetes is built" >&2
    nice go test -c -trimpath -ldflags "-s -w" -o "$folder/storage.test" . >&2 9>&-
    nice go build -trimpath -ldflags "-s -w" -o "$folder/" tool >&2 9>&-
    touch "$folder/complete"
    # of other inputs, long unused
    find "$cache" -maxdepth 1 -name 'suite-*' -mtime +30 -exec rm -rf {} +
fi
touch "$folder"
echo "$folder"
