#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# native.sh: makes namespaces of their own a Kubernetes node, as the micro-VM is one, then becomes node.sh. It runs as process 1 of
# new mount, network, process, host name and IPC namespaces (e2e/lib/kubenative.py), with node.sh's variables and
#   CABLE, BRIDGE   the host's end of the node's cable, and what it is plugged into, in the network namespace of the story
#   CGROUP          an empty cgroup, of this machine's root: the root of the node's
# What the node writes below /run, /var/lib and /var/log goes to memory, but for its disks: nothing of it stays on this machine.
set -eu

if [ "${1-}" != inside ]; then
    echo 0 >"$CGROUP/cgroup.procs"
    exec unshare --cgroup "$0" inside
fi

plug_cable() { # /proc is still the story's: its process 1 is where the bridge is
    local there="nsenter --net=/proc/1/ns/net"
    $there ip link add "$CABLE" type veth peer name eth0 netns 1
    $there ip link set "$CABLE" master "$BRIDGE" up
    ip link set lo up
}

own_system_mounts() { # cgroups have controllers only below a root without processes
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t cgroup2 cgroup /sys/fs/cgroup
    mkdir /sys/fs/cgroup/init
    echo 0 >/sys/fs/cgroup/init/cgroup.procs
}

layers_in_memory() { # what is needed of these folders is shown again at its place
    local folder shown fd
    local -A kept=()
    for shown in "$SHARE" "$COMPONENTS" "${0%/*}"; do
        exec {fd}<"$shown"
        kept[$shown]=$fd
    done
    mount -t tmpfs -o mode=755 memory /run
    for folder in /var/lib /var/log; do
        mkdir -p "/run/layers$folder/upper" "/run/layers$folder/work"
        mount -t overlay -o "lowerdir=$folder,upperdir=/run/layers$folder/upper,workdir=/run/layers$folder/work" memory "$folder"
    done
    for shown in "${!kept[@]}"; do
        mkdir -p "$shown"
        mount --no-canonicalize --bind "/proc/self/fd/${kept[$shown]}" "$shown"
        fd=${kept[$shown]}
        exec {fd}<&-
    done
}

own_settings() { # kubelet sets these, which are the whole machine's: it gets files instead
    local name
    for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_max{keys,bytes}; do
        mkdir -p "/run/settings/${name%/*}"
        cat "/proc/sys/$name" >"/run/settings/$name"
        mount --bind "/run/settings/$name" "/proc/sys/$name"
    done
}

own_devices() { # as after a boot: none of Coffer's
    mkdir -p /dev/coffer
    mount -t tmpfs -o mode=700 devices /dev/coffer
}

plug_cable
own_system_mounts
layers_in_memory
own_settings
own_devices
exec "${0%/*}/node.sh"
