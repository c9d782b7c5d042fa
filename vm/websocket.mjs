// SPDX-License-Identifier: Apache-2.0
// A WebSocket (RFC 6455) that sends back what it gets: messages in one frame, of at most MESSAGE_MAX bytes. It shows that
// an upgraded connection reaches the VM.
import { createHash } from 'node:crypto';

const MESSAGE_MAX = 1 << 16;
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const OPCODE = { text: 1, binary: 2, close: 8, ping: 9, pong: 10 };
const CLOSE = { goingAway: 1001, protocolError: 1002, tooBig: 1009 };

const open = new Set();

function frame(opcode, payload) {
  const long = payload.length > 125;
  const head = Buffer.alloc(payload.length > 65535 ? 10 : long ? 4 : 2);
  head[0] = 0x80 | opcode;
  if (payload.length > 65535) {
    head[1] = 127;
    head.writeBigUInt64BE(BigInt(payload.length), 2);
  } else if (long) {
    head[1] = 126;
    head.writeUInt16BE(payload.length, 2);
  } else {
    head[1] = payload.length;
  }
  return Buffer.concat([head, payload]);
}

function close(socket, code) {
  const payload = Buffer.alloc(2);
  payload.writeUInt16BE(code);
  socket.end(frame(OPCODE.close, payload));
}

// The first whole frame: {opcode, payload, size}; undefined: more is needed; a number: the code to close with.
function parse(data) {
  if (data.length < 2) return undefined;
  const opcode = data[0] & 0x0f;
  let size = data[1] & 0x7f;
  let at = 2;
  // a client's frame is masked; a message in several frames isn't taken here
  if ((data[0] & 0xf0) !== 0x80 || (data[1] & 0x80) === 0) return CLOSE.protocolError;
  if (size === 127) return CLOSE.tooBig;
  if (size === 126) {
    if (data.length < 4) return undefined;
    size = data.readUInt16BE(2);
    at = 4;
  }
  if (size > MESSAGE_MAX) return CLOSE.tooBig;
  if (data.length < at + 4 + size) return undefined;
  const payload = Buffer.from(data.subarray(at + 4, at + 4 + size));
  for (let i = 0; i < size; i++) payload[i] ^= data[at + (i & 3)];
  return { opcode, payload, size: at + 4 + size };
}

function reply(socket, { opcode, payload }) {
  if (opcode === OPCODE.text || opcode === OPCODE.binary) socket.write(frame(opcode, payload));
  else if (opcode === OPCODE.ping) socket.write(frame(OPCODE.pong, payload));
  else if (opcode === OPCODE.close) socket.end(frame(OPCODE.close, payload));
  else if (opcode !== OPCODE.pong) close(socket, CLOSE.protocolError);
}

function serve(socket, first) {
  let data = first;
  const take = () => {
    for (let got = parse(data); got !== undefined; got = parse(data)) {
      if (typeof got === 'number') return close(socket, got);
      data = data.subarray(got.size);
      reply(socket, got);
      if (socket.writableEnded) return;
    }
  };
  const next = () => {
    take();
    if (socket.writableNeedDrain) socket.pause(); // who doesn't read what comes back sends no more
  };
  open.add(socket);
  socket.on('close', () => open.delete(socket));
  socket.on('drain', () => socket.resume());
  socket.on('data', (chunk) => {
    if (socket.writableEnded) return;
    data = Buffer.concat([data, chunk]);
    next();
  });
  next();
}

// Answers an HTTP request to upgrade; one that isn't for a WebSocket gets 400. The caller takes the socket's errors.
export function upgrade(request, socket, head) {
  const key = request.headers['sec-websocket-key'];
  if (request.headers.upgrade?.toLowerCase() !== 'websocket' || key === undefined)
    return socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
  const accept = createHash('sha1').update(key + GUID).digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  return serve(socket, head);
}

export function closeAll() {
  for (const socket of open) close(socket, CLOSE.goingAway);
}
