// uWebSockets' `publish`, tuned as its documentation says: no compression, no pings, room for backpressure.
//
//   peer-uwebsockets PORT       `/echo` echoes; every other path is a topic whose messages everybody on it hears
//
// The library sends what was published during one turn of its loop together, up to 32 messages.
#include <cstdlib>
#include <iostream>
#include <string>

#include "App.h"

struct Connection {
    std::string topic; // empty: echo
};

int main(int argc, char **argv) {
    if (argc != 2) {
        std::cerr << "usage: peer-uwebsockets PORT\n";
        return 2;
    }
    uWS::App app;
    app.ws<Connection>("/*", {
        .compression = uWS::DISABLED,
        .maxPayloadLength = 16 << 20,
        .idleTimeout = 0,
        .maxBackpressure = 64 << 20,
        .closeOnBackpressureLimit = false,
        .sendPingsAutomatically = false,
        .upgrade = [](auto *response, auto *request, auto *context) {
            std::string path(request->getUrl());
            response->template upgrade<Connection>(
                {path == "/echo" ? "" : path},
                request->getHeader("sec-websocket-key"),
                request->getHeader("sec-websocket-protocol"),
                request->getHeader("sec-websocket-extensions"),
                context);
        },
        .open = [](auto *ws) {
            if (!ws->getUserData()->topic.empty()) ws->subscribe(ws->getUserData()->topic);
        },
        .message = [&app](auto *ws, std::string_view message, uWS::OpCode opcode) {
            const std::string &topic = ws->getUserData()->topic;
            if (topic.empty()) ws->send(message, opcode);
            else app.publish(topic, message, opcode);
        },
    });
    app.listen("127.0.0.1", std::atoi(argv[1]), [](us_listen_socket_t *socket) {
        if (!socket) {
            std::cerr << "cannot listen\n";
            std::exit(1);
        }
        std::cerr << "Listening on 127.0.0.1:" << us_socket_local_port(0, reinterpret_cast<us_socket_t *>(socket)) << '\n';
    });
    app.run();
}
