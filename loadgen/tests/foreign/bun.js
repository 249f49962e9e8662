// A server on Bun: `/echo` echoes, every other path is a room whose messages everybody in it hears.
//
//   bun bun.js
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  fetch(request, server) {
    const { pathname } = new URL(request.url);
    if (!server.upgrade(request, { data: { room: pathname } })) return new Response('WebSocket only\n', { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    sendPings: false,
    idleTimeout: 0,
    backpressureLimit: 64 << 20,
    closeOnBackpressureLimit: false,
    open(socket) {
      if (socket.data.room !== '/echo') socket.subscribe(socket.data.room);
    },
    message(socket, message) {
      if (socket.data.room === '/echo') socket.send(message);
      else server.publish(socket.data.room, message);
    },
  },
});
console.error(`Listening on ${server.hostname}:${server.port}`);
