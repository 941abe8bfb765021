/* TCP and UDP over the loopback interface, in one process and with one helper thread. */
#include "check.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_in local(int port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* What is ready once all that was sent has arrived. */
static void look(const char *what, int fd, short events) {
    struct pollfd one = {.fd = fd, .events = events};
    usleep(20000);
    poll(&one, 1, 0);
    printf("%s:%s%s%s%s%s%s\n", what, one.revents & POLLIN ? " IN" : "", one.revents & POLLOUT ? " OUT" : "",
           one.revents & POLLPRI ? " PRI" : "", one.revents & POLLRDHUP ? " RDHUP" : "",
           one.revents & POLLHUP ? " HUP" : "", one.revents & POLLERR ? " ERR" : "");
}

static int port_of(int fd) {
    struct sockaddr_in name;
    socklen_t len = sizeof name;
    return getsockname(fd, (struct sockaddr *)&name, &len) ? -1 : ntohs(name.sin_port);
}

static int listener(void) {
    struct sockaddr_in name = local(0);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&name, sizeof name) || listen(fd, 8))
        perror("listener");
    return fd;
}

static int ends[2];
static void connect_both(void) {
    int fd = listener();
    struct sockaddr_in name = local(port_of(fd));
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    works("connect", connect(ends[0], (struct sockaddr *)&name, sizeof name));
    socklen_t len = sizeof name;
    ends[1] = accept4(fd, (struct sockaddr *)&name, &len, SOCK_CLOEXEC);
    holds("the peer is who connected", len == sizeof name && ntohs(name.sin_port) == port_of(ends[0]));
    close(fd);
}

static void close_both(void) {
    close(ends[0]);
    close(ends[1]);
}

static void errors(void) {
    struct sockaddr_in name = local(0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char byte;
    show("no such family", socket(999, SOCK_STREAM, 0));
    show("no such protocol", socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    show("no such type", socket(AF_INET, 9, 0));
    show("receive unconnected", recv(fd, &byte, 1, 0));
    show("send unconnected", send(fd, "x", 1, MSG_NOSIGNAL));
    show("accept without listening", accept(fd, NULL, NULL));
    show("peer of nobody", getpeername(fd, (struct sockaddr *)&name, &(socklen_t){sizeof name}));
    show("shut down unconnected", shutdown(fd, SHUT_RD));
    show("bind to a short address", bind(fd, (struct sockaddr *)&name, 4));
    show("not a socket", listen(0, 1));
    show("a closed descriptor", listen(999, 1));
    int other = listener();
    name = local(port_of(other));
    show("bind to a used address", bind(fd, (struct sockaddr *)&name, sizeof name));
    close(other);
    show("connect to nobody", connect(fd, (struct sockaddr *)&name, sizeof name));
    name.sin_addr.s_addr = htonl(0xc0000201);
    show("bind to a foreign address", bind(fd, (struct sockaddr *)&name, sizeof name));
    look("unconnected", fd, POLLIN | POLLOUT);
    close(fd);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    show("datagram to nowhere", send(fd, "x", 1, 0));
    show("a datagram socket does not listen", listen(fd, 1));
    show("a datagram that is too long", sendto(fd, calloc(1, 70000), 70000, 0, (struct sockaddr *)&name, sizeof name));
    close(fd);
}

static void streams(void) {
    char text[64] = {0};
    connect_both();
    look("nothing sent", ends[1], POLLIN | POLLOUT | POLLRDHUP);
    show("receive nothing", recv(ends[1], text, 10, MSG_DONTWAIT));
    show("send", send(ends[0], "0123456789", 10, 0));
    look("something sent", ends[1], POLLIN | POLLOUT);
    int waiting = 0;
    ioctl(ends[1], FIONREAD, &waiting);
    printf("FIONREAD: %d\n", waiting);
    show("peek", recv(ends[1], text, 4, MSG_PEEK));
    show("receive", recv(ends[1], text, 4, 0));
    look("some left", ends[1], POLLIN);
    show("read the rest", read(ends[1], text + 4, 60));
    printf("%s\n", text);
    look("none left", ends[1], POLLIN);
    struct iovec parts[2] = {{"ab", 2}, {"cde", 3}};
    show("writev", writev(ends[0], parts, 2));
    struct iovec into[2] = {{text, 1}, {text + 10, 10}};
    show("readv", readv(ends[1], into, 2));
    printf("%.1s %.4s\n", text, text + 10);
    /* Half close. */
    show("shut down writing", shutdown(ends[0], SHUT_WR));
    look("half closed", ends[1], POLLIN | POLLOUT | POLLRDHUP);
    show("receive the end", recv(ends[1], text, 10, 0));
    show("send after it", send(ends[0], "x", 1, MSG_NOSIGNAL));
    show("send the other way", send(ends[1], "back", 4, 0));
    look("the other way", ends[0], POLLIN | POLLOUT | POLLRDHUP);
    show("receive", recv(ends[0], text, 10, 0));
    close(ends[1]);
    look("closed", ends[0], POLLIN | POLLOUT | POLLRDHUP);
    show("receive the end", recv(ends[0], text, 10, 0));
    close(ends[0]);
}

static volatile int pipes;
static void count_pipe(int signal) { (void)signal; pipes++; }

static void broken(void) {
    struct linger abort = {.l_onoff = 1, .l_linger = 0};
    char byte;
    signal(SIGPIPE, count_pipe);
    connect_both();
    works("linger", setsockopt(ends[1], SOL_SOCKET, SO_LINGER, &abort, sizeof abort));
    close(ends[1]);
    look("reset", ends[0], POLLIN | POLLOUT | POLLRDHUP);
    show("receive from who reset", recv(ends[0], &byte, 1, 0));
    show("and again", recv(ends[0], &byte, 1, 0));
    show("send to who reset", send(ends[0], "x", 1, MSG_NOSIGNAL));
    printf("signals: %d\n", pipes);
    show("write to who reset", write(ends[0], "x", 1));
    printf("signals: %d\n", pipes);
    close(ends[0]);
}

static void options(void) {
    int value = 0, fd = socket(AF_INET6, SOCK_STREAM, 0);
    socklen_t len = sizeof value;
    struct timeval time = {1, 500000};
#define GET(level, option) \
    (value = -1, len = sizeof value, getsockopt(fd, level, option, &value, &len) ? printf(#option ": %s\n", errno_name(errno)) : printf(#option ": %d (%d bytes)\n", value, (int)len))
#define SET(level, option, to) \
    (value = to, works(#option " set", setsockopt(fd, level, option, &value, sizeof value)))
    GET(SOL_SOCKET, SO_TYPE);
    GET(SOL_SOCKET, SO_DOMAIN);
    GET(SOL_SOCKET, SO_PROTOCOL);
    GET(SOL_SOCKET, SO_ERROR);
    GET(SOL_SOCKET, SO_ACCEPTCONN);
    GET(SOL_SOCKET, SO_REUSEADDR);
    SET(SOL_SOCKET, SO_REUSEADDR, 1);
    GET(SOL_SOCKET, SO_REUSEADDR);
    SET(SOL_SOCKET, SO_KEEPALIVE, 1);
    SET(IPPROTO_TCP, TCP_NODELAY, 1);
    GET(IPPROTO_TCP, TCP_NODELAY);
    SET(IPPROTO_TCP, TCP_KEEPIDLE, 33);
    GET(IPPROTO_TCP, TCP_KEEPIDLE);
    SET(IPPROTO_IPV6, IPV6_V6ONLY, 1);
    GET(IPPROTO_IPV6, IPV6_V6ONLY);
    SET(SOL_SOCKET, SO_RCVBUF, 50000);
    GET(SOL_SOCKET, SO_RCVBUF);
    works("SO_RCVTIMEO", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    time = (struct timeval){0};
    len = sizeof time;
    getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, &len);
    printf("SO_RCVTIMEO: %ld.%06ld (%d bytes)\n", (long)time.tv_sec, (long)time.tv_usec, (int)len);
    time.tv_usec = 2000000;
    works("a time that makes no sense", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    works("a value that is too short", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, 1));
    works("no such option", setsockopt(fd, SOL_SOCKET, 4000, &value, sizeof value));
    works("no such level", getsockopt(fd, 4000, 1, &value, &len));
    close(fd);
}

static void limits(void) {
    struct timeval time = {0, 30000};
    struct timespec from, to;
    char byte;
    connect_both();
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    clock_gettime(CLOCK_MONOTONIC, &from);
    show("receive for 30 ms", recv(ends[0], &byte, 1, 0));
    show("read for 30 ms", read(ends[0], &byte, 1));
    clock_gettime(CLOCK_MONOTONIC, &to);
    holds("it took that long", (to.tv_sec - from.tv_sec) * 1000000000l + to.tv_nsec - from.tv_nsec >= 59000000);
    /* A full pipe: the limit ends it, and what was sent counts. */
    int small = 4096;
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
    long sent = send(ends[0], calloc(1, 30000000), 30000000, 0);
    holds("a part was sent", sent > 0 && sent < 30000000);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    while (send(ends[0], "more", 4, 0) > 0)
        sent += 4;
    holds("until nothing more goes", errno == EAGAIN);
    static char into[1 << 16];
    long got = 0;
    for (long n; got < sent && (n = recv(ends[1], into, sizeof into, 0)) > 0;)
        got += n;
    holds("all of it arrived", got >= sent && got < sent + 4);
    look("empty again", ends[0], POLLOUT);
    close_both();
}

static void connecting(void) {
    int fd = listener(), error = -1;
    socklen_t len = sizeof error;
    struct sockaddr_in name = local(port_of(fd));
    int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    show("connect without waiting", connect(client, (struct sockaddr *)&name, sizeof name));
    look("connected", client, POLLIN | POLLOUT);
    getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &len);
    printf("SO_ERROR: %s\n", errno_name(error));
    show("connect again", connect(client, (struct sockaddr *)&name, sizeof name));
    show("and once more", connect(client, (struct sockaddr *)&name, sizeof name));
    close(client);
    close(fd);
    client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    show("connect to nobody", connect(client, (struct sockaddr *)&name, sizeof name));
    look("refused", client, POLLIN | POLLOUT);
    getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &len);
    printf("SO_ERROR: %s\n", errno_name(error));
    getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &len);
    printf("SO_ERROR: %s\n", errno_name(error));
    close(client);
}

static void out_of_band(void) {
    char text[8] = {0};
    connect_both();
    send(ends[0], "ab", 2, 0);
    show("send urgent", send(ends[0], "!", 1, MSG_OOB));
    look("urgent", ends[1], POLLIN | POLLPRI);
    show("receive urgent", recv(ends[1], text, 1, MSG_OOB));
    printf("%c\n", text[0]);
    show("receive", recv(ends[1], text, 8, 0));
    int at_mark = -1;
    works("SIOCATMARK", ioctl(ends[1], SIOCATMARK, &at_mark));
    printf("%d\n", at_mark);
    close_both();
}

static void datagrams(void) {
    struct sockaddr_in one = local(0), from;
    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0), on = 1;
    char text[64] = {0}, control[256];
    bind(a, (struct sockaddr *)&one, sizeof one);
    one = local(port_of(a));
    works("sendto", sendto(b, "datagram", 8, 0, (struct sockaddr *)&one, sizeof one));
    works("sendto", sendto(b, "", 0, 0, (struct sockaddr *)&one, sizeof one));
    socklen_t len = sizeof from;
    show("receive a part", recvfrom(a, text, 3, 0, (struct sockaddr *)&from, &len));
    holds("from whom it came", ntohs(from.sin_port) == port_of(b) && len == sizeof from);
    look("an empty one waits", a, POLLIN);
    show("an empty one", recv(a, text, 10, 0));
    look("none waits", a, POLLIN);
    show("none", recv(a, text, 10, MSG_DONTWAIT));
    sendto(b, "0123456789", 10, 0, (struct sockaddr *)&one, sizeof one);
    show("the length of a cut one", recv(a, text, 3, MSG_TRUNC));
    /* Control messages. */
    works("IP_PKTINFO", setsockopt(a, IPPROTO_IP, IP_PKTINFO, &on, sizeof on));
    works("SO_TIMESTAMP", setsockopt(a, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on));
    works("IP_RECVTTL", setsockopt(a, IPPROTO_IP, IP_RECVTTL, &on, sizeof on));
    works("connect", connect(b, (struct sockaddr *)&one, sizeof one));
    send(b, "message", 7, 0);
    struct iovec part = {text, sizeof text};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = control, .msg_controllen = sizeof control};
    show("recvmsg", recvmsg(a, &message, 0));
    for (struct cmsghdr *one = CMSG_FIRSTHDR(&message); one; one = CMSG_NXTHDR(&message, one)) {
        printf("level %d type %d length %d\n", one->cmsg_level, one->cmsg_type, (int)one->cmsg_len);
        if (one->cmsg_level == IPPROTO_IP && one->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(one), sizeof info);
            holds("to the loopback address", info.ipi_addr.s_addr == htonl(INADDR_LOOPBACK));
        }
    }
    send(b, "message", 7, 0);
    message.msg_controllen = 10;
    message.msg_namelen = sizeof from;
    show("recvmsg without room for them", recvmsg(a, &message, 0));
    holds("they were cut", message.msg_flags & MSG_CTRUNC);
    /* Many at once. */
    struct iovec parts[3] = {{"a", 1}, {"bb", 2}, {"ccc", 3}};
    struct mmsghdr many[4] = {0};
    for (int i = 0; i < 3; i++)
        many[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    show("sendmmsg", sendmmsg(b, many, 3, 0));
    printf("%u %u %u\n", many[0].msg_len, many[1].msg_len, many[2].msg_len);
    char rows[4][8];
    struct iovec intos[4];
    for (int i = 0; i < 4; i++) {
        intos[i] = (struct iovec){rows[i], 8};
        many[i].msg_hdr = (struct msghdr){.msg_iov = &intos[i], .msg_iovlen = 1};
    }
    show("recvmmsg", recvmmsg(a, many, 4, MSG_WAITFORONE, NULL));
    printf("%u %u %u\n", many[0].msg_len, many[1].msg_len, many[2].msg_len);
    /* Nobody is there: the error comes later. */
    close(a);
    works("send to nobody", send(b, "x", 1, 0));
    look("an error waits", b, POLLIN);
    show("receive it", recv(b, text, 1, MSG_DONTWAIT));
    show("it is gone", recv(b, text, 1, MSG_DONTWAIT));
    close(b);
}

static void *late(void *text) {
    usleep(30000);
    send(ends[0], text, strlen(text) / 2, 0);
    usleep(30000);
    send(ends[0], (char *)text + strlen(text) / 2, strlen(text) - strlen(text) / 2, 0);
    return NULL;
}

static void *late_connect(void *port) {
    struct sockaddr_in name = local(*(int *)port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    usleep(30000);
    connect(fd, (struct sockaddr *)&name, sizeof name);
    usleep(30000);
    close(fd);
    return NULL;
}

static volatile int alarms;
static void count_alarm(int signal) { (void)signal; alarms++; }

static void waiting(void) {
    pthread_t thread;
    char text[64] = {0};
    connect_both();
    pthread_create(&thread, NULL, late, "one part and another");
    show("receive what comes first", recv(ends[1], text, 60, 0));
    show("wait for all of the rest", recv(ends[1], text + 10, 10, MSG_WAITALL));
    printf("%.20s\n", text);
    pthread_join(thread, NULL);
    recv(ends[1], text, 60, MSG_DONTWAIT);
    pthread_create(&thread, NULL, late, "xy");
    struct pollfd one = {.fd = ends[1], .events = POLLIN};
    show("poll", poll(&one, 1, 5000));
    pthread_join(thread, NULL);
    recv(ends[1], text, 60, 0);
    /* A signal. */
    struct sigaction action = {.sa_handler = count_alarm};
    sigaction(SIGALRM, &action, NULL);
    ualarm(30000, 0);
    show("a signal ends a receive", recv(ends[1], text, 1, 0));
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    pthread_create(&thread, NULL, late, "zz");
    ualarm(10000, 0);
    show("or does not, with SA_RESTART", recv(ends[1], text, 1, 0));
    printf("alarms: %d\n", alarms);
    pthread_join(thread, NULL);
    close_both();
    int fd = listener(), port = port_of(fd);
    pthread_create(&thread, NULL, late_connect, &port);
    int new = accept(fd, NULL, NULL);
    works("accept", new);
    show("receive the end", recv(new, text, 10, 0));
    pthread_join(thread, NULL);
    close(new);
    close(fd);
}

static void wait_epoll(const char *what, int epoll, int timeout) {
    struct epoll_event events[4];
    int count = epoll_wait(epoll, events, 4, timeout);
    printf("%s: %d", what, count);
    for (int i = 0; i < count; i++)
        printf(" (%d: %x)", events[i].data.u32, events[i].events);
    printf("\n");
}

static void epolls(void) {
    int epoll = epoll_create1(0);
    char text[64];
    connect_both();
    struct epoll_event level = {.events = EPOLLIN | EPOLLRDHUP, .data.u32 = 1};
    struct epoll_event edge = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u32 = 2};
    works("add level", epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &level));
    works("add edge", epoll_ctl(epoll, EPOLL_CTL_ADD, ends[1], &edge));
    wait_epoll("writable once", epoll, 1000);
    wait_epoll("nothing", epoll, 0);
    send(ends[1], "abc", 3, 0);
    wait_epoll("readable", epoll, 1000);
    wait_epoll("still", epoll, 1000);
    recv(ends[0], text, 2, 0);
    wait_epoll("still", epoll, 1000);
    recv(ends[0], text, 1, 0);
    wait_epoll("not any more", epoll, 0);
    send(ends[0], "abc", 3, 0);
    wait_epoll("an edge", epoll, 1000);
    wait_epoll("no edge", epoll, 20);
    send(ends[0], "d", 1, 0);
    wait_epoll("another edge", epoll, 1000);
    recv(ends[1], text, 1, 0);
    level.events = EPOLLOUT | EPOLLONESHOT;
    works("change", epoll_ctl(epoll, EPOLL_CTL_MOD, ends[0], &level));
    wait_epoll("once", epoll, 1000);
    wait_epoll("and no more", epoll, 20);
    close(ends[0]);
    wait_epoll("the end", epoll, 1000);
    close(ends[1]);
    wait_epoll("closed", epoll, 20);
    close(epoll);
}

/* What went wrong with a datagram, from the queue of errors. */
static void error_queue(void) {
    int one = 1, fd = socket(AF_INET, SOCK_DGRAM, 0), closed = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in name = local(0), from = {0};
    char text[64], control[256];
    bind(closed, (struct sockaddr *)&name, sizeof name);
    name = local(port_of(closed));
    close(closed);
    works("IP_RECVERR", setsockopt(fd, IPPROTO_IP, IP_RECVERR, &one, sizeof one));
    struct iovec part = {text, sizeof text};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = control, .msg_controllen = sizeof control};
    show("no error yet", recvmsg(fd, &message, MSG_ERRQUEUE));
    works("sendto", sendto(fd, "lost", 4, 0, (struct sockaddr *)&name, sizeof name));
    look("an error waits", fd, POLLIN | POLLOUT);
    show("the datagram that was lost", recvmsg(fd, &message, MSG_ERRQUEUE));
    printf("%.4s\n", text);
    holds("it came from the queue of errors", message.msg_flags & MSG_ERRQUEUE);
    holds("it went to the closed port", from.sin_port == name.sin_port);
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head && head->cmsg_level == IPPROTO_IP && head->cmsg_type == IP_RECVERR) {
        struct { unsigned number; unsigned char origin, type, code, pad; } error;
        memcpy(&error, CMSG_DATA(head), sizeof error);
        printf("%s, origin %d, type %d, code %d\n", errno_name(error.number), error.origin, error.type, error.code);
    }
    look("none waits", fd, POLLIN | POLLOUT);
    close(fd);
}

static void version_6(void) {
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}, peer;
    socklen_t len = sizeof name;
    char text[64] = {0};
    works("bind", bind(fd, (struct sockaddr *)&name, sizeof name));
    listen(fd, 1);
    getsockname(fd, (struct sockaddr *)&name, &len);
    int client = socket(AF_INET6, SOCK_STREAM, 0);
    works("connect", connect(client, (struct sockaddr *)&name, sizeof name));
    len = sizeof peer;
    int server = accept(fd, (struct sockaddr *)&peer, &len);
    printf("%s %d\n", inet_ntop(AF_INET6, &peer.sin6_addr, text, sizeof text), (int)len);
    len = 8;
    works("a part of the name", getpeername(client, (struct sockaddr *)&peer, &len));
    printf("%d\n", (int)len);
    show("send", send(client, "six", 3, 0));
    show("receive", recv(server, text, 64, MSG_WAITALL | MSG_DONTWAIT));
    close(client), close(server), close(fd);
    /* Both versions at one socket. */
    fd = socket(AF_INET6, SOCK_STREAM, 0);
    name = (struct sockaddr_in6){.sin6_family = AF_INET6};
    bind(fd, (struct sockaddr *)&name, sizeof name);
    listen(fd, 1);
    struct sockaddr_in four = local(port_of(fd));
    client = socket(AF_INET, SOCK_STREAM, 0);
    works("connect with the old version", connect(client, (struct sockaddr *)&four, sizeof four));
    len = sizeof peer;
    server = accept(fd, (struct sockaddr *)&peer, &len);
    printf("%s\n", inet_ntop(AF_INET6, &peer.sin6_addr, text, sizeof text));
    close(client), close(server), close(fd);
}

static void more(void) {
    char text[64] = {0};
    struct linger linger = {0};
    socklen_t len = sizeof linger;
    connect_both();
    getsockopt(ends[0], SOL_SOCKET, SO_LINGER, &linger, &len);
    printf("SO_LINGER: %d %d (%d bytes)\n", linger.l_onoff, linger.l_linger, (int)len);
    struct tcp_info info = {0};
    len = sizeof info;
    works("TCP_INFO", getsockopt(ends[0], IPPROTO_TCP, TCP_INFO, &info, &len));
    printf("state %d\n", info.tcpi_state);
    len = 16;
    works("TCP_CONGESTION", getsockopt(ends[0], IPPROTO_TCP, TCP_CONGESTION, text, &len));
    send(ends[0], "0123456789", 10, 0);
    usleep(10000);
    show("receive to nowhere", recv(ends[1], NULL, 4, MSG_TRUNC));
    show("receive the rest", recv(ends[1], text, 64, 0));
    printf("%.6s\n", text);
    int waiting = -1;
    works("SIOCOUTQ", ioctl(ends[0], TIOCOUTQ, &waiting));
    printf("%d\n", waiting);
    show("into a bad address", (send(ends[0], "x", 1, 0), recv(ends[1], (void *)1, 8, 0)));
    show("from a bad address", send(ends[0], (void *)1, 8, 0));
    close_both();
    /* A datagram socket that is connected, and not any more. */
    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in name = local(0);
    bind(a, (struct sockaddr *)&name, sizeof name);
    name = local(port_of(a));
    works("connect", connect(b, (struct sockaddr *)&name, sizeof name));
    works("send", send(b, "x", 1, 0));
    name.sin_family = AF_UNSPEC;
    works("disconnect", connect(b, (struct sockaddr *)&name, sizeof name));
    show("send", send(b, "x", 1, 0));
    close(a), close(b);
}

/* Two processes that wait at the same socket. */
static void shared(void) {
    int fd = listener(), result[2];
    struct sockaddr_in name = local(port_of(fd));
    char text[8] = {0};
    pipe(result);
    for (int i = 0; i < 2; i++)
        if (fork() == 0) {
            int new = accept(fd, NULL, NULL);
            long got = recv(new, text, 8, MSG_WAITALL);
            write(result[1], got == 8 ? "+" : "-", 1);
            send(new, "done", 4, 0);
            _exit(0);
        }
    for (int i = 0; i < 2; i++) {
        int client = socket(AF_INET, SOCK_STREAM, 0);
        works("connect", connect(client, (struct sockaddr *)&name, sizeof name));
        send(client, "1234", 4, 0);
        usleep(5000);
        send(client, "5678", 4, 0);
        show("answer", recv(client, text, 8, MSG_WAITALL));
        close(client);
    }
    while (wait(NULL) > 0)
        ;
    show("both had one", read(result[0], text, 8));
    printf("%.2s\n", text);
    close(fd);
}

static void files(void) {
    char text[64] = {0};
    FILE *file = tmpfile();
    fputs("from a file to a socket", file);
    fflush(file);
    connect_both();
    off_t offset = 5;
    show("sendfile", sendfile(ends[0], fileno(file), &offset, 100));
    printf("offset %ld\n", (long)offset);
    show("receive", recv(ends[1], text, 60, 0));
    printf("%s\n", text);
    fclose(file);
    close_both();
}

static void interfaces(void) {
    struct ifaddrs *list, *one;
    works("getifaddrs", getifaddrs(&list));
    int links = 0, addresses = 0;
    for (one = list; one; one = one->ifa_next)
        if (!strcmp(one->ifa_name, "lo") && one->ifa_addr) {
            links += one->ifa_addr->sa_family == AF_PACKET;
            if (one->ifa_addr->sa_family == AF_INET) {
                addresses++;
                printf("lo has %s", inet_ntoa(((struct sockaddr_in *)one->ifa_addr)->sin_addr));
                printf(" of %s\n", inet_ntoa(((struct sockaddr_in *)one->ifa_netmask)->sin_addr));
            }
        }
    holds("lo is a link", links == 1 && addresses >= 1);
    freeifaddrs(list);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {.ifr_name = "lo"};
    works("SIOCGIFFLAGS", ioctl(fd, SIOCGIFFLAGS, &request));
    printf("flags %x\n", request.ifr_flags);
    works("SIOCGIFADDR", ioctl(fd, SIOCGIFADDR, &request));
    printf("address %s\n", inet_ntoa(((struct sockaddr_in *)&request.ifr_addr)->sin_addr));
    works("SIOCGIFMTU", ioctl(fd, SIOCGIFMTU, &request));
    printf("mtu %d\n", request.ifr_mtu);
    works("SIOCGIFINDEX", ioctl(fd, SIOCGIFINDEX, &request));
    printf("index %d\n", request.ifr_ifindex);
    strcpy(request.ifr_name, "nonesuch");
    works("no such interface", ioctl(fd, SIOCGIFFLAGS, &request));
    close(fd);
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
#define PART(name) (printf("-- " #name "\n"), name())
    PART(errors);
    PART(streams);
    PART(broken);
    PART(options);
    PART(limits);
    PART(connecting);
    PART(out_of_band);
    PART(datagrams);
    PART(waiting);
    PART(epolls);
    PART(error_queue);
    PART(version_6);
    PART(more);
    PART(shared);
    PART(files);
    PART(interfaces);
    return 0;
}
