/* HTTP as fast as a core makes it: a server, and clients that run inside of a sandbox.
 *
 *   traffic serve                      print the port, answer until killed
 *   traffic load KIND HOST PORT NAME NAMEPORT CONNECTIONS SECONDS
 *
 * KIND: direct   GET after GET on kept connections to HOST PORT
 *       proxy    the same with absolute URLs, HOST PORT being a proxy
 *       tunnel   CONNECT once, then GET after GET
 *       connect  CONNECT and one GET per connection
 *       close    one GET per connection to HOST PORT
 *       bulk     CONNECT, then a response without end; bulk-direct: without a proxy
 *       idle     CONNECT, one GET, then nothing: connections that are only held
 *
 * Load prints one line: responses, octets, failed connections, seconds, p50 and p99 in microseconds.
 * Each request asks for another of 64 paths, as agents come back to the same few. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 4096, LINE = 1024, SAMPLES = 1 << 22 };
static const char ANSWER[] = "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT\r\n"
                             "Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nhello, world\n";
static const char END[] = "hello, world\n";
static char block[1 << 18];

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(2);
}

static void watch(int poll, int fd, uint32_t events, int operation) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    epoll_ctl(poll, operation, fd, &event);
}

static void serve(void) {
    static char streams[65536];
    int one = 1, poll = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {.sin_family = AF_INET}; /* any address */
    socklen_t length = sizeof at;
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096)) fail("listen");
    getsockname(listener, (void *)&at, &length);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    watch(poll, listener, EPOLLIN, EPOLL_CTL_ADD);
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(poll, events, 64, -1);
        for (int each = 0; each < count; each++) {
            int fd = events[each].data.fd;
            if (fd == listener) {
                int client = accept4(listener, 0, 0, SOCK_NONBLOCK);
                if (client < 0 || client >= 65536) continue;
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                streams[client] = 0;
                watch(poll, client, EPOLLIN, EPOLL_CTL_ADD);
                continue;
            }
            if (streams[fd]) {
                if (send(fd, block, sizeof block, MSG_NOSIGNAL) < 0 && errno != EAGAIN) close(fd);
                continue;
            }
            char data[65536];
            ssize_t got = recv(fd, data, sizeof data - 1, 0);
            if (got <= 0) {
                if (got == 0 || errno != EAGAIN) close(fd);
                continue;
            }
            data[got] = 0;
            if (!strncmp(data, "GET /bulk", 9)) {
                static const char head[] = "HTTP/1.1 200 OK\r\n\r\n";
                send(fd, head, sizeof head - 1, MSG_NOSIGNAL);
                streams[fd] = 1;
                watch(poll, fd, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
                continue;
            }
            for (char *head = data; (head = strstr(head, "\r\n\r\n")); head += 4)
                send(fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL);
        }
    }
}

struct client {
    int fd, greeted, tail;
    unsigned asked;
    double sent;
    char last[16];
};

static struct client clients[MOST];
static float samples[SAMPLES];
static const char *kind, *name, *name_port;
static struct sockaddr_storage server;
static socklen_t server_length;
static int poll_fd, by_fd[65536];
static long responses, octets, failures;

static int is(const char *word) { return !strcmp(kind, word); }

static void say(struct client *client) {
    char text[LINE];
    int bulk = !strncmp(kind, "bulk", 4), length;
    unsigned path = client->asked++ % 64;
    const char *scheme = is("proxy") ? "http://" : "", *host = is("proxy") ? name : "";
    const char *colon = is("proxy") ? ":" : "", *port = is("proxy") ? name_port : "";
    length = snprintf(text, sizeof text,
                      "GET %s%s%s%s/%s/%u?limit=3 HTTP/1.1\r\nHost: %s:%s\r\nUser-Agent: bench/1\r\n"
                      "Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\r\n",
                      scheme, host, colon, port, bulk ? "bulk" : "v1", path, name, name_port);
    if (send(client->fd, text, length, MSG_NOSIGNAL) != length) failures++;
    client->sent = now();
}

static void dial(struct client *client) {
    int one = 1, fd = socket(server.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || fd >= 65536) fail("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    client->fd = fd;
    client->greeted = client->tail = 0;
    by_fd[fd] = client - clients;
    client->sent = now();
    if (connect(fd, (void *)&server, server_length) && errno != EINPROGRESS) fail("connect");
    watch(poll_fd, fd, EPOLLOUT, EPOLL_CTL_ADD);
}

static int tunnels(void) { return is("tunnel") || is("connect") || is("bulk") || is("idle"); }

static void hang_up(struct client *client, int again) {
    /* With RST: ports in TIME_WAIT would run out, and that would be measured. */
    struct linger reset = {1, 0};
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(client->fd);
    client->fd = -1;
    if (again) dial(client);
}

static void connected(struct client *client) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) {
        failures++;
        hang_up(client, failures < 100000);
        return;
    }
    watch(poll_fd, client->fd, EPOLLIN, EPOLL_CTL_MOD);
    if (tunnels()) {
        char text[LINE];
        int size = snprintf(text, sizeof text, "CONNECT %s:%s HTTP/1.1\r\nHost: %s:%s\r\n\r\n", name,
                            name_port, name, name_port);
        if (send(client->fd, text, size, MSG_NOSIGNAL) != size) failures++;
    } else {
        say(client);
    }
}

static void heard(struct client *client, char *data, ssize_t got) {
    octets += got;
    if (tunnels() && !client->greeted) {
        if (got < 12 || memcmp(data + 9, "200", 3)) {
            failures++;
            hang_up(client, failures < 100000);
            return;
        }
        client->greeted = 1;
        double began = client->sent;
        say(client);
        if (is("connect")) client->sent = began;
        return;
    }
    if (!strncmp(kind, "bulk", 4)) return;
    if (got >= 12 && !memcmp(data, "HTTP/1.1", 8) && memcmp(data + 9, "200", 3)) {
        failures++;
        hang_up(client, failures < 100000);
        return;
    }
    size_t keep = sizeof END - 1, size = got;
    if (size >= keep) {
        memcpy(client->last, data + size - keep, keep);
        client->tail = keep;
    } else {
        size_t old = client->tail + size > keep ? keep - size : (size_t)client->tail;
        memmove(client->last, client->last + client->tail - old, old);
        memcpy(client->last + old, data, size);
        client->tail = old + size;
    }
    if (client->tail != (int)keep || memcmp(client->last, END, keep)) return;
    samples[responses++ % SAMPLES] = (now() - client->sent) * 1e6;
    client->tail = 0;
    if (is("connect") || is("close")) hang_up(client, 1);
    else if (!is("idle")) say(client);
}

static int by_value(const void *one, const void *other) {
    float a = *(const float *)one, b = *(const float *)other;
    return (a > b) - (a < b);
}

static int load(char **argument) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *found;
    kind = argument[0];
    name = argument[3], name_port = argument[4];
    int count = atoi(argument[5]);
    double seconds = atof(argument[6]), began, end;
    if (getaddrinfo(argument[1], argument[2], &hints, &found)) fail("getaddrinfo");
    memcpy(&server, found->ai_addr, server_length = found->ai_addrlen);
    poll_fd = epoll_create1(0);
    for (int each = 0; each < count && each < MOST; each++) clients[each].asked = each, dial(clients + each);
    for (began = now(), end = began + seconds; now() < end;) {
        struct epoll_event events[64];
        int ready = epoll_wait(poll_fd, events, 64, 100);
        for (int each = 0; each < ready; each++) {
            static char data[1 << 18];
            struct client *client = clients + by_fd[events[each].data.fd];
            if (events[each].events & EPOLLOUT) {
                connected(client);
                continue;
            }
            ssize_t got = recv(client->fd, data, sizeof data, 0);
            if (got > 0) heard(client, data, got);
            else if (got == 0 || errno != EAGAIN) {
                failures++;
                hang_up(client, failures < 100000);
            }
        }
    }
    long kept = responses < SAMPLES ? responses : SAMPLES;
    qsort(samples, kept, sizeof *samples, by_value);
    printf("%ld %ld %ld %.6f %.1f %.1f\n", responses, octets, failures, now() - began,
           kept ? samples[kept / 2] : 0.0, kept ? samples[kept * 99 / 100] : 0.0);
    return 0;
}

int main(int count, char **arguments) {
    signal(SIGPIPE, SIG_IGN);
    if (count == 2 && !strcmp(arguments[1], "serve")) serve();
    if (count == 9 && !strcmp(arguments[1], "load")) return load(arguments + 2);
    fputs("traffic serve | traffic load KIND HOST PORT NAME NAMEPORT CONNECTIONS SECONDS\n", stderr);
    return 2;
}
