/* A client of servers at socket files: `outside STREAM SEQPACKET DATAGRAM`. The first two send back what they get, the third
   drops it. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char block[100000], back[100000];

static struct sockaddr_un at(const char *path) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strncpy(name.sun_path, path, sizeof name.sun_path - 1);
    return name;
}

static int connected(int kind, const char *path) {
    struct sockaddr_un name = at(path);
    int fd = socket(AF_UNIX, kind, 0);
    works("connect", connect(fd, (struct sockaddr *)&name, sizeof name));
    return fd;
}

static void receive_all(int fd, size_t size) {
    size_t done = 0;
    ssize_t got;
    memset(back, 0, sizeof back);
    while (done < size && (got = read(fd, back + done, sizeof back - done)) > 0)
        done += got;
    holds("it came back", done == size && !memcmp(block, back, size));
}

static void stream(const char *path) {
    int fd = connected(SOCK_STREAM, path), epoll = epoll_create1(0), pair[2], value = 7;
    struct sockaddr_un name = at(path), peer;
    socklen_t len = sizeof peer;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET}, found;
    struct msghdr message = {0};
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {block, 1};
    struct timeval limit = {.tv_usec = 20000};

    works("connect again", connect(fd, (struct sockaddr *)&name, sizeof name));
    works("listen", listen(fd, 1));
    works("getpeername", getpeername(fd, (struct sockaddr *)&peer, &len));
    holds("it is the path", len == sizeof(sa_family_t) + strlen(path) + 1 && !strcmp(peer.sun_path, path));
    len = sizeof peer;
    works("getsockname", getsockname(fd, (struct sockaddr *)&peer, &len));
    show("length of no name", len);
    len = sizeof value;
    works("SO_ERROR", getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &len));
    printf("error %d\n", value);
    works("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
    show("epoll_wait", epoll_wait(epoll, &found, 1, 1000));
    printf("out %d in %d\n", !!(found.events & EPOLLOUT), !!(found.events & EPOLLIN));
    event.events = EPOLLIN | EPOLLET;
    works("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event));
    show("nothing is there", recv(fd, back, 1, MSG_DONTWAIT));
    show("write", write(fd, block, 10));
    show("epoll_wait", epoll_wait(epoll, &found, 1, 5000));
    printf("in %d\n", !!(found.events & EPOLLIN));
    receive_all(fd, 10);
    show("send much", send(fd, block, sizeof block, 0));
    receive_all(fd, sizeof block);
    show("MSG_PEEK of nothing", recv(fd, back, 1, MSG_PEEK | MSG_DONTWAIT));
    works("SO_RCVTIMEO", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    show("the time is over", read(fd, back, 1));
    show("writev", write(fd, "x", 1));
    struct pollfd row = {.fd = fd, .events = POLLIN};
    show("poll", poll(&row, 1, 5000));
    works("FIONREAD", ioctl(fd, FIONREAD, &value));
    show("bytes", value);
    show("MSG_WAITALL", recv(fd, back, 1, MSG_WAITALL));
    works("shutdown", shutdown(fd, SHUT_WR));
    show("the end", read(fd, back, 1));
    show("write after it", send(fd, "x", 1, MSG_NOSIGNAL));
    close(fd);

    /* Descriptors are not for everybody: in the enclave they stay there. */
    fd = connected(SOCK_STREAM | SOCK_CLOEXEC, path);
    pipe(pair);
    message.msg_iov = &part, message.msg_iovlen = 1, message.msg_control = control, message.msg_controllen = sizeof control;
    CMSG_FIRSTHDR(&message)->cmsg_level = SOL_SOCKET;
    CMSG_FIRSTHDR(&message)->cmsg_type = SCM_RIGHTS;
    CMSG_FIRSTHDR(&message)->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), pair, sizeof(int));
    if (getenv("DESCRIPTORS"))
        show("a descriptor", sendmsg(fd, &message, 0));
    close(fd);
}

static void packets(const char *path) {
    int fd = connected(SOCK_SEQPACKET, path);
    show("a packet", send(fd, block, 300, 0));
    show("another", send(fd, block + 1, 20, 0));
    show("the first, cut", recv(fd, back, 100, MSG_TRUNC));
    show("the second", recv(fd, back, sizeof back, 0));
    holds("it is right", !memcmp(back, block + 1, 20));
    close(fd);
}

static void datagrams(const char *path, const char *of_stream) {
    int fd = connected(SOCK_DGRAM, path);
    show("a datagram", write(fd, block, 1000));
    show("one by send", send(fd, block, 0, 0));
    show("there is no answer", recv(fd, back, 1, MSG_DONTWAIT));
    close(fd);
    connected(SOCK_DGRAM, of_stream);
}

int main(int argc, char **argv) {
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = i * 7 % 251;
    stream(argv[argc - 3]);
    packets(argv[argc - 2]);
    datagrams(argv[argc - 1], argv[argc - 3]);
    connected(SOCK_STREAM, "/nowhere/socket");
    return 0;
}
