/* The least that receiving a fan-out costs a client: epoll and recv, nothing read, checked or counted but bytes.
 *
 *   cc -O2 -o receive_floor receive_floor.c && taskset -c 1 ./receive_floor PORT [SUBSCRIBERS [WINDOW [SIZE [SECONDS]]]]
 *
 * Against a relay at ws://127.0.0.1:PORT/: one publisher with WINDOW messages of SIZE bytes outstanding, as in
 * `loadgen run --subscribers N --outstanding WINDOW --size SIZE`. Prints its own CPU time per message received; what a
 * load generator takes beyond that is its own. With TRUNC=1 in the environment the kernel discards instead of copying. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[1 << 20];

static void must(int fine, const char *what) {
    if (!fine) {
        perror(what);
        exit(1);
    }
}

static int connect_websocket(int port) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int one = 1, socket_fd = socket(AF_INET, SOCK_STREAM, 0);
    must(connect(socket_fd, (void *)&address, sizeof address) == 0, "connect");
    setsockopt(socket_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    must(send(socket_fd, request, sizeof request - 1, 0) == sizeof request - 1, "send");
    size_t got = 0;
    while (got < 4 || memcmp(buffer + got - 4, "\r\n\r\n", 4)) {
        must(recv(socket_fd, buffer + got++, 1, 0) == 1, "upgrade");
    }
    must(!memcmp(buffer + 9, "101", 3), "upgrade refused");
    return socket_fd;
}

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

int main(int count, char **words) {
    int port = count > 1 ? atoi(words[1]) : 8443, subscribers = count > 2 ? atoi(words[2]) : 1000;
    int window = count > 3 ? atoi(words[3]) : 64, size = count > 4 ? atoi(words[4]) : 64;
    double limit = count > 5 ? atof(words[5]) : 5;
    int flags = MSG_DONTWAIT | (getenv("TRUNC") ? MSG_TRUNC : 0);
    must(size >= 1 && size < 65536 && window >= 1, "sizes");
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    int poll = epoll_create1(0), publisher = 0;
    for (int i = 0; i <= subscribers; i++) {
        publisher = connect_websocket(port);
        struct epoll_event interest = {.events = EPOLLIN, .data.fd = publisher};
        must(epoll_ctl(poll, EPOLL_CTL_ADD, publisher, &interest) == 0, "epoll_ctl");
    }
    /* A masked binary frame with key 0, and what the server makes of it. */
    int extended = size > 125, head = extended ? 8 : 6, heard = size + (extended ? 4 : 2);
    char *batch = calloc(window, head + size);
    for (int i = 0; i < window; i++) {
        unsigned char *frame = (unsigned char *)batch + i * (head + size);
        frame[0] = 0x82;
        frame[1] = 0x80 | (extended ? 126 : size);
        if (extended) {
            frame[2] = size >> 8;
            frame[3] = size;
        }
    }
    long long expected = 0, bytes = 0, receives = 0, waits = 0, bytes_before = 0, receives_before = 0;
    double began = seconds(CLOCK_MONOTONIC), cpu_before = 0, from = began + 1;
    struct epoll_event events[1024];
    for (int measuring = 0;;) {
        if (bytes == expected) {
            must(send(publisher, batch, (size_t)window * (head + size), 0) == (ssize_t)window * (head + size), "send");
            expected += (long long)window * heard * (subscribers + 1);
            double now = seconds(CLOCK_MONOTONIC);
            if (!measuring && now > from) {
                measuring = 1;
                cpu_before = seconds(CLOCK_PROCESS_CPUTIME_ID);
                bytes_before = bytes;
                receives_before = receives;
            }
            if (now > from + limit) {
                break;
            }
        }
        int ready = epoll_wait(poll, events, 1024, -1);
        waits++;
        for (int i = 0; i < ready; i++) {
            ssize_t got = recv(events[i].data.fd, buffer, sizeof buffer, flags);
            must(got > 0, "recv");
            bytes += got;
            receives++;
        }
    }
    double messages = (double)(bytes - bytes_before) / heard;
    printf("%.4f us of CPU time per message received, %.1f messages per recv, %.0f messages/s\n",
           (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_before) * 1e6 / messages, messages / (receives - receives_before),
           messages / limit);
    return 0;
}
