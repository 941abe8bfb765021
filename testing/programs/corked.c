/* Datagrams that are put together, and such as are lost: MSG_MORE, UDP_CORK, SO_RXQ_OVFL. Prints the same everywhere. */
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

static char block[70000], text[70000];

static int receiver(struct sockaddr_in *name) {
    socklen_t len = sizeof *name;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    *name = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bind(fd, (struct sockaddr *)name, sizeof *name);
    getsockname(fd, (struct sockaddr *)name, &len);
    return fd;
}

static void receive(int fd) {
    ssize_t got = recv(fd, text, sizeof text, MSG_DONTWAIT);
    if (got < 0)
        printf("  nothing: %s\n", errno_name(errno));
    else
        printf("  %zd bytes: %.*s\n", got, (int)(got < 20 ? got : 20), text);
}

static void cork(int fd, int on) { works("UDP_CORK", setsockopt(fd, IPPROTO_UDP, UDP_CORK, &on, sizeof on)); }

static void together(void) {
    struct sockaddr_in here, there;
    int one = receiver(&here), two = receiver(&there), fd = socket(AF_INET, SOCK_DGRAM, 0), value = -1;
    socklen_t len = sizeof value;
    connect(fd, (struct sockaddr *)&here, sizeof here);
    show("more", send(fd, "one ", 4, MSG_MORE));
    receive(one);
    show("and more", send(fd, "two ", 4, MSG_MORE));
    show("the last", send(fd, "three", 5, 0));
    receive(one);
    receive(one);
    show("more to one", sendto(fd, "a", 1, MSG_MORE, (struct sockaddr *)&here, sizeof here));
    show("the rest to two", sendto(fd, "b", 1, 0, (struct sockaddr *)&there, sizeof there));
    receive(one);
    receive(two);
    cork(fd, 1);
    getsockopt(fd, IPPROTO_UDP, UDP_CORK, &value, &len);
    printf("corked %d\n", value);
    show("write", write(fd, "x", 1));
    show("write", write(fd, "yz", 2));
    receive(one);
    cork(fd, 0);
    receive(one);
    receive(one);
    cork(fd, 1);
    show("the longest there is", send(fd, block, 65507, 0));
    show("one byte too long", send(fd, "!", 1, 0));
    show("a new one", send(fd, "new", 3, 0));
    cork(fd, 0);
    receive(one);
    receive(one);
    show("nothing, and more", send(fd, "", 0, MSG_MORE));
    show("something", send(fd, "s", 1, 0));
    receive(one);
}

/* How many were lost before a datagram, as it tells. */
static void lost(int fd) {
    char control[100];
    struct iovec part = {text, sizeof text};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(fd, &message, MSG_DONTWAIT) < 0) {
        printf("nothing: %s\n", errno_name(errno));
        return;
    }
    unsigned count = 0;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SO_RXQ_OVFL)
        memcpy(&count, CMSG_DATA(header), sizeof count);
    printf("%s\n", !header ? "nothing was lost" : count ? "some were lost" : "WRONG");
}

static void losses(void) {
    struct sockaddr_in here;
    int fd = receiver(&here), sender = socket(AF_INET, SOCK_DGRAM, 0), on = 1, small = 1;
    works("SO_RXQ_OVFL", setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    connect(sender, (struct sockaddr *)&here, sizeof here);
    send(sender, "first", 5, 0);
    lost(fd);
    for (int i = 0; i < 100; i++)
        send(sender, block, 1000, 0);
    lost(fd);
    while (recv(fd, text, sizeof text, MSG_DONTWAIT) > 0)
        ;
    send(sender, "later", 5, 0);
    lost(fd);
    lost(fd);
}

/* A message comes whole or not at all. */
static void nowhere(void) {
    struct sockaddr_in here;
    int fd = receiver(&here), pair[2];
    struct iovec parts[2] = {{text, 2}, {(void *)8, 100}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    sendto(fd, "four", 4, 0, (struct sockaddr *)&here, sizeof here);
    show("a part is nowhere", recvmsg(fd, &message, 0));
    show("and the message is lost", recvmsg(fd, &message, MSG_DONTWAIT));
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
    send(pair[0], "four", 4, 0);
    show("a part is nowhere", recvmsg(pair[1], &message, 0));
    show("and the message is lost", recvmsg(pair[1], &message, MSG_DONTWAIT));
    send(pair[0], "12", 2, 0);
    show("one that ends before", recvmsg(pair[1], &message, 0));
}

int main(void) {
    memset(block, '.', sizeof block);
    together();
    losses();
    nowhere();
    return 0;
}
