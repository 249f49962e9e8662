// Bun's `publish`, tuned as its documentation says: no compression, no pings, room for backpressure.
//
//   bun server.js PORT [CERT KEY]       `/echo` echoes; every other path is a topic whose messages everybody on it hears
const [port, cert, key] = process.argv.slice(2);
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(port),
  tls: cert && { cert: Bun.file(cert), key: Bun.file(key) },
  fetch(request, server) {
    const { pathname } = new URL(request.url);
    const topic = pathname === '/echo' ? '' : pathname;
    if (!server.upgrade(request, { data: { topic } })) return new Response('WebSocket only\n', { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    sendPings: false,
    idleTimeout: 0,
    maxPayloadLength: 16 << 20,
    backpressureLimit: 64 << 20,
    closeOnBackpressureLimit: false,
    open(ws) {
      if (ws.data.topic) ws.subscribe(ws.data.topic);
    },
    message(ws, message) {
      if (ws.data.topic) server.publish(ws.data.topic, message);
      else ws.send(message);
    },
  },
});
console.error(`Listening on ${server.hostname}:${server.port}`);
