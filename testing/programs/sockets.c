/* Sockets of the Unix domain, in one process and between processes. */
#include "check.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct credentials {
    int pid;
    unsigned uid, gid;
};

static void look(const char *what, int fd) {
    struct pollfd one = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
    poll(&one, 1, 0);
    printf("%s:%s%s%s%s%s\n", what, one.revents & POLLIN ? " IN" : "", one.revents & POLLOUT ? " OUT" : "",
           one.revents & POLLRDHUP ? " RDHUP" : "", one.revents & POLLHUP ? " HUP" : "",
           one.revents & POLLERR ? " ERR" : "");
}

static socklen_t named(struct sockaddr_un *to, const char *name, size_t len) {
    memset(to, 0, sizeof *to);
    to->sun_family = AF_UNIX;
    memcpy(to->sun_path, name, len);
    return offsetof(struct sockaddr_un, sun_path) + len;
}

static void show_name(const char *what, int fd, int (*get)(int, struct sockaddr *, socklen_t *)) {
    struct sockaddr_un name;
    memset(&name, 0, sizeof name);
    socklen_t len = sizeof name;
    if (get(fd, (struct sockaddr *)&name, &len)) {
        show(what, -1);
        return;
    }
    printf("%s: family %d, length %u, ", what, name.sun_family, len);
    for (size_t at = 0; at + 2 < len && at < sizeof name.sun_path; at++)
        putchar(name.sun_path[at] ? name.sun_path[at] : '@');
    putchar('\n');
}

static void pairs(void) {
    int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    for (int at = 0; at < 3; at++) {
        int ends[2];
        char text[16];
        printf("-- pair of type %d\n", kinds[at]);
        works("socketpair", socketpair(AF_UNIX, kinds[at] | SOCK_NONBLOCK, 0, ends));
        look("new", ends[0]);
        show("nothing", recv(ends[0], text, sizeof text, 0));
        show("one", send(ends[1], "one", 3, 0));
        show("three", send(ends[1], "three", 5, 0));
        int waiting = 0;
        ioctl(ends[0], FIONREAD, &waiting);
        printf("waiting: %d\n", waiting);
        show("peek", recv(ends[0], text, sizeof text, MSG_PEEK));
        show("truncated peek", recv(ends[0], text, 2, MSG_PEEK | MSG_TRUNC));
        show("first", recv(ends[0], text, sizeof text, 0));
        show("second", recv(ends[0], text, sizeof text, 0));
        look("empty", ends[0]);
        show("shutdown", shutdown(ends[1], SHUT_WR));
        look("after a half close", ends[0]);
        look("who closed half", ends[1]);
        show("back", send(ends[0], "back", 4, 0));
        show("at the end", kinds[at] == SOCK_DGRAM ? 0 : recv(ends[0], text, sizeof text, 0));
        show("after shutdown", send(ends[1], "x", 1, MSG_NOSIGNAL));
        close(ends[1]);
        look("after a close with data", ends[0]);
        if (kinds[at] != SOCK_DGRAM) {
            show("reset", recv(ends[0], text, sizeof text, 0));
            show("end", recv(ends[0], text, sizeof text, 0));
        }
        show("to nobody", send(ends[0], "x", 1, MSG_NOSIGNAL));
        close(ends[0]);
    }
}

static volatile int signals;
static void count_signal(int signal) { (void)signal; signals++; }

static void sigpipe(void) {
    printf("-- SIGPIPE\n");
    int ends[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    close(ends[1]);
    if (fork() == 0) {
        send(ends[0], "x", 1, 0);
        _exit(0);
    }
    int status;
    wait(&status);
    printf("ended by SIGPIPE: %d\n", WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
    signal(SIGPIPE, SIG_IGN);
    show("ignored", write(ends[0], "x", 1));
    signal(SIGPIPE, SIG_DFL);
    close(ends[0]);
    /* Sending to where nobody receives is a signal of streams alone. */
    static const int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    signal(SIGPIPE, count_signal);
    for (int at = 0; at < 3; at++) {
        int ends[2];
        socketpair(AF_UNIX, kinds[at], 0, ends);
        shutdown(ends[1], SHUT_RD);
        struct iovec part = {"xy", 2};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        show("write", write(ends[0], "x", 1));
        show("writev", writev(ends[0], &part, 1));
        show("send", send(ends[0], "x", 1, 0));
        show("sendmsg", sendmsg(ends[0], &message, 0));
        show("quietly", send(ends[0], "x", 1, MSG_NOSIGNAL));
        close(ends[1]);
        show("closed", write(ends[0], "x", 1));
        close(ends[0]);
        int datagram = socket(AF_INET, kinds[at] == SOCK_SEQPACKET ? SOCK_STREAM : SOCK_DGRAM, 0);
        struct sockaddr_in away = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        if (kinds[at] != SOCK_SEQPACKET) {
            connect(datagram, (struct sockaddr *)&away, sizeof away);
            works("shutdown", shutdown(datagram, SHUT_WR));
        }
        show("internet", write(datagram, "x", 1));
        close(datagram);
        printf("signals: %d\n", signals);
        signals = 0;
    }
    signal(SIGPIPE, SIG_DFL);
}

static void names(void) {
    printf("-- names\n");
    struct sockaddr_un name;
    char path[] = "/tmp/occlum-sockets-XXXXXX", full[64];
    works("mkdtemp", mkdtemp(path) ? 0 : -1);
    works("chdir", chdir(path));
    socklen_t len = named(&name, "place", 5);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    show_name("new", fd, getsockname);
    show_name("no peer", fd, getpeername);
    look("not connected", fd);
    show("nobody there", connect(client, (struct sockaddr *)&name, len));
    show("listen without a name", listen(fd, 1));
    works("bind", bind(fd, (struct sockaddr *)&name, len));
    show("bind again", bind(fd, (struct sockaddr *)&name, len));
    int other = socket(AF_UNIX, SOCK_DGRAM, 0);
    show("bind where something is", bind(other, (struct sockaddr *)&name, len));
    show("nobody listens", connect(client, (struct sockaddr *)&name, len));
    show("of another type", connect(other, (struct sockaddr *)&name, len));
    struct stat stat_of;
    stat("place", &stat_of);
    printf("type %o\n", stat_of.st_mode & S_IFMT);
    show("open", open("place", O_RDONLY));
    show("accept", accept(fd, NULL, NULL));
    works("listen", listen(fd, 1));
    look("listening", fd);
    snprintf(full, sizeof full, "%s/place", path);
    len = named(&name, full, strlen(full) + 1);
    works("connect", connect(client, (struct sockaddr *)&name, len));
    show("connect again", connect(client, (struct sockaddr *)&name, len));
    look("somebody connects", fd);
    show("send before accept", send(client, "early", 5, 0));
    int more[3];
    for (int at = 0; at < 3; at++) {
        more[at] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        show("connect more", connect(more[at], (struct sockaddr *)&name, len));
    }
    len = sizeof name;
    int server = accept(fd, (struct sockaddr *)&name, &len);
    printf("peer: length %u\n", len);
    char text[16];
    show("early", recv(server, text, sizeof text, 0));
    show_name("server", server, getsockname);
    show_name("client", client, getsockname);
    show_name("peer of the server", server, getpeername);
    show_name("peer of the client", client, getpeername);
    struct credentials who = {0};
    len = sizeof who;
    getsockopt(server, SOL_SOCKET, SO_PEERCRED, &who, &len);
    holds("the server knows who", who.pid == getpid() && who.uid == getuid() && who.gid == getgid());
    close(fd);
    look("the listener is gone", more[0]);
    show("it is reset", recv(more[0], text, sizeof text, 0));
    look("the others are not", client);
    show("nobody listens any more", connect(more[2], (struct sockaddr *)&name, named(&name, "place", 5)));
    unlink("place");
    show("nothing is there", connect(more[2], (struct sockaddr *)&name, named(&name, "place", 5)));
    for (int at = 0; at < 3; at++)
        close(more[at]);
    close(client), close(server), close(other);
    works("rmdir", chdir("/") || rmdir(path));
}

static void abstract(void) {
    printf("-- abstract names\n");
    struct sockaddr_un name;
    char text[32];
    snprintf(text, sizeof text, "@occlum-%d", getpid());
    socklen_t len = named(&name, text, strlen(text));
    name.sun_path[0] = 0;
    int a = socket(AF_UNIX, SOCK_DGRAM, 0), b = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    works("bind", bind(a, (struct sockaddr *)&name, len));
    show("taken", bind(b, (struct sockaddr *)&name, len));
    show("sendto", sendto(b, "hi", 2, 0, (struct sockaddr *)&name, len));
    struct sockaddr_un from;
    socklen_t from_len = sizeof from;
    show("recvfrom", recvfrom(a, text, sizeof text, 0, (struct sockaddr *)&from, &from_len));
    printf("from: length %u\n", from_len);
    works("autobind", bind(b, (struct sockaddr *)&(struct sockaddr_un){.sun_family = AF_UNIX}, 2));
    show("sendto", sendto(b, "hi", 2, 0, (struct sockaddr *)&name, len));
    from_len = sizeof from;
    recvfrom(a, text, sizeof text, 0, (struct sockaddr *)&from, &from_len);
    printf("from: length %u, first %d\n", from_len, from.sun_path[0]);
    works("connect", connect(a, (struct sockaddr *)&from, from_len));
    int c = socket(AF_UNIX, SOCK_DGRAM, 0);
    show("not the peer", sendto(c, "x", 1, 0, (struct sockaddr *)&name, len));
    show("to the peer", send(a, "x", 1, 0));
    show("too long", send(a, malloc(1 << 20), 1 << 20, 0));
    show("empty", send(a, "", 0, 0));
    show("x", recv(b, text, sizeof text, 0));
    show("empty", recv(b, text, sizeof text, 0));
    works("disconnect", connect(a, (struct sockaddr *)&(struct sockaddr_un){.sun_family = AF_UNSPEC}, 2));
    show("no peer", send(a, "x", 1, 0));
    int sent = 0;
    while (sendto(b, "x", 1, 0, (struct sockaddr *)&name, len) == 1)
        sent++;
    printf("until full: %d, then %s\n", sent, errno_name(errno));
    close(a);
    show("gone", sendto(b, "x", 1, 0, (struct sockaddr *)&name, len));
    close(b), close(c);
}

static ssize_t send_files(int over, const char *text, const int *fds, int count) {
    char control[CMSG_SPACE(sizeof(int) * 8)] = {0};
    struct iovec data = {(void *)text, strlen(text)};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(sizeof(int) * count)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(header), fds, sizeof(int) * count);
    return sendmsg(over, &message, 0);
}

static int receive_files(int over, int *fds, size_t room) {
    char control[256], text[64];
    struct iovec data = {text, sizeof text};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = room};
    ssize_t len = recvmsg(over, &message, MSG_CMSG_CLOEXEC);
    int count = 0;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at))
        if (at->cmsg_type == SCM_RIGHTS) {
            count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(fds, CMSG_DATA(at), count * sizeof(int));
        } else if (at->cmsg_type == 2) {
            struct credentials who;
            memcpy(&who, CMSG_DATA(at), sizeof who);
            printf("credentials: %s\n", who.pid == getpid() && who.uid == getuid() ? "right" : "wrong");
        }
    printf("%.*s: %zd bytes, %d files,%s\n", len < 0 ? 0 : (int)len, text, len, count, message.msg_flags & MSG_CTRUNC ? " cut" : "");
    return count;
}

static void files(void) {
    int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    for (int at = 0; at < 3; at++) {
        printf("-- files over type %d\n", kinds[at]);
        int ends[2], tube[2], got[8];
        works("socketpair", socketpair(AF_UNIX, kinds[at], 0, ends));
        works("pipe", pipe(tube));
        show("send", send_files(ends[0], "take", &tube[1], 1));
        show("more", send(ends[0], "more", 4, 0));
        close(tube[1]);
        receive_files(ends[1], got, 256);
        printf("close on exec: %d\n", fcntl(got[0], F_GETFD));
        receive_files(ends[1], got + 1, 256);
        show("through it", write(got[0], "hello", 5));
        close(got[0]);
        char text[8];
        show("arrived", read(tube[0], text, sizeof text));
        show("end", read(tube[0], text, sizeof text));
        int both[] = {tube[0], ends[0]};
        show("two", send_files(ends[0], "two", both, 2));
        receive_files(ends[1], got, CMSG_LEN(sizeof(int)));
        close(got[0]);
        show("one", send_files(ends[0], "one", both, 1));
        receive_files(ends[1], got, 0);
        int bad = 999;
        show("no such file", send_files(ends[0], "bad", &bad, 1));
        int one = 1;
        works("SO_PASSCRED", setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one));
        show("signed", send(ends[0], "signed", 6, 0));
        receive_files(ends[1], got, 256);
        /* What nobody receives is closed with the socket. */
        pipe(got);
        send_files(ends[0], "lost", &got[1], 1);
        close(got[1]), close(ends[0]), close(ends[1]);
        show("closed in flight", read(got[0], text, sizeof text));
        close(got[0]), close(tube[0]);
    }
    printf("-- a long chain of sockets in flight\n");
    int carried = -1;
    for (int round = 0; round < 2000; round++) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
            perror("socketpair");
        if (carried >= 0) {
            send_files(ends[0], "x", &carried, 1);
            close(carried);
        }
        close(ends[0]);
        carried = ends[1];
    }
    works("close", close(carried));
}

static void waiting(void) {
    printf("-- waiting\n");
    int ends[2];
    char text[4096];
    works("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    struct timeval limit = {.tv_usec = 20000};
    works("SO_RCVTIMEO", setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    show("limit", recv(ends[0], text, 1, 0));
    works("SO_SNDTIMEO", setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
    memset(text, 'x', sizeof text);
    long sent = 0, some;
    while ((some = send(ends[0], text, sizeof text, 0)) > 0)
        sent += some;
    show("full", some);
    holds("much fits", sent >= 65536);
    look("full", ends[0]);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        long all = 0, got;
        while ((got = recv(ends[1], text, sizeof text, MSG_WAITALL)) > 0)
            all += got;
        _exit(all % 251);
    }
    close(ends[1]);
    limit.tv_usec = 0;
    setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    for (int round = 0; round < 500; round++) {
        some = send(ends[0], text, sizeof text, 0);
        if (some != sizeof text)
            show("short", some);
        sent += some;
    }
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    holds("everything arrived", WIFEXITED(status) && WEXITSTATUS(status) == sent % 251);
}

/* Who waits for a socket hears when it is closed. */
static void closing(void) {
    printf("-- closing what somebody waits for\n");
    struct sockaddr_un name;
    char text[32];
    for (int round = 0; round < 2; round++) {
        int kind = round ? SOCK_DGRAM : SOCK_STREAM, status;
        snprintf(text, sizeof text, "@occlum-%d-%d", getpid(), round);
        socklen_t len = named(&name, text, strlen(text));
        name.sun_path[0] = 0;
        int fd = socket(AF_UNIX, kind, 0);
        works("bind", bind(fd, (struct sockaddr *)&name, len));
        if (kind == SOCK_STREAM)
            works("listen", listen(fd, 0));
        pid_t child = fork();
        if (child == 0) {
            close(fd);
            for (int at = 0; at < 1000; at++) {
                int mine = socket(AF_UNIX, kind, 0);
                if (connect(mine, (struct sockaddr *)&name, len) || (kind == SOCK_DGRAM && send(mine, "x", 1, 0) != 1))
                    _exit(errno == ECONNREFUSED ? 10 + (at > 0) : 1);
            }
            _exit(2);
        }
        usleep(100000);
        close(fd);
        waitpid(child, &status, 0);
        printf("refused: %d\n", WEXITSTATUS(status));
    }
}

static void events(void) {
    printf("-- epoll\n");
    int ends[2], epoll = epoll_create1(0);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
    works("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event));
    printf("new: %d", epoll_wait(epoll, &event, 1, 0));
    printf(" %x\n", event.events);
    printf("no edge: %d\n", epoll_wait(epoll, &event, 1, 0));
    send(ends[1], "x", 1, 0);
    printf("data: %d", epoll_wait(epoll, &event, 1, 1000));
    printf(" %x\n", event.events);
    shutdown(ends[1], SHUT_WR);
    printf("half closed: %d", epoll_wait(epoll, &event, 1, 1000));
    printf(" %x\n", event.events);
    close(ends[1]);
    printf("closed: %d", epoll_wait(epoll, &event, 1, 1000));
    printf(" %x\n", event.events);
    close(ends[0]), close(epoll);
}

int main(void) {
    pairs();
    sigpipe();
    names();
    abstract();
    files();
    waiting();
    closing();
    events();
    return 0;
}
