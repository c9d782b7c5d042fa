# SPDX-License-Identifier: Apache-2.0
"""What no HTTP/2 client sends: whole connections by name. Each may end its connection and nothing else."""
import h2

PROBE, DELETE = '/csi.v1.Identity/Probe', '/csi.v1.Controller/DeleteVolume'


def begun(*frames):
    return h2.PREFACE + h2.frame(h2.SETTINGS, 0, 0) + b''.join(frames)


def deleting(*frames):
    return begun(h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.headers(DELETE)), *frames)


FRAMES = {
    'no preface': b'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
    'half a preface': h2.PREFACE[:10],
    'nothing': b'',
    'zeros': b'\0' * 4096,
    'all ones': h2.PREFACE + b'\xff' * 4096,
    'no settings': h2.PREFACE + h2.frame(h2.PING, 0, 0, b'12345678'),
    'settings on a stream': h2.PREFACE + h2.frame(h2.SETTINGS, 0, 1),
    'settings of 5 bytes': h2.PREFACE + h2.frame(h2.SETTINGS, 0, 0, b'12345'),
    'a frame of 16 MiB': begun(h2.frame(h2.DATA, 0, 1, b'x', length=0xffffff)),
    'data without headers': begun(h2.frame(h2.DATA, 0, 1, h2.message(b''))),
    'broken HPACK': begun(h2.frame(h2.HEADERS, 4, 1, b'\xff\xff\xff\xff\xff\x7f')),
    'HPACK index out of range': begun(h2.frame(h2.HEADERS, 5, 1, b'\xfe')),
    'headers never end': begun(h2.frame(h2.HEADERS, 0, 1, h2.headers(PROBE))),
    'a stray continuation': begun(h2.frame(h2.CONTINUATION, 4, 1, b'')),
    'an even stream': begun(h2.frame(h2.HEADERS, 5, 2, h2.headers(PROBE))),
    'a push promise': begun(h2.frame(h2.PUSH_PROMISE, 4, 1, b'\0\0\0\2')),
    'a window of zero': begun(h2.frame(h2.WINDOW_UPDATE, 0, 0, b'\0\0\0\0')),
    'headers of 16 kB': begun(h2.frame(h2.HEADERS, 4, 1, h2.headers(PROBE, extra=[('x', b'y' * 16000)]))),
    'half a message': deleting(h2.frame(h2.DATA, 0, 1, h2.message(b'\x0a', length=1000))),
    'half a message, ended': deleting(h2.frame(h2.DATA, h2.END_STREAM, 1, h2.message(b'\x0a', length=1000))),
    'a message of 4 GiB': deleting(h2.frame(h2.DATA, 0, 1, h2.message(b'\x0a', length=0xffffffff))),
    'a call whose caller leaves': deleting(h2.frame(h2.DATA, h2.END_STREAM, 1, h2.message(h2.field(1, b'v')))),
    'no authority': begun(h2.frame(h2.HEADERS, 5, 1, h2.headers(PROBE, drop=(':authority',)))),
    'no path': begun(h2.frame(h2.HEADERS, 5, 1, h2.headers(PROBE, drop=(':path',)))),
}
