# SPDX-License-Identifier: Apache-2.0
"""What a node of a cluster has that Coffer could leave behind, and how its processes are: for stories that compare a node before
and after.

    before = kubeleaks.state(node)
    …
    kubeleaks.differences(before, kubeleaks.state(node))      {} when nothing came and nothing went
"""
import urllib.request

POOL, PODS = '/var/lib/coffer/default', '/var/lib/kubelet/pods'
# what: a shell command, one thing a line. The folders volumes/XX stay: there are never more than 256.
THINGS = {
    'mapping': 'dmsetup ls | cut -f1 | grep -v "^No devices" || true',
    'loop device': 'losetup -l -n -O NAME,BACK-FILE',
    'mount': 'cut -d" " -f5 /proc/self/mountinfo | grep -e csi -e coffer || true',
    'device node': 'ls /dev/coffer 2>/dev/null || true',
    'file of the pool': f'find {POOL} -not -path "{POOL}/volumes/??"',
    'staging folder': 'find /var/lib/kubelet/plugins/kubernetes.io/csi/csi.coffer.dev -mindepth 1 -maxdepth 1 2>/dev/null || true',
    'target folder': f'find {PODS} -maxdepth 4 -path "*/kubernetes.io~csi/*" -o -maxdepth 4 -path "*/volumeDevices/*"',
    'socket': 'ss -xlH | awk "{print \\$5}" | grep -e csi -e coffer -e keyd | sort || true',
    'child or zombie': 'ps -eo stat,comm --no-headers | awk \'/^Z/ || /coffer-crypt|mkfs|fsck|resize2fs/\'',
}
PROCESSES = ('coffer-node', 'coffer-controller', 'coffer-keyd')
ABOUT = '''for pid in $(pgrep -x 'coffer-(node|controll|keyd)'); do
  echo "$pid $(tr '\\0' ' ' </proc/$pid/cmdline | sed 's/ .*--allow=/ /; s/ --.*//') \
$(awk '/^VmRSS|^VmHWM/ {printf "%s ", $2}' /proc/$pid/status)\
$(cat /sys/fs/cgroup$(cut -d: -f3 /proc/$pid/cgroup)/memory.peak) $(ls /proc/$pid/fd | wc -l) $(ls /proc/$pid/task | wc -l)"
done'''


def state(node):
    """{what: set of the things of that kind}"""
    script = '; '.join(f'echo "== {what}"; {command}' for what, command in THINGS.items())
    found, part = {}, None
    for line in node.run(script).splitlines():
        if line.startswith('== '):
            part = found.setdefault(line[3:], set())
        elif line.strip():
            part.add(line.strip())
    return found


def differences(before, after):
    """{what: [('+' or '-') thing]}"""
    changed = {what: [f'+{t}' for t in sorted(after[what] - before[what])] + [f'-{t}' for t in sorted(before[what] - after[what])]
               for what in before}
    return {what: things for what, things in changed.items() if things}


class Process:
    """KiB: rss now, peak ever (both of the process), container (the most that its cgroup had, the programs it starts and page
    cache included). fds, threads: how many."""

    def __init__(self, words):
        self.pid, self.name = int(words[0]), ' '.join(words[1:-5])
        self.rss, self.peak, self.container, self.fds, self.threads = (int(w) for w in words[-5:])
        self.container //= 1024

    def __str__(self):
        return (f'{self.name} ({self.pid}): RSS {self.rss} kB, at most {self.peak} kB, its container {self.container} kB; '
                f'{self.fds} descriptors, {self.threads} threads')


def processes(node):
    """{pid: Process} of Coffer's daemons there."""
    found = [Process(line.split()) for line in node.run(ABOUT).splitlines()]
    return {p.pid: p for p in found}


def metrics(address):
    """{name with its labels: value} of a daemon's /metrics at ADDRESS:PORT."""
    with urllib.request.urlopen(f'http://{address}/metrics', timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(' ') for line in lines if line[:1] not in ('#', ''))}
