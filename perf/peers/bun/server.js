// Bun's `publish`, tuned as its documentation says: one topic for all, no compression, no pings, room for backpressure.
//
//   bun server.js PORT        `/echo` echoes; every other path broadcasts to everybody, the sender included
const EVERYBODY = 'all';
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(process.argv[2]),
  fetch(request, server) {
    const echo = new URL(request.url).pathname === '/echo';
    if (!server.upgrade(request, { data: { echo } })) return new Response('WebSocket only\n', { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    sendPings: false,
    idleTimeout: 0,
    maxPayloadLength: 16 << 20,
    backpressureLimit: 64 << 20,
    closeOnBackpressureLimit: false,
    open(ws) {
      if (!ws.data.echo) ws.subscribe(EVERYBODY);
    },
    message(ws, message) {
      if (ws.data.echo) ws.send(message);
      else server.publish(EVERYBODY, message);
    },
  },
});
console.error(`Listening on ${server.hostname}:${server.port}`);
