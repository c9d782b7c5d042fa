#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# e2e/kubernetes/build.sh: makes what a cluster for the tests consists of, unless the cache has it, and prints its folder:
#   bin/     kube-apiserver … etcd, csi-provisioner, csi-resizer, from the Go modules pinned in components/
#   debian/  containerd, runc, CNI plugins, busybox: Debian's packages, unpacked; no daemon is installed or started
# Exit 77 with the reason on stdout where there is no Go that can. COFFER_KUBERNETES_CACHE: another cache.
set -euo pipefail
cache=${COFFER_KUBERNETES_CACHE:-$HOME/.cache/coffer-kubernetes}
here=$(dirname "$(readlink -f "$0")")
packages=(containerd runc containernetworking-plugins busybox-static)

cd "$here/components"
# shellcheck source=e2e/go-module.sh
. ../../go-module.sh
need_go "Kubernetes"
inputs=$({ cat go.mod go.sum && echo "${packages[@]}" && go env GOVERSION GOARCH; } | sha256sum)
folder=$cache/components-${inputs:0:16}

build_programs() { # FOLDER
    local release kubernetes=k8s.io/component-base/version
    release=$(sed -n 's|^require k8s.io/kubernetes v\(.*\)|\1|p' go.mod)
    echo "build.sh: building Kubernetes $release, once: about 10 minutes of two processors, 2 GiB of memory" >&2
    # one command and one module for all: what they share is compiled once; behind whatever compiles beside it
    nice go build -trimpath -o "$1/" -ldflags "-s -w -X $kubernetes.gitVersion=v$release -X $kubernetes.gitTreeState=clean
        -X $kubernetes.gitMajor=${release%%.*} -X $kubernetes.gitMinor=$(cut -d. -f2 <<<"$release")" tool >&2 9>&-
    mv "$1/server" "$1/etcd" # named after its package
}

# The sandbox's user could not write into root's cache: apt would warn, and leave the sandbox anyway.
download_once() { # FOLDER
    (cd "$1" && apt-get download -q -o APT::Sandbox::User=root "${packages[@]}" >&2)
}

unpack_packages() { # FOLDER; package lists older than the mirror are the usual failure: root can renew them
    local package
    mkdir -p "$1/deb"
    download_once "$1/deb" || { [ "$(id -u)" = 0 ] && apt-get update -q >&2 && download_once "$1/deb"; }
    for package in "$1"/deb/*.deb; do dpkg -x "$package" "$1"; done
    rm -rf "${1:?}/deb" "${1:?}/usr/share" "${1:?}/etc"
}

if [ ! -e "$folder/complete" ]; then
    mkdir -p "$folder"
    exec 9>"$folder/lock"
    flock 9 # who asks while it is being built waits for it
fi
if [ ! -e "$folder/complete" ]; then
    rm -rf "$folder/debian"
    mkdir -p "$folder/bin" "$folder/debian"
    unpack_packages "$folder/debian"
    build_programs "$folder/bin"
    touch "$folder/complete"
    # of other inputs, long unused
    find "$cache" -maxdepth 1 -name 'components-*' -mtime +30 -exec rm -rf {} +
fi
touch "$folder"
echo "$folder"
