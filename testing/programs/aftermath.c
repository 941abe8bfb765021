/* What poll says of a socket once a call has told what went wrong, and calls that fail in the middle of something. Prints the same
 * everywhere. */
#include "check.h"
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_in nobody = {AF_INET, 0, {0}}, own = {AF_INET, 0, {0}};

/* Waits until a socket is ready for something. */
static void look(const char *what, int fd, int waits) {
    struct pollfd one = {fd, POLLIN | POLLRDHUP | POLLPRI | (waits ? 0 : POLLOUT), 0};
    poll(&one, 1, waits ? 5000 : 0);
    one.events |= POLLOUT;
    poll(&one, 1, 0);
    printf("%s: %x\n", what, one.revents);
}

static void streams(int is_watched) {
    printf("-- a stream that is refused%s\n", is_watched ? ", watched" : "");
    for (int how = 0; how < 4; how++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), instance = epoll_create1(0);
        struct epoll_event event = {EPOLLIN, {.fd = fd}};
        char byte;
        if (is_watched)
            epoll_ctl(instance, EPOLL_CTL_ADD, fd, &event);
        show("connect", connect(fd, (void *)&nobody, sizeof nobody));
        look("it failed", fd, 1);
        struct msghdr message = {.msg_name = &own, .msg_namelen = sizeof own};
        int error = 0;
        socklen_t len = sizeof error;
        switch (how) {
        case 0: show("send", send(fd, "x", 1, MSG_NOSIGNAL)); break;
        case 1: show("receive", recv(fd, &byte, 1, 0)); break;
        case 2: show("recvmsg", recvmsg(fd, &message, 0)); break;
        default: getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), printf("SO_ERROR: %s\n", errno_name(error));
        }
        look("it was told", fd, 0);
        show("receive", recv(fd, &byte, 1, 0));
        show("send", send(fd, "x", 1, MSG_NOSIGNAL));
        show("connect", connect(fd, (void *)&nobody, sizeof nobody));
        look("as new", fd, 0);
        close(fd), close(instance);
    }
}

static void datagrams(void) {
    printf("-- datagrams to nobody\n");
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    char byte;
    works("bind", bind(fd, (void *)&own, sizeof own));
    works("connect", connect(fd, (void *)&nobody, sizeof nobody));
    show("send", send(fd, "x", 1, 0));
    look("it came back", fd, 1);
    show("receive", recv(fd, &byte, 1, 0));
    look("it was told", fd, 0);
    show("to the peer by its name", sendto(fd, "x", 1, 0, (void *)&nobody, sizeof nobody));
    look("it came back", fd, 1);
    show("send", send(fd, "x", 1, 0));
    look("it was told", fd, 0);
    /* A part that waits knows where it goes. */
    close(fd);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    show("a part", sendto(fd, "ab", 2, MSG_MORE, (void *)&nobody, sizeof nobody));
    show("the rest", send(fd, "cd", 2, 0));
    show("another", send(fd, "e", 1, 0));
    close(fd);
}

static int shared;

static void *shut(void *how) {
    usleep(30000);
    shutdown(shared, (int)(long)how);
    return NULL;
}

/* Who waits to receive when the socket is shut down hears the end. */
static void ends(void) {
    printf("-- shut down while somebody waits\n");
    for (int is_read = 0; is_read < 2; is_read++)
        for (int family = 0; family < 2; family++) {
            int pair[2] = {-1, -1};
            pthread_t other;
            char byte;
            if (family)
                socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
            else
                pair[0] = socket(AF_INET, SOCK_DGRAM, 0), bind(pair[0], (void *)&own, sizeof own);
            shared = pair[0];
            pthread_create(&other, NULL, shut, (void *)SHUT_RD);
            show(is_read ? "read" : "receive", is_read ? read(shared, &byte, 1) : recv(shared, &byte, 1, 0));
            pthread_join(other, NULL);
            show("without waiting", recv(shared, &byte, 1, MSG_DONTWAIT));
            close(pair[0]), close(pair[1]);
        }
}

/* Descriptors come with the bytes that they were sent with, and with those before. */
static void passing(void) {
    printf("-- descriptors among bytes\n");
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
    for (int signs = 0; signs < 2; signs++) {
        setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &signs, sizeof signs);
        char room[256] = {0}, bytes[9];
        struct iovec part = {"xy", 2};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = CMSG_SPACE(4)};
        struct cmsghdr *first = CMSG_FIRSTHDR(&message);
        first->cmsg_level = SOL_SOCKET, first->cmsg_type = SCM_RIGHTS, first->cmsg_len = CMSG_LEN(4);
        memcpy(CMSG_DATA(first), &pair[0], 4);
        if (!signs)
            show("before", send(pair[0], "abc", 3, 0));
        show("with", sendmsg(pair[0], &message, 0));
        show("behind", send(pair[0], "def", 3, 0));
        for (int i = 0; i < 3; i++) {
            struct iovec into = {bytes, sizeof bytes};
            message = (struct msghdr){.msg_iov = &into, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
            show("receive", recvmsg(pair[1], &message, i ? 0 : MSG_PEEK));
            for (struct cmsghdr *one = CMSG_FIRSTHDR(&message); one && message.msg_controllen; one = CMSG_NXTHDR(&message, one)) {
                int fd;
                memcpy(&fd, CMSG_DATA(one), sizeof fd);
                printf("along: %d, %ld bytes\n", one->cmsg_type, (long)one->cmsg_len);
                if (one->cmsg_type == SCM_RIGHTS)
                    close(fd);
            }
        }
    }
}

/* Ends that others see. */
static void others(void) {
    printf("-- a terminal, a process, devices\n");
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    char name[64], byte;
    unlockpt(master), ptsname_r(master, name, sizeof name);
    int slave = open(name, O_RDWR | O_NOCTTY);
    close(slave);
    show("read what nobody writes", read(master, &byte, 1));
    show("write what nobody reads", write(master, "abc", 3));
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    struct pollfd one = {syscall(SYS_pidfd_open, child, 0), POLLIN, 0};
    show("it ends", poll(&one, 1, -1));
    printf("ready: %x\n", one.revents);
    works("wait", waitpid(child, NULL, 0));
    show("poll", poll(&one, 1, 0));
    printf("ready: %x\n", one.revents);
    struct epoll_event event = {EPOLLIN, {0}};
    int instance = epoll_create1(0), device = open("/dev/null", O_RDWR);
    show("watch a device", epoll_ctl(instance, EPOLL_CTL_ADD, device, &event));
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    show("the other end", ioctl(fd, SIOCGIFDSTADDR, &request));
    holds("it is this one", ((struct sockaddr_in *)&request.ifr_addr)->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    show("its map", ioctl(fd, SIOCGIFMAP, &request));
}

int main(void) {
    nobody.sin_addr.s_addr = own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    nobody.sin_port = htons(1);
    streams(0), streams(1);
    datagrams();
    ends();
    passing();
    others();
    return 0;
}
