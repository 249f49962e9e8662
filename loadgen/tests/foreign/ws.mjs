// A server on node's `ws`: `/echo` echoes, every other path is a room whose messages everybody in it hears.
//
//   node ws.mjs
import { createRequire } from 'node:module';

// The library is installed beside the clients that test the server.
const { WebSocket, WebSocketServer } = createRequire(new URL('../../../engine/tests/foreign/', import.meta.url))('ws');
const rooms = new Map();

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
server.on('connection', (socket, { url }) => {
  const room = rooms.get(url) ?? new Set();
  rooms.set(url, room.add(socket));
  socket.on('message', (data, isBinary) => {
    const hearers = url === '/echo' ? [socket] : room;
    for (const hearer of hearers) if (hearer.readyState === WebSocket.OPEN) hearer.send(data, { binary: isBinary });
  });
  socket.on('close', () => room.delete(socket));
  socket.on('error', () => room.delete(socket)); // clients that are gone without a goodbye are part of the test
});
server.on('listening', () => console.error(`Listening on 127.0.0.1:${server.address().port}`));
