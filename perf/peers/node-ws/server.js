// node's `ws` with its native helper for masks (bufferutil), as its documentation says: no compression, one send per client.
//
//   node server.js PORT       `/echo` echoes; every other path broadcasts to everybody, the sender included
//
// ws writes each frame by itself; the library offers nothing that would gather them.
import { WebSocket, WebSocketServer } from 'ws';

const everybody = new Set();
const server = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(process.argv[2]),
  backlog: 4096,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: 16 << 20,
});
server.on('connection', (socket, { url }) => {
  const isEcho = url === '/echo';
  if (!isEcho) everybody.add(socket);
  socket.on('message', (data, isBinary) => {
    const options = { binary: isBinary };
    if (isEcho) return socket.send(data, options);
    for (const hearer of everybody) if (hearer.readyState === WebSocket.OPEN) hearer.send(data, options);
  });
  socket.on('close', () => everybody.delete(socket));
  socket.on('error', () => everybody.delete(socket)); // a client that is gone without a goodbye
});
server.on('listening', () => console.error(`Listening on 127.0.0.1:${server.address().port}`));
