/* What a TCP socket was before: connections that connect() to no family dissolves, and ports that connections leave behind. Prints
 * the same everywhere. */
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in at(int address, int port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
}

static int port_of(int fd) {
    struct sockaddr_in name = {0};
    getsockname(fd, (struct sockaddr *)&name, &(socklen_t){sizeof name});
    return ntohs(name.sin_port);
}

static int binds(int address, int port, int reuse) {
    struct sockaddr_in name = at(address, port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    if (bind(fd, (struct sockaddr *)&name, sizeof name) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

/* A port that nobody has. */
static int free_port(void) {
    int fd = binds(INADDR_ANY, 0, 0), port = port_of(fd);
    close(fd);
    return port;
}

static int listener(int address, int reuse) {
    int fd = binds(address, free_port(), reuse);
    listen(fd, 5);
    return fd;
}

static int connects(int fd, int port) {
    struct sockaddr_in name = at(INADDR_LOOPBACK, port);
    return connect(fd, (struct sockaddr *)&name, sizeof name);
}

static int client(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    connects(fd, port);
    return fd;
}

static int dissolve(int fd) {
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    return connect(fd, &none, sizeof none);
}

static int error_of(int fd) {
    int error = -1;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error});
    return error;
}

static int state(int fd) {
    struct tcp_info info = {0};
    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &(socklen_t){sizeof info});
    return info.tcpi_state;
}

/* Waits for events. */
static void become(int fd, int events) {
    struct pollfd one = {.fd = fd, .events = events};
    for (int i = 0; i < 60000 && (one.revents & events) != events; i++, usleep(1000))
        poll(&one, 1, 0);
}

static void polled(const char *what, int fd) {
    struct pollfd one = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
    poll(&one, 1, 0);
    printf("%s: %#x\n", what, one.revents);
}

static void dissolving(void) {
    char text[8];
    int server = listener(INADDR_LOOPBACK, 0), port = port_of(server), one = client(port), other = accept(server, NULL, NULL);
    struct sockaddr_in name;
    send(other, "left", 4, 0), send(one, "there", 5, 0);
    become(one, POLLIN), become(other, POLLIN);
    works("dissolve", dissolve(one));
    show("its state", state(one));
    polled("it", one);
    printf("its error: %s\n", errno_name(error_of(one)));
    polled("without the error", one);
    show("receive", recv(one, text, 8, 0));
    show("send", send(one, "x", 1, MSG_NOSIGNAL));
    show("its peer", getpeername(one, (struct sockaddr *)&name, &(socklen_t){sizeof name}));
    getsockname(one, (struct sockaddr *)&name, &(socklen_t){sizeof name});
    holds("its address is gone", name.sin_addr.s_addr == 0);
    show("shut down", shutdown(one, SHUT_RDWR));
    become(other, POLLHUP);
    polled("the other side", other);
    show("it receives what came", recv(other, text, 8, 0));
    show("then", recv(other, text, 8, 0));
    show("then", recv(other, text, 8, 0));
    close(other);
    works("dissolve again", dissolve(one));
    works("connect again", connects(one, port));
    printf("its error: %s\n", errno_name(error_of(one)));
    other = accept(server, NULL, NULL);
    show("send", send(one, "again", 5, 0));
    show("receive", recv(other, text, 8, 0));
    show("answer", send(other, "too", 3, 0));
    show("receive", recv(one, text, 8, 0));
    /* With an address of its own it keeps it. */
    close(one), close(other);
    one = binds(INADDR_LOOPBACK, free_port(), 0);
    int mine = port_of(one);
    works("connect", connects(one, port));
    other = accept(server, NULL, NULL);
    works("dissolve", dissolve(one));
    holds("the port is kept", port_of(one) == mine);
    become(other, POLLHUP);
    close(other);
    works("connect again", connects(one, port));
    other = accept(server, NULL, NULL);
    /* What was shut down is not, and what was closed by the peer is over. */
    shutdown(one, SHUT_WR);
    become(other, POLLRDHUP);
    close(other);
    become(one, POLLHUP);
    works("dissolve what is closed", dissolve(one));
    printf("its error: %s\n", errno_name(error_of(one)));
    close(one);
    /* Who receives after an error that nobody asked for has it. */
    one = client(port), other = accept(server, NULL, NULL);
    dissolve(one);
    show("receive", recv(one, text, 8, 0));
    show("receive", recv(one, text, 8, 0));
    close(one), close(other);
    one = client(port), other = accept(server, NULL, NULL);
    dissolve(one);
    show("send", send(one, "x", 1, MSG_NOSIGNAL));
    show("send", send(one, "x", 1, MSG_NOSIGNAL));
    close(one), close(other);
    /* A listener ends, and may connect. */
    one = client(port);
    works("dissolve a listener", dissolve(server));
    become(one, POLLHUP);
    polled("who was not accepted", one);
    show("accept", accept(server, NULL, NULL));
    show("its state", state(server));
    holds("its port is kept", port_of(server) == port);
    close(one);
    one = socket(AF_INET, SOCK_STREAM, 0);
    show("connect to it", connects(one, port));
    works("listen again", listen(server, 5));
    works("connect to it", connects(one, port));
    close(one);
    int second = listener(INADDR_LOOPBACK, 0);
    works("dissolve it again", dissolve(server));
    works("connect with it", connects(server, port_of(second)));
    other = accept(second, NULL, NULL);
    struct sockaddr_in from;
    getpeername(other, (struct sockaddr *)&from, &(socklen_t){sizeof from});
    holds("from its port", ntohs(from.sin_port) == port);
    close(other), close(second), close(server);
    one = socket(AF_INET, SOCK_STREAM, 0);
    works("dissolve nothing", dissolve(one));
    printf("its error: %s\n", errno_name(error_of(one)));
    close(one);
}

static void again(const char *what, int port) {
    int fd;
    printf("%s:\n", what);
    works("bind", fd = binds(INADDR_LOOPBACK, port, 0));
    close(fd);
    works("bind to all", fd = binds(INADDR_ANY, port, 0));
    close(fd);
    works("bind to another address", fd = binds(0x7f000009, port, 0));
    close(fd);
    works("bind with SO_REUSEADDR", fd = binds(INADDR_LOOPBACK, port, 1));
    if (fd >= 0)
        works("listen", listen(fd, 1));
    close(fd);
    works("bind to all with SO_REUSEADDR", fd = binds(INADDR_ANY, port, 1));
    close(fd);
}

/* Who closes first has the port for a minute more. */
static void leaving(void) {
    int one = 1;
    struct linger reset = {1, 0};
    for (int reuse = 0; reuse < 2; reuse++) {
        printf("%s SO_REUSEADDR\n", reuse ? "with" : "without");
        int server = listener(INADDR_LOOPBACK, reuse), port = port_of(server), here = client(port), there = accept(server, NULL, NULL);
        close(server);
        again("a connection is open", port);
        close(there);
        become(here, POLLRDHUP);
        again("the server closed it", port);
        close(here);
        again("the client closed it too", port);

        server = listener(INADDR_LOOPBACK, reuse), port = port_of(server), here = client(port), there = accept(server, NULL, NULL);
        close(here);
        become(there, POLLRDHUP);
        close(there), close(server);
        again("the client closed first", port);

        server = listener(INADDR_LOOPBACK, reuse), port = port_of(server), here = client(port), there = accept(server, NULL, NULL);
        setsockopt(there, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(server), close(there);
        become(here, POLLHUP);
        again("the server closed with a reset", port);
        close(here);

        server = listener(INADDR_LOOPBACK, reuse), port = port_of(server), here = client(port), there = accept(server, NULL, NULL);
        shutdown(there, SHUT_WR);
        become(here, POLLRDHUP);
        close(here);
        become(there, POLLHUP);
        close(there), close(server);
        again("the server shut down first", port);

        server = listener(INADDR_LOOPBACK, 1), here = binds(INADDR_LOOPBACK, free_port(), reuse), port = port_of(here);
        connects(here, port_of(server));
        there = accept(server, NULL, NULL);
        close(here);
        become(there, POLLRDHUP);
        close(there);
        again("a client with a port closed first", port);
        close(server);

        server = listener(INADDR_ANY, reuse), port = port_of(server), here = client(port), there = accept(server, NULL, NULL);
        setsockopt(there, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        close(there);
        become(here, POLLRDHUP);
        close(here), close(server);
        again("the connection had SO_REUSEADDR", port);
    }
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    alarm(200);
    dissolving();
    leaving();
    return 0;
}
