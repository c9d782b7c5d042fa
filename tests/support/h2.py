# SPDX-License-Identifier: Apache-2.0
"""A gRPC client over a unix socket made of bytes (RFC 9113, RFC 7541 without Huffman, gRPC over HTTP/2), so that
tests can send what no library would."""
import socket
import struct
import time

PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def frame(kind, flags, stream, payload=b'', length=None):
    n = len(payload) if length is None else length
    return struct.pack('>I', n)[1:] + struct.pack('>BBI', kind, flags, stream) + payload


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, out = len(data) - 127, b'\x7f'
    while rest >= 128:
        out += bytes([rest % 128 + 128])
        rest //= 128
    return out + bytes([rest]) + data


def headers(path, extra=(), drop=()):
    """Every header as a literal that is not indexed."""
    lines = [(':method', 'POST'), (':scheme', 'http'), (':path', path), (':authority', 'localhost'),
             ('content-type', 'application/grpc'), ('te', 'trailers')]
    return b''.join(b'\x00' + text(k) + text(v) for k, v in [x for x in lines if x[0] not in drop] + list(extra))


def message(body, compressed=0, length=None):
    return struct.pack('>BI', compressed, len(body) if length is None else length) + body


class Decoder:
    """HPACK as gRPC's core writes it: no Huffman; of the static table only names that matter here."""

    def __init__(self):
        self.table = []

    def integer(self, data, at, bits):
        limit = (1 << bits) - 1
        value = data[at] & limit
        at += 1
        shift = 0
        while value >= limit or shift:
            byte = data[at]
            at += 1
            value += (byte & 127) << shift
            shift += 7
            if not byte & 128:
                break
        return value, at

    def string(self, data, at):
        assert not data[at] & 128, 'Huffman'
        n, at = self.integer(data, at, 7)
        return data[at:at + n], at + n

    def entry(self, index):
        return self.table[index - 62] if index >= 62 else (b'static-%d' % index, b'')

    def decode(self, data):
        at, out = 0, {}
        while at < len(data):
            first = data[at]
            if first & 0x80:
                index, at = self.integer(data, at, 7)
                name, value = self.entry(index)
            elif first & 0xe0 == 0x20:
                _, at = self.integer(data, at, 5)
                continue
            else:
                index, at = self.integer(data, at, 6 if first & 0x40 else 4)
                name, at = self.string(data, at) if index == 0 else (self.entry(index)[0], at)
                value, at = self.string(data, at)
                if first & 0x40:
                    self.table.insert(0, (name, value))
            out[name.decode()] = value
        return out


class Connection:
    def __init__(self, path, preface=True, timeout=10):
        self.sock = socket.socket(socket.AF_UNIX)
        self.timeout = timeout
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.buf, self.decoder, self.stream = b'', Decoder(), -1
        if preface:
            self.send(PREFACE + frame(SETTINGS, 0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def open(self, path, **how):
        self.stream += 2
        self.send(frame(HEADERS, END_HEADERS, self.stream, headers(path, **how)))
        return self.stream

    def read_frame(self):
        """(kind, flags, stream, payload), or None when the peer closed."""
        while True:
            if len(self.buf) >= 9:
                n = int.from_bytes(self.buf[:3], 'big')
                if len(self.buf) >= 9 + n:
                    kind, flags, stream = struct.unpack('>BBI', self.buf[3:9])
                    payload, self.buf = self.buf[9:9 + n], self.buf[9 + n:]
                    return kind, flags, stream & 0x7fffffff, payload
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.buf += data

    def result(self, stream):
        """(grpc-status, grpc-message) of a stream; (None, why) when it or the connection was ended otherwise."""
        until = time.monotonic() + max(20, self.timeout)
        while time.monotonic() < until:
            got = self.read_frame()
            if got is None:
                return None, 'closed'
            kind, flags, on, payload = got
            if kind == SETTINGS and not flags & ACK:
                self.send(frame(SETTINGS, ACK, 0))
            elif kind == HEADERS:
                fields = self.decoder.decode(payload)
                if on == stream and 'grpc-status' in fields:
                    return int(fields['grpc-status']), fields.get('grpc-message', b'').decode()
            elif kind == RST_STREAM and on == stream:
                return None, 'reset %d' % struct.unpack('>I', payload)
            elif kind == GOAWAY:
                return None, 'goaway %d' % struct.unpack('>I', payload[4:8])
        return None, 'no answer'

    def call(self, path, body):
        """One whole call with these message bytes."""
        stream = self.open(path)
        self.send(frame(DATA, END_STREAM, stream, message(body)))
        return self.result(stream)


def varint(value):
    out = b''
    while value >= 128:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def field(number, data):
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(data)) + data
