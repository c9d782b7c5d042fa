#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# node.sh: makes the micro-VM a Kubernetes node, then does what the host says. It runs as the VM's job (e2e/lib/kubenode.py), or in
# namespaces of this machine (native.sh).
#   NODE, ADDRESS, GATEWAY   its name and its place in the cluster's network
#   SHARE                    a folder shared with the host: configuration comes in, logs go out
#   COMPONENTS               what build.sh made
# Disks by their serials, or by a variable of that name: disk0 is the node's own (images, kubelet's state, pods' logs), disk1 the
# pool's, at /var/lib/coffer.
# Each line on stdin is "ID COMMAND", the command in base64; the answer is "done ID STATUS OUTPUT", the output in base64.
set -u
PATH=$COMPONENTS/debian/usr/bin:$COMPONENTS/debian/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say() {
    local seconds
    read -r seconds _ </proc/uptime
    echo "up $seconds $*"
}

fail() {
    echo "fail $*"
    exit 1
}

disk() { # SERIAL: its device; which of two is plugged in first is a race
    local block
    if [ -n "${!1-}" ]; then
        echo "${!1}"
        return
    fi
    for block in /sys/block/vd*; do
        [ "$(cat "$block/serial" 2>/dev/null)" != "$1" ] || echo "/dev/${block##*/}"
    done
}

start_network() { # all VMs come from one template, so each takes a hardware address of its own
    ip address flush dev eth0
    ip link set eth0 down
    ip link set eth0 address "52:54:00:99:00:${ADDRESS##*.}"
    ip link set eth0 up
    ip address add "$ADDRESS/24" dev eth0
    ip route add default via "$GATEWAY"
    echo 1 >/proc/sys/net/ipv4/ip_forward
    hostname "$NODE"
}

mount_disks() { # an overlay can't lie on the VM's root, which is one itself
    local folder
    mkdir -p /run/node /var/lib/coffer
    mount "$(disk disk0)" /run/node || fail "the node's disk"
    mount --make-private /run/node # or each mount of kubelet's would be seen twice
    # not /var/lib/cni: its files aren't synced, and one that a power cut left empty keeps a pod from ever starting again
    for folder in /var/lib/kubelet /var/lib/containerd /var/log/pods /var/log/containers; do
        mkdir -p "/run/node$folder" "$folder"
        mount --bind "/run/node$folder" "$folder" || fail "$folder"
    done
    mount --make-rshared /var/lib/kubelet
    mount "$(disk disk1)" /var/lib/coffer || fail "the pool's disk"
}

wait_for() { # SECONDS WHAT COMMAND…
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "$what is not there"
        sleep 0.1
    done
    say "$what"
}

start_containerd() {
    containerd -c "$SHARE/containerd.toml" >>"$SHARE/logs/containerd.log" 2>&1 &
    echo $! >/run/containerd.pid
    wait_for 300 containerd ctr -n k8s.io version
}

start_kubelet() {
    "$COMPONENTS/bin/kubelet" --config="$SHARE/kubelet.yaml" --kubeconfig="$SHARE/kubelet.kubeconfig" \
        --hostname-override="$NODE" --node-ip="$ADDRESS" --root-dir=/var/lib/kubelet --cert-dir=/var/lib/kubelet/pki --v=2 \
        >>"$SHARE/logs/kubelet.log" 2>&1 &
    echo $! >/run/kubelet.pid
    wait_for 300 kubelet curl -sf http://127.0.0.1:10248/healthz
}

say "the node's script starts"
mount --make-rshared /
start_network
mount_disks
start_containerd
start_kubelet
echo ready
while read -r id command; do
    # in a shell of its own, which may be ended by it; functions from above are there
    output=$(eval "$(base64 -d <<<"$command")" 2>&1 </dev/null | base64 -w0
        exit "${PIPESTATUS[0]}")
    echo "done $id $? $output"
done
