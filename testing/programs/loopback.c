/* TCP and UDP between two threads, or two processes, over 127.0.0.1 and ::1, waited for in every way. */
#include "check.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

union name {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

static socklen_t length(int family) { return family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6); }

/* The loopback address, or no address. */
static union name at(int family, int loopback, int port) {
    union name name = {0};
    name.any.sa_family = family;
    if (family == AF_INET) {
        name.four.sin_port = htons(port);
        name.four.sin_addr.s_addr = htonl(loopback ? INADDR_LOOPBACK : INADDR_ANY);
    } else {
        name.six.sin6_port = htons(port);
        name.six.sin6_addr = loopback ? in6addr_loopback : in6addr_any;
    }
    return name;
}

static int port_of(int fd) {
    union name name;
    socklen_t len = sizeof name;
    return getsockname(fd, &name.any, &len) ? -1 : ntohs(name.four.sin_port);
}

static void set(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); }

/* Prints an address, but for ports that the system chose. */
static void print_name(const char *what, int (*get)(int, struct sockaddr *, socklen_t *), int fd) {
    union name name = {0};
    socklen_t len = sizeof name;
    char text[64] = "";
    if (get(fd, &name.any, &len)) {
        printf("%s: %s\n", what, errno_name(errno));
        return;
    }
    const void *address = name.any.sa_family == AF_INET ? (void *)&name.four.sin_addr : (void *)&name.six.sin6_addr;
    inet_ntop(name.any.sa_family, address, text, sizeof text);
    printf("%s: %s, %s, %d bytes\n", what, text, name.four.sin_port ? "a port" : "no port", (int)len);
}

static int bound(int family, int kind, int loopback) {
    union name name = at(family, loopback, 0);
    int fd = socket(family, kind, 0);
    if (bind(fd, &name.any, length(family)))
        perror("bind");
    return fd;
}

static int listener(int family, int loopback, int backlog) {
    int fd = bound(family, SOCK_STREAM, loopback);
    if (listen(fd, backlog))
        perror("listen");
    return fd;
}

static int client(int family, int port) {
    union name name = at(family, 1, port);
    int fd = socket(family, SOCK_STREAM, 0);
    if (connect(fd, &name.any, length(family)))
        perror("connect");
    return fd;
}

/* What a socket is ready for, once it is for all that is expected: what the peer did may take a while to get there. */
static int become(int fd, int expected) {
    struct pollfd one = {.fd = fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP};
    for (int i = 0; i < 60000; i++) {
        poll(&one, 1, 0);
        if ((one.revents & expected) == expected)
            break;
        usleep(1000);
    }
    return one.revents;
}

/* Waits until so many bytes can be received. */
static void arrive(int fd, int expected) {
    int there = -1;
    for (int i = 0; i < 60000 && (ioctl(fd, FIONREAD, &there) || there != expected); i++)
        usleep(1000);
    if (there != expected)
        printf("%d bytes are there\n", there);
}

static void ready(const char *what, int fd, int expected) {
    int events = become(fd, expected);
    printf("%s:%s%s%s%s%s%s\n", what, events & POLLIN ? " IN" : "", events & POLLOUT ? " OUT" : "",
           events & POLLPRI ? " PRI" : "", events & POLLRDHUP ? " RDHUP" : "", events & POLLHUP ? " HUP" : "",
           events & POLLERR ? " ERR" : "");
}

static int error_of(int fd) {
    int error = -1;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error});
    return error;
}

/* A child that answers every line in capital letters until the end. */
static pid_t server(int fd) {
    pid_t pid = fork();
    if (pid)
        return pid;
    for (;;) {
        int one = accept(fd, NULL, NULL);
        char text[256];
        long n;
        while ((n = read(one, text, sizeof text)) > 0) {
            if (text[0] == 'Q')
                _exit(0);
            for (long i = 0; i < n; i++)
                text[i] &= ~0x20;
            if (write(one, text, n) != n)
                _exit(1);
        }
        close(one);
    }
}

static void processes(void) {
    for (int round = 0; round < 4; round++) {
        int family = round & 1 ? AF_INET6 : AF_INET, loopback = round < 2;
        int fd = listener(family, loopback, 5);
        pid_t pid = server(fd);
        for (int i = 0; i < 3; i++) {
            char text[64] = {0};
            int one = client(family, port_of(fd));
            show("send", send(one, "question", 8, 0));
            show("receive", recv(one, text, 8, MSG_WAITALL));
            printf("%s\n", text);
            if (i == 0) {
                print_name("my name", getsockname, one);
                print_name("its name", getpeername, one);
                print_name("the listener's name", getsockname, fd);
                print_name("the listener's peer", getpeername, fd);
            }
            shutdown(one, SHUT_WR);
            show("receive the end", recv(one, text, 8, 0));
            close(one);
        }
        int last = client(family, port_of(fd));
        send(last, "Q", 1, 0);
        int status = -1;
        waitpid(pid, &status, 0);
        printf("status %d\n", status);
        ready("the server is gone", last, POLLRDHUP);
        close(last);
        close(fd);
    }
}

static void versions(void) {
    /* A listener of version 6 for all, and one for version 6 alone. */
    int both = listener(AF_INET6, 0, 5);
    int old = client(AF_INET, port_of(both)), new = accept(both, NULL, NULL);
    print_name("who connected with version 4", getpeername, new);
    print_name("to where", getsockname, new);
    close(old), close(new);
    union name name = at(AF_INET, 1, port_of(both));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    show("its port in version 4", bind(fd, &name.any, length(AF_INET)));
    close(fd), close(both);
    int six = socket(AF_INET6, SOCK_STREAM, 0);
    set(six, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    name = at(AF_INET6, 0, 0);
    works("bind", bind(six, &name.any, length(AF_INET6)));
    works("listen", listen(six, 5));
    name = at(AF_INET, 1, port_of(six));
    fd = socket(AF_INET, SOCK_STREAM, 0);
    show("connect with version 4", connect(fd, &name.any, length(AF_INET)));
    works("its port in version 4", bind(fd, &name.any, length(AF_INET)));
    close(fd);
    /* No address means this machine. */
    name = at(AF_INET6, 0, port_of(six));
    fd = socket(AF_INET6, SOCK_STREAM, 0);
    works("connect to no address", connect(fd, &name.any, length(AF_INET6)));
    print_name("the peer", getpeername, fd);
    close(fd), close(six);
    /* A mapped address. */
    int four = listener(AF_INET, 1, 5);
    name = at(AF_INET6, 0, port_of(four));
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &name.six.sin6_addr);
    fd = socket(AF_INET6, SOCK_STREAM, 0);
    works("connect to a mapped address", connect(fd, &name.any, length(AF_INET6)));
    print_name("my name", getsockname, fd);
    new = accept(four, NULL, NULL);
    print_name("what the server sees", getpeername, new);
    close(fd), close(new), close(four);
    /* Another address of the loopback interface. */
    fd = socket(AF_INET, SOCK_STREAM, 0);
    name = at(AF_INET, 1, 0);
    name.four.sin_addr.s_addr = htonl(0x7f000305);
    works("bind to 127.0.3.5", bind(fd, &name.any, length(AF_INET)));
    listen(fd, 1);
    name.four.sin_port = htons(port_of(fd));
    int other = socket(AF_INET, SOCK_STREAM, 0);
    works("connect to it", connect(other, &name.any, length(AF_INET)));
    print_name("my name", getsockname, other);
    close(other);
    other = socket(AF_INET, SOCK_STREAM, 0);
    name = at(AF_INET, 1, port_of(fd));
    show("connect to the same port of 127.0.0.1", connect(other, &name.any, length(AF_INET)));
    close(other), close(fd);
}

static int binds(int kind, union name name, int reuse) {
    int fd = socket(name.any.sa_family, kind, 0);
    if (reuse)
        set(fd, SOL_SOCKET, reuse, 1);
    int result = bind(fd, &name.any, length(name.any.sa_family));
    int saved = errno;
    if (result == 0)
        return fd;
    close(fd);
    errno = saved;
    return -1;
}

static void ports(void) {
    for (int i = 0; i < 2; i++) {
        int kind = i ? SOCK_DGRAM : SOCK_STREAM;
        printf("%s\n", i ? "datagrams" : "streams");
        int first = bound(AF_INET, kind, 1);
        union name same = at(AF_INET, 1, port_of(first)), all = at(AF_INET, 0, port_of(first));
        works("the same address", binds(kind, same, 0));
        works("all addresses", binds(kind, all, 0));
        works("with SO_REUSEADDR of one", binds(kind, same, SO_REUSEADDR));
        show("bind again", bind(first, &same.any, length(AF_INET)));
        close(first);
        first = binds(kind, same, SO_REUSEADDR);
        int second = binds(kind, same, SO_REUSEADDR);
        works("with SO_REUSEADDR of both", second);
        if (kind == SOCK_STREAM) {
            works("one listens", listen(first, 1));
            show("both listen", listen(second, 1));
            works("a third, now that one listens", binds(kind, same, SO_REUSEADDR));
        }
        close(first), close(second);
        first = binds(kind, same, SO_REUSEPORT), second = binds(kind, same, SO_REUSEPORT);
        works("with SO_REUSEPORT of both", second);
        works("a third without", binds(kind, same, SO_REUSEADDR));
        if (kind == SOCK_STREAM) {
            works("one listens", listen(first, 8));
            works("both listen", listen(second, 8));
            int clients[8];
            for (int j = 0; j < 8; j++)
                clients[j] = client(AF_INET, port_of(first));
            struct pollfd both[2] = {{first, POLLIN, 0}, {second, POLLIN, 0}};
            int accepted = 0;
            while (accepted < 8 && poll(both, 2, 60000) > 0)
                for (int j = 0; j < 2; j++)
                    if (both[j].revents & POLLIN)
                        accepted++, close(accept(both[j].fd, NULL, NULL));
            printf("accepted %d\n", accepted);
            for (int j = 0; j < 8; j++)
                close(clients[j]);
        }
        close(first), close(second);
        first = bound(AF_INET6, kind, 0);
        all = at(AF_INET, 0, port_of(first));
        works("version 4 where version 6 has all", binds(kind, all, 0));
        close(first);
        works("and when it is closed", binds(kind, all, 0));
    }
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    works("listen without an address", listen(fd, 1));
    print_name("its name", getsockname, fd);
    int one = client(AF_INET, port_of(fd));
    show("connect a connected one", connect(one, &(union name){.four = {.sin_family = AF_INET, .sin_port = 1}}.any, 16));
    show("listen with a connected one", listen(one, 1));
    show("connect with one that listens", connect(fd, &(union name){.four = {.sin_family = AF_INET, .sin_port = 1}}.any, 16));
    close(one), close(fd);
}

static int ends[2];
static void pair(int family) {
    int fd = listener(family, 1, 1);
    ends[0] = client(family, port_of(fd));
    ends[1] = accept(fd, NULL, NULL);
    close(fd);
}

static void close_pair(void) { close(ends[0]), close(ends[1]); }

static void closing(void) {
    char text[64];
    signal(SIGPIPE, SIG_IGN);
    pair(AF_INET);
    send(ends[0], "unread", 6, 0);
    send(ends[1], "to read", 7, 0);
    arrive(ends[0], 7), arrive(ends[1], 6);
    close(ends[1]);
    ready("closed with unread data", ends[0], POLLHUP | POLLERR);
    show("what was sent before", recv(ends[0], text, 64, 0));
    show("then", recv(ends[0], text, 64, 0));
    show("then", recv(ends[0], text, 64, 0));
    show("send", send(ends[0], "x", 1, 0));
    close(ends[0]);
    pair(AF_INET6);
    close(ends[1]);
    ready("closed", ends[0], POLLRDHUP);
    show("the first send", send(ends[0], "x", 1, 0));
    ready("sent to nobody", ends[0], POLLHUP | POLLERR);
    show("the second send", send(ends[0], "x", 1, 0));
    show("receive", recv(ends[0], text, 64, 0));
    close(ends[0]);
    pair(AF_INET);
    close(ends[1]);
    become(ends[0], POLLRDHUP);
    send(ends[0], "x", 1, 0);
    become(ends[0], POLLHUP | POLLERR);
    printf("SO_ERROR: %s\n", errno_name(error_of(ends[0])));
    printf("SO_ERROR: %s\n", errno_name(error_of(ends[0])));
    close(ends[0]);
    pair(AF_INET);
    show("shut down receiving", shutdown(ends[0], SHUT_RD));
    ready("shut down", ends[0], POLLRDHUP);
    show("send to it", send(ends[1], "late", 4, 0));
    arrive(ends[0], 4);
    show("it receives what came", recv(ends[0], text, 64, 0));
    show("and the end", recv(ends[0], text, 64, 0));
    show("shut down sending", shutdown(ends[0], SHUT_WR));
    ready("shut down", ends[0], POLLHUP);
    ready("the other side", ends[1], POLLRDHUP);
    show("shut down again", shutdown(ends[0], SHUT_RDWR));
    close_pair();
    /* Nobody is accepted any more. */
    int fd = listener(AF_INET, 1, 5), one = client(AF_INET, port_of(fd));
    close(fd);
    ready("the listener is gone", one, POLLHUP | POLLERR);
    show("receive", recv(one, text, 64, 0));
    close(one);
    fd = listener(AF_INET, 1, 5);
    int port = port_of(fd);
    show("shut down a listener", shutdown(fd, SHUT_RD));
    show("accept", accept(fd, NULL, NULL));
    ready("it", fd, POLLHUP);
    union name name = at(AF_INET, 1, port);
    one = socket(AF_INET, SOCK_STREAM, 0);
    show("connect", connect(one, &name.any, length(AF_INET)));
    close(one), close(fd);
}

/* Through which `waiting` says that it will wait now. */
static int turns[2];

static void *feed(void *arg) {
    int fd = *(int *)arg;
    char turn;
    while (read(turns[0], &turn, 1) == 1) {
        /* Mostly it does by then; what it sees is the same if not. */
        usleep(20000);
        send(fd, "abc", 3, 0);
    }
    return NULL;
}

static void next_turn(void) {
    if (write(turns[1], "", 1) != 1)
        perror("write");
}

static void waiting(void) {
    pthread_t thread;
    char text[64];
    for (int i = 0; i < 2; i++) {
        pair(i ? AF_INET6 : AF_INET);
        int event = eventfd(0, 0), pipes[2];
        if (pipe(pipes) || pipe(turns))
            perror("pipe");
        pthread_create(&thread, NULL, feed, &ends[1]);
        struct pollfd all[3] = {{event, POLLIN, 0}, {ends[0], POLLIN, 0}, {pipes[0], POLLIN, 0}};
        next_turn();
        show("poll of three kinds", poll(all, 3, 60000));
        printf("%d %d %d\n", all[0].revents, all[1].revents, all[2].revents);
        show("receive", recv(ends[0], text, 64, 0));
        fd_set set;
        FD_ZERO(&set);
        FD_SET(event, &set);
        FD_SET(ends[0], &set);
        next_turn();
        show("select", select(ends[0] > event ? ends[0] + 1 : event + 1, &set, NULL, NULL, &(struct timeval){60, 0}));
        show("receive", recv(ends[0], text, 64, 0));
        int epoll = epoll_create1(0);
        struct epoll_event one = {.events = EPOLLIN | EPOLLET, .data.fd = ends[0]}, got[4];
        epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &one);
        one.data.fd = event;
        epoll_ctl(epoll, EPOLL_CTL_ADD, event, &one);
        next_turn();
        show("epoll_wait", epoll_wait(epoll, got, 4, 60000));
        holds("the socket", got[0].data.fd == ends[0]);
        show("receive", recv(ends[0], text, 64, 0));
        show("epoll_wait for nothing", epoll_wait(epoll, got, 4, 20));
        close(turns[1]);
        pthread_join(thread, NULL);
        close(turns[0]), close(ends[1]);
        show("epoll_wait for the end", epoll_wait(epoll, got, 4, 60000));
        show("receive", recv(ends[0], text, 64, 0));
        close(ends[0]), close(event), close(pipes[0]), close(pipes[1]), close(epoll);
    }
    /* A socket that is watched before it is connected. */
    int fd = listener(AF_INET, 0, 5), epoll = epoll_create1(0), hasty = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    union name name = at(AF_INET, 1, port_of(fd));
    struct epoll_event one = {.events = EPOLLOUT | EPOLLET, .data.u32 = 1}, got[4];
    connect(hasty, &name.any, length(AF_INET));
    epoll_ctl(epoll, EPOLL_CTL_ADD, hasty, &one);
    one.events = EPOLLIN, one.data.u32 = 2;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &one);
    unsigned seen = 0;
    for (int i = 0; i < 10 && seen != 3; i++) {
        int count = epoll_wait(epoll, got, 4, 1000);
        for (int j = 0; j < count; j++)
            seen |= got[j].data.u32;
    }
    printf("seen %u, SO_ERROR %s\n", seen, errno_name(error_of(hasty)));
    close(accept(fd, NULL, NULL)), close(hasty), close(epoll), close(fd);
}

static void options(void) {
    pair(AF_INET);
    int value;
    socklen_t len;
#define KEEPS(level, option, to)                                                                                       \
    (set(ends[0], level, option, to), value = -1, len = sizeof value,                                                   \
     works(#option, getsockopt(ends[0], level, option, &value, &len)), printf("%d\n", value))
    KEEPS(IPPROTO_TCP, TCP_NODELAY, 1);
    KEEPS(IPPROTO_TCP, TCP_CORK, 1);
    KEEPS(IPPROTO_TCP, TCP_KEEPIDLE, 17);
    KEEPS(IPPROTO_TCP, TCP_KEEPINTVL, 18);
    KEEPS(IPPROTO_TCP, TCP_KEEPCNT, 19);
    KEEPS(IPPROTO_TCP, TCP_USER_TIMEOUT, 20);
    KEEPS(IPPROTO_TCP, TCP_KEEPCNT, 1000);
    KEEPS(SOL_SOCKET, SO_KEEPALIVE, 5);
    KEEPS(SOL_SOCKET, SO_PRIORITY, 3);
    KEEPS(SOL_SOCKET, SO_SNDBUF, 20000);
    KEEPS(SOL_SOCKET, SO_RCVBUF, 1);
    KEEPS(SOL_SOCKET, SO_OOBINLINE, 1);
    KEEPS(IPPROTO_IP, IP_TOS, 0x10);
    KEEPS(IPPROTO_IP, IP_TTL, 7);
    KEEPS(IPPROTO_IP, IP_TTL, 256);
    struct linger linger = {7, 3};
    setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    len = sizeof linger;
    getsockopt(ends[0], SOL_SOCKET, SO_LINGER, &linger, &len);
    printf("SO_LINGER %d %d\n", linger.l_onoff, linger.l_linger);
    send(ends[1], "ab", 2, 0);
    send(ends[1], "!", 1, MSG_OOB);
    arrive(ends[0], 3);
    char text[8] = {0};
    show("receive", recv(ends[0], text, 8, 0));
    show("receive", recv(ends[0], text + 2, 6, 0));
    printf("%s\n", text);
    close_pair();
    /* An accepted socket has what its listener has. */
    int fd = listener(AF_INET, 1, 1);
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    ends[0] = client(AF_INET, port_of(fd)), ends[1] = accept(fd, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        len = sizeof value;
        getsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &value, &len);
        printf("%d ", value);
        getsockopt(ends[i], SOL_SOCKET, SO_KEEPALIVE, &value, &len);
        printf("%d\n", value);
    }
    close(fd);
    close_pair();
}

static void *count_bytes(void *arg) {
    static char into[60000];
    long all = 0, n;
    while ((n = recv(*(int *)arg, into, sizeof into, 0)) > 0) {
        for (long i = 0; i < n; i++)
            if (into[i] != (char)((all + i) * 7 >> 5))
                return (void *)-1;
        all += n;
    }
    return (void *)all;
}

static void much(void) {
    static char from[100000];
    pthread_t thread;
    void *all;
    pair(AF_INET);
    pthread_create(&thread, NULL, count_bytes, &ends[1]);
    long sent = 0;
    for (int size = 1; sent < 20000000; size = size * 3 % 99991 + 1) {
        for (int i = 0; i < size; i++)
            from[i] = (sent + i) * 7 >> 5;
        if (send(ends[0], from, size, 0) != size)
            perror("send");
        sent += size;
    }
    shutdown(ends[0], SHUT_WR);
    pthread_join(thread, &all);
    holds("all of it came, in order", (long)all == sent);
    close_pair();
}

static void *answer(void *arg) {
    int fd = *(int *)arg;
    char text[64];
    union name from;
    for (;;) {
        socklen_t len = sizeof from;
        long n = recvfrom(fd, text, sizeof text, 0, &from.any, &len);
        if (n <= 0)
            return NULL;
        sendto(fd, text, n, 0, &from.any, len);
    }
}

static void datagrams(void) {
    for (int round = 0; round < 4; round++) {
        int family = round & 1 ? AF_INET6 : AF_INET;
        int fd = bound(family, SOCK_DGRAM, round < 2), one = socket(family, SOCK_DGRAM, 0);
        union name name = at(family, 1, port_of(fd)), from = {0};
        char text[64] = {0};
        socklen_t len = sizeof from;
        pthread_t thread;
        pthread_create(&thread, NULL, answer, &fd);
        print_name("no name yet", getsockname, one);
        show("send", sendto(one, "datagram", 8, 0, &name.any, length(family)));
        print_name("a name", getsockname, one);
        show("receive", recvfrom(one, text, 64, 0, &from.any, &len));
        holds("from whom it went to", len == length(family) && from.four.sin_port == name.four.sin_port);
        works("connect", connect(one, &name.any, length(family)));
        print_name("my name", getsockname, one);
        print_name("its name", getpeername, one);
        show("send", send(one, "more", 4, 0));
        struct pollfd row = {one, POLLIN, 0};
        show("poll", poll(&row, 1, 60000));
        show("receive", recv(one, text, 64, 0));
        /* Only the peer is heard. */
        int stranger = socket(family, SOCK_DGRAM, 0);
        union name mine;
        len = sizeof mine;
        getsockname(one, &mine.any, &len);
        connect(stranger, &mine.any, len);
        send(stranger, "strange", 7, 0);
        become(stranger, POLLERR);
        show("a stranger", recv(one, text, 64, MSG_DONTWAIT));
        show("nothing ends the server", send(one, "", 0, 0));
        pthread_join(thread, NULL);
        close(fd), close(stranger);
        show("send to nobody", send(one, "x", 1, 0));
        ready("it", one, POLLERR);
        printf("SO_ERROR: %s\n", errno_name(error_of(one)));
        show("send to nobody", send(one, "x", 1, 0));
        become(one, POLLERR);
        show("and then", send(one, "x", 1, 0));
        show("receive", recv(one, text, 1, MSG_DONTWAIT));
        close(one);
    }
    /* A full inbox loses what comes. */
    int fd = bound(AF_INET, SOCK_DGRAM, 1), one = socket(AF_INET, SOCK_DGRAM, 0);
    set(fd, SOL_SOCKET, SO_RCVBUF, 4096);
    union name name = at(AF_INET, 1, port_of(fd));
    for (int i = 0; i < 1000; i++)
        if (sendto(one, "0123456789", 10, 0, &name.any, length(AF_INET)) != 10)
            perror("sendto");
    int count = 0;
    char text[64];
    while (recv(fd, text, 64, MSG_DONTWAIT) == 10)
        count++;
    holds("some came and some were lost", count > 0 && count < 1000);
    show("a long one", sendto(one, calloc(1, 65508), 65508, 0, &name.any, length(AF_INET)));
    show("to port 0", sendto(one, "x", 1, 0, &(union name){.four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}}.any, 16));
    show("urgent", sendto(one, "x", 1, MSG_OOB, &name.any, length(AF_INET)));
    show("shut down", shutdown(one, SHUT_RDWR));
    show("receive", recv(one, text, 64, 0));
    close(fd), close(one);
}

/* What comes along with datagrams of version 6. */
static void along(void) {
    int fd = bound(AF_INET6, SOCK_DGRAM, 0);
    set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    set(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
    set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    for (int i = 0; i < 2; i++) {
        int family = i ? AF_INET : AF_INET6, one = socket(family, SOCK_DGRAM, 0);
        set(one, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9);
        union name name = at(family, 1, port_of(fd)), from;
        sendto(one, "x", 1, 0, &name.any, length(family));
        char text[8], control[256], shown[64];
        struct iovec part = {text, sizeof text};
        struct msghdr message = {&from, sizeof from, &part, 1, control, sizeof control, 0};
        show("recvmsg", recvmsg(fd, &message, 0));
        printf("from %s\n", inet_ntop(AF_INET6, &from.six.sin6_addr, shown, sizeof shown));
        for (struct cmsghdr *head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
            printf("level %d type %d length %d", head->cmsg_level, head->cmsg_type, (int)head->cmsg_len);
            if (head->cmsg_type == IPV6_PKTINFO)
                printf(" %s", inet_ntop(AF_INET6, CMSG_DATA(head), shown, sizeof shown));
            else
                printf(" %d", *(int *)CMSG_DATA(head));
            printf("\n");
        }
        close(one);
    }
    close(fd);
}

/* Accepts when somebody waits for it, mostly; what is seen is the same if not. */
static void *late_accept(void *arg) {
    usleep(30000);
    return (void *)(long)accept(*(int *)arg, NULL, NULL);
}

static void blocking(void) {
    int fd = listener(AF_INET, 1, 0), first = client(AF_INET, port_of(fd));
    pthread_t thread;
    pthread_create(&thread, NULL, late_accept, &fd);
    int second = client(AF_INET, port_of(fd));
    void *accepted;
    pthread_join(thread, &accepted);
    holds("both are connected", first >= 0 && second >= 0 && (long)accepted >= 0);
    close(first), close(second), close((long)accepted), close(fd);
    /* Threads that wait at one listener. */
    fd = listener(AF_INET, 0, 8);
    pthread_t threads[4];
    int clients[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, late_accept, &fd);
    for (int i = 0; i < 4; i++)
        clients[i] = client(AF_INET, port_of(fd));
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &accepted);
        holds("accepted", (long)accepted >= 0);
        close((long)accepted);
        close(clients[i]);
    }
    close(fd);
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    alarm(300);
#define PART(name) (printf("-- " #name "\n"), name())
    PART(processes);
    PART(versions);
    PART(ports);
    PART(closing);
    PART(waiting);
    PART(options);
    PART(much);
    PART(datagrams);
    PART(along);
    PART(blocking);
    return 0;
}
