# SPDX-License-Identifier: Apache-2.0
"""Users' VMs on a plain host, for the story `host`: coffer-launch by its own unit, on a volume that is mounted at /srv/data."""
import json
import socket
import subprocess

from fixture import connectable, wait_for
from tap import demand

CLOUD = '0123456789abcdef0123456789abcdef'
SOCKET = '/run/coffer/launch/launch.sock'


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f'{" ".join(argv)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}')
    return done.stdout


def show(*names):
    """Sorted: systemctl has an order of its own."""
    return sorted(run('systemctl', 'show', 'coffer-launch', *(f'--property={n}' for n in names)).splitlines())


def ask_launch(verb, **fields):
    wait_for('the launcher', lambda: connectable(SOCKET), 300)  # an active unit may be a moment from listening
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(SOCKET)
        s.sendall(json.dumps({'verb': verb, **fields}).encode())
        s.shutdown(socket.SHUT_WR)
        answer = json.loads(b''.join(iter(lambda: s.recv(65536), b'')))
    demand('error' not in answer, f'{verb}: {answer}')
    return answer


def vm_answers():
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(f'/run/coffer/vms/{CLOUD}.sock')
            s.sendall(b'GET /personalcloud/ HTTP/1.0\r\n\r\n')
            return s.recv(4096).startswith(b'HTTP/1.1 200')
    except OSError:
        return False


def populated():
    """Whether a process is in the VM's control group. systemd may leave the empty group, which is the next start's to take."""
    try:
        with open(f'/sys/fs/cgroup/system.slice/coffer-vms.service/{CLOUD}/cgroup.events', encoding='ascii') as f:
            return 'populated 1' in f.read()
    except FileNotFoundError:
        return False


def users_vms():
    """coffer-launch's own unit: VMs are in coffer-vms' control group, stay when it is restarted or killed, and go with coffer-vms."""
    run('systemd-analyze', 'verify', '--man=no', *(f'coffer-{name}.service' for name in ('launch', 'vms', 'scheduler', 'scheduler-keyd')))
    run('sh', '-ec', f'''cp /usr/share/doc/coffer/launch.json /etc/coffer/
        echo 'FLAGS="--peer root:root"' >/etc/coffer/coffer-launch.env
        systemctl enable --now coffer-launch
        mkdir -p /run/coffer/clouds/{CLOUD}/volume
        mount --bind /srv/data /run/coffer/clouds/{CLOUD}/volume''')
    demand(ask_launch('start', id=CLOUD)['started'], 'nothing was started')
    wait_for('the VM', vm_answers, 600)
    pid = ask_launch('list')['vms'][0]['pid']
    with open(f'/proc/{pid}/cgroup', encoding='ascii') as f:
        demand(f'/coffer-vms.service/{CLOUD}\n' in f.read(), 'the VM is in another control group')
    run('systemctl', 'restart', 'coffer-launch')
    run('systemctl', 'kill', '--kill-whom=main', '--signal=KILL', 'coffer-launch')
    wait_for('the launcher again', lambda: show('ActiveState', 'NRestarts') == ['ActiveState=active', 'NRestarts=1'], 300)
    demand(ask_launch('list')['vms'][0]['pid'] == pid and vm_answers(), 'the VM went with its launcher')
    ask_launch('stop', id=CLOUD, grace_ms=60000)
    demand(ask_launch('start', id=CLOUD)['started'], 'nothing was started again')
    run('systemctl', 'stop', 'coffer-vms')
    wait_for('the end of the VM with coffer-vms', lambda: not populated(), 300)
    run('systemctl', 'start', 'coffer-launch')
    wait_for('the launcher once more', lambda: show('ActiveState') == ['ActiveState=active'], 300)
    demand(ask_launch('list')['vms'][0]['state'] == 'exited', 'it runs still')
    demand(ask_launch('start', id=CLOUD)['started'], 'it does not start in a new control group')
    ask_launch('stop', id=CLOUD, grace_ms=60000)
    run('umount', f'/run/coffer/clouds/{CLOUD}/volume')
    run('systemctl', 'disable', '--now', 'coffer-launch', 'coffer-vms')
