#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# setup.sh: makes the micro-VM's kernel and initrd, once, and prints the folder they are in.
#
# They live in the cache (COFFER_VM_CACHE, default ~/.cache/coffer-vm), in a folder named by a hash of the
# recipe, so two checkouts with different recipes don't disturb each other. The kernel is Debian's own package,
# fetched with apt-get download: no root is needed, nothing is installed. `make deps` installs the programs.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
cache=${COFFER_VM_CACHE:-$HOME/.cache/coffer-vm}
recipe=$(cd "$here" && cat setup.sh mkinitrd.sh extract-vmlinux.py init agent | sha256sum | cut -c1-12)
images=$cache/images-$recipe

fail() {
    echo "vm/setup.sh: $*" >&2
    exit 1
}

need_programs() {
    local program missing=
    for program in qemu-system-x86_64 busybox depmod modprobe cpio zstd xz strip mkfs.ext4; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || missing="$missing $program"
    done
    [ -z "$missing" ] || fail "missing:$missing; install them with \`make deps\` (as root)"
}

# The newest kernel package apt offers, 6.12 before Debian 12's own 6.1.
kernel_package() {
    local meta name
    for meta in linux-image-6.12-amd64 linux-image-amd64; do
        name=$(apt-cache depends "$meta" 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\)/\1/p' | head -n 1)
        [ -z "$name" ] || { echo "$name"; return; }
    done
}

# Leaves the package's vmlinuz and modules in $cache/kernel.
fetch_kernel() {
    local package work=$cache/kernel.new
    [ ! -s "$cache/kernel/package" ] || return 0
    package=$(kernel_package)
    if [ -z "$package" ] && [ "$(id -u)" = 0 ]; then
        apt-get update -q >&2 || true
        package=$(kernel_package)
    fi
    [ -n "$package" ] || fail "apt offers no linux-image package; as root: apt-get update"
    echo "vm/setup.sh: fetching $package" >&2
    rm -rf "$work"
    mkdir -p "$work/deb"
    download "$package" "$work/deb" || fail "cannot download $package; as root: apt-get update, then try again"
    dpkg -x "$work"/deb/*.deb "$work/tree"
    rm -rf "$work/deb" "$work/tree/usr/share"
    mv "$work/tree"/* "$work/"
    rmdir "$work/tree"
    echo "$package" >"$work/package"
    rm -rf "$cache/kernel"
    mv "$work" "$cache/kernel"
}

# The sandbox's user could not write into root's cache: apt would warn, and leave the sandbox anyway.
download_once() { # PACKAGE FOLDER
    (cd "$2" && apt-get download -q -o APT::Sandbox::User=root "$1" >&2)
}

download() { # PACKAGE FOLDER; package lists older than the mirror are the usual failure: root can renew them
    download_once "$@" && return
    [ "$(id -u)" = 0 ] || return
    apt-get update -q >&2 && download_once "$@"
}

build_images() {
    local work=$images.new
    rm -rf "$work"
    mkdir -p "$work"
    python3 "$here/extract-vmlinux.py" "$cache"/kernel/boot/vmlinuz-* "$work/vmlinux" >&2
    "$here/mkinitrd.sh" "$cache/kernel" "$work/initrd"
    (cd "$work" && sha256sum vmlinux initrd >digests)
    rm -rf "$images"
    mv "$work" "$images"
}

if [ ! -s "$images/digests" ]; then
    need_programs
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    if [ ! -s "$images/digests" ]; then
        find "$cache" -maxdepth 1 -name 'images-*' -mtime +7 -exec rm -rf {} +
        fetch_kernel
        build_images
    fi
fi
echo "$images"
