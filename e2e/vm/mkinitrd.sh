#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# mkinitrd.sh KERNEL_TREE OUT: an uncompressed cpio with busybox, kernel modules, init and agent.
#
#   /init  /vm/agent  /vm/bin/* (busybox)  /vm/preload (modules to insert, in order)
#   /vm/modules/* (flat, with a modules.dep of their own)  /vm/modprobe (what the kernel calls)
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
tree=$1 out=$2
PATH=$PATH:/usr/sbin:/sbin
[ -d "$tree/lib/modules" ] || tree=$tree/usr
version=$(basename "$tree"/lib/modules/*)

# Inserted before the template is saved, so that no run pays for them.
PRELOAD="virtio_pci virtio_console virtio_blk virtio_net virtio_rng 9pnet_virtio 9p overlay
 dm_mod dm_crypt loop ext4 aesni_intel xts"
# Found by the kernel itself when something asks for them.
ON_DEMAND="dm_flakey dm_delay dm_log_writes dm_zero dm_snapshot dm_integrity dm_thin_pool dm_verity
 xfs btrfs squashfs brd null_blk scsi_debug sd_mod nbd fuse
 cbc cmac hmac sha1_generic sha256_generic sha512_generic crc32c_generic crc32c-intel crc32_generic
 crc32_pclmul algif_skcipher algif_hash authenc
 vsock vmw_vsock_virtio_transport qemu_fw_cfg
 bridge veth br_netfilter tun dummy ip_tables iptable_nat iptable_filter nf_nat nf_conntrack nf_tables
 nft_compat xt_comment xt_mark xt_conntrack xt_MASQUERADE"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
modules=$root/lib/modules/$version
mkdir -p "$root"/{dev,proc,sys,run,cgroup,lower,upper,host,newroot,vm/bin} "$modules"

unpack_module() { # FILE TARGET
    case $1 in
    *.xz) xz -dc "$1" >"$2" ;;
    *.zst) zstd -qdc "$1" >"$2" ;;
    *) cp "$1" "$2" ;;
    esac
    strip --strip-debug "$2"
}

add_module() { # NAME: with what it depends on, in the order of insertion; prints the file names
    local action file name
    # A module that this kernel has built in or doesn't have at all is no error here: a test that needs it says so.
    { modprobe -d "$tree" -S "$version" --show-depends "$1" 2>/dev/null || true; } |
        while read -r action file _; do
            [ "$action" = insmod ] || continue
            name=$(basename "$file")
            name=${name%.xz}
            name=${name%.zst}
            [ -e "$modules/$name" ] || unpack_module "$file" "$modules/$name"
            echo "$name"
        done
}

[ -s "$tree/lib/modules/$version/modules.dep.bin" ] || depmod -b "$tree" "$version"
for module in $PRELOAD; do add_module "$module"; done | awk '!seen[$0]++' >"$root/vm/preload"
for module in $ON_DEMAND; do add_module "$module"; done >/dev/null
cp "$tree/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} "$modules/"
depmod -b "$root" "$version"
mv "$modules" "$root/vm/modules"
ln -s /vm/modules "$modules"

cp "$(command -v busybox)" "$root/vm/bin/busybox"
for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$root/vm/bin/$applet"; done
printf '#!/run/vm/bin/sh\nexec /run/vm/bin/modprobe -q "$@"\n' >"$root/vm/modprobe"
ln -s /vm "$root/run/vm"
cp "$here/init" "$root/init"
cp "$here/agent" "$root/vm/agent"
chmod +x "$root/init" "$root/vm/agent" "$root/vm/modprobe"
(cd "$root" && find . -print0 | cpio --null -o -H newc --quiet) >"$out"
