/* The server of the network benchmark: `peer PORT`. Every connection is in one epoll instance. Its first bytes are an order and a
   size: 'e' sends back what comes, 's' sends blocks until the other side closes, 'r' receives them until the end and then says so,
   'c' closes. */
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct order {
    char what, pad[3];
    unsigned size;
};

static char block[65536], echoes[65536];

/* Serves an order; whether the connection stays. */
static int serve(int fd) {
    struct order order;
    if (recv(fd, &order, sizeof order, MSG_WAITALL) != sizeof order || order.size > sizeof block)
        return 0;
    switch (order.what) {
    case 'e':
        echoes[fd] = 1;
        return 1;
    case 's':
        while (write(fd, block, order.size) > 0)
            ;
        return 0;
    case 'r':
        while (read(fd, block, order.size) > 0)
            ;
        return write(fd, "!", 1), 0;
    default:
        return 0;
    }
}

static int echo(int fd) {
    ssize_t got = read(fd, block, sizeof block);
    return got > 0 && write(fd, block, got) == got;
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[argc - 1]))};
    struct rlimit files;
    struct epoll_event events[64], event = {.events = EPOLLIN};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);

    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024))
        return perror("peer"), 1;
    event.data.fd = listener;
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                event.data.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (event.data.fd >= (int)sizeof echoes)
                    close(event.data.fd);
                else if (event.data.fd >= 0) {
                    setsockopt(event.data.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
                }
            } else if (!(echoes[fd] ? echo(fd) : serve(fd))) {
                echoes[fd] = 0;
                close(fd);
            }
        }
    }
}
