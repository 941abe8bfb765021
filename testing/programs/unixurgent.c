/* MSG_OOB on stream sockets of the Unix domain: a byte that can be had before the others, its mark, and SIGURG. Prints the same
 * everywhere. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int ends[2];
static volatile sig_atomic_t signals;

static void count(int number) { signals += number == SIGURG; }

static void fresh(void) {
    if (ends[0])
        close(ends[0]), close(ends[1]);
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
}

static void put(const char *text, int flags) { show("send", send(ends[0], text, strlen(text), flags | MSG_NOSIGNAL)); }

static void get(int len, int flags) {
    char text[32] = "";
    struct iovec part = {text, len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    long n = recvmsg(ends[1], &message, flags | MSG_DONTWAIT);
    printf("receive%s%s: ", flags & MSG_OOB ? " urgent" : "", flags & MSG_PEEK ? " peeking" : "");
    if (n < 0)
        printf("%s\n", errno_name(errno));
    else
        printf("%ld \"%.*s\" flags %#x\n", n, (int)n, text, message.msg_flags);
}

static int waiting(void) {
    int bytes = -1;
    ioctl(ends[1], FIONREAD, &bytes);
    return bytes;
}

/* Without the bytes that wait: some kernels go on counting one that was passed over. */
static void look(void) {
    int mark = -1;
    struct pollfd row = {.fd = ends[1], .events = POLLIN | POLLPRI | POLLRDNORM};
    ioctl(ends[1], SIOCATMARK, &mark);
    poll(&row, 1, 0);
    printf("mark %d, events %#x, signals %d\n", mark, row.revents, (int)signals);
    signals = 0;
}

int main(void) {
    int on = 1, off = 0, fd;
    signal(SIGURG, count);
    alarm(60);
    fresh();
    works("F_SETOWN", fcntl(ends[1], F_SETOWN, getpid()));
    get(9, MSG_OOB);
    put("", MSG_OOB);
    put("ab!", MSG_OOB), look();
    show("bytes", waiting());
    get(9, MSG_OOB | MSG_PEEK), get(9, MSG_OOB), look();
    show("bytes", waiting());
    get(9, MSG_OOB), get(9, 0), look(), get(9, 0);
    /* What is not taken is passed over. */
    put("ab!", MSG_OOB), put("cd", 0), look();
    get(1, 0), look(), get(9, 0), look();
    get(9, MSG_OOB | MSG_PEEK);
    get(9, MSG_PEEK), look(), get(9, 0), look(), get(9, MSG_OOB), get(9, 0);
    /* What is taken is a mark, at which a receive stops. */
    put("ab!", MSG_OOB), put("cd", 0), get(9, MSG_OOB), look();
    get(9, MSG_PEEK), get(9, 0), look(), get(9, 0), look();
    /* The next one makes the one before a byte like others. */
    put("a!", MSG_OOB), put("b?", MSG_OOB), put("c", 0), look();
    get(9, MSG_OOB), get(9, 0), get(9, 0), look();
    put("!", MSG_OOB), look(), put("?", MSG_OOB), look(), get(9, 0), look(), get(9, 0);
    put("!", MSG_OOB), get(9, 0), look();
    put("!", MSG_OOB), get(9, MSG_OOB), look(), get(9, 0), put("x", 0), get(9, 0);
    /* Inline. */
    works("SO_OOBINLINE", setsockopt(ends[1], SOL_SOCKET, SO_OOBINLINE, &on, sizeof on));
    put("ab!", MSG_OOB), put("cd", 0), look();
    get(9, MSG_OOB), get(9, MSG_PEEK), get(9, 0), look(), get(1, 0), look(), get(9, 0), look();
    works("SO_OOBINLINE", setsockopt(ends[1], SOL_SOCKET, SO_OOBINLINE, &off, sizeof off));
    /* The other way nobody is told. */
    show("the other way", send(ends[1], "!", 1, MSG_OOB)), look();
    /* Edges. */
    fresh();
    int epoll = epoll_create1(0);
    struct epoll_event one = {.events = EPOLLPRI | EPOLLET}, got;
    epoll_ctl(epoll, EPOLL_CTL_ADD, ends[1], &one);
    put("!", MSG_OOB);
    show("epoll_wait", epoll_wait(epoll, &got, 1, 0));
    show("epoll_wait", epoll_wait(epoll, &got, 1, 0));
    put("?", MSG_OOB);
    show("epoll_wait", epoll_wait(epoll, &got, 1, 0));
    /* The end. */
    put("ab!", MSG_OOB);
    close(ends[0]);
    look(), get(9, 0), look(), get(9, 0), get(9, 0);
    ends[0] = open("/dev/null", O_RDWR);
    fresh();
    close(ends[1]);
    put("ab!", MSG_OOB);
    ends[1] = open("/dev/null", O_RDWR);
    fresh();
    shutdown(ends[1], SHUT_RD);
    put("!", MSG_OOB);
    /* Other types have none. */
    for (int type = SOCK_DGRAM; type <= SOCK_SEQPACKET; type += SOCK_SEQPACKET - SOCK_DGRAM) {
        close(ends[0]), close(ends[1]);
        socketpair(AF_UNIX, type, 0, ends);
        put("ab!", MSG_OOB);
        get(9, MSG_OOB);
    }
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    show("send without a peer", send(fd, "!", 1, MSG_OOB));
    show("receive without a peer", recv(fd, &off, 1, MSG_OOB));
    return 0;
}
