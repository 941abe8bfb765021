/* Several datagrams in one call, to and from a server that sends back what it gets: `datagrams PORT CLOSED_PORT`. */
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT = 32, ROOM = 2000 };

static char out[COUNT][ROOM], in[COUNT][ROOM], too_long[70000];
static struct iovec out_parts[COUNT][2], in_parts[COUNT][2];
static struct mmsghdr sent[COUNT], got[COUNT];
static struct sockaddr_in names[COUNT];

static int length(int i) { return i * 40; }

/* Messages of growing lengths, each in two parts. */
static void fill(void) {
    for (int i = 0; i < COUNT; i++) {
        int first = length(i) / 3;
        memset(out[i], 'A' + i, ROOM);
        out_parts[i][0] = (struct iovec){out[i], first};
        out_parts[i][1] = (struct iovec){out[i] + first, length(i) - first};
        sent[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = out_parts[i], .msg_iovlen = 2}};
    }
}

static void want(int room) {
    memset(in, 0, sizeof in);
    for (int i = 0; i < COUNT; i++) {
        in_parts[i][0] = (struct iovec){in[i], room / 2};
        in_parts[i][1] = (struct iovec){in[i] + room / 2, room - room / 2};
        got[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = in_parts[i], .msg_iovlen = 2, .msg_name = &names[i],
                                              .msg_namelen = sizeof names[i]}};
    }
}

static int are_right(int count, int from) {
    int right = 1;
    for (int i = 0; i < count; i++)
        right &= got[i].msg_len == (unsigned)length(from + i) && !got[i].msg_hdr.msg_flags &&
                 !memcmp(in[i], out[from + i], length(from + i)) && !in[i][length(from + i)];
    return right;
}

static int connected(int port) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    works("connect", connect(fd, (struct sockaddr *)&name, sizeof name));
    return fd;
}

int main(int argc, char **argv) {
    int port = atoi(argv[argc - 2]), fd = connected(port), other, count, right;
    struct timespec none = {0}, wrong = {.tv_nsec = -1};
    struct sockaddr_in server;

    fill();
    show("send all", sendmmsg(fd, sent, COUNT, 0));
    for (right = 1, count = 0; count < COUNT; count++)
        right &= sent[count].msg_len == (unsigned)length(count);
    holds("lengths that were sent", right);
    want(ROOM);
    for (count = 0; count < COUNT;) {
        int more = recvmmsg(fd, got + count, COUNT - count, MSG_WAITFORONE, NULL);
        if (more < 1)
            return show("receive", more), 1;
        count += more;
    }
    holds("all came back in their order", are_right(COUNT, 0));
    holds("from the server", names[5].sin_port == htons(port) && got[5].msg_hdr.msg_namelen == sizeof names[5]);

    show("send eight", sendmmsg(fd, sent, 8, 0));
    want(ROOM);
    show("wait for eight", recvmmsg(fd, got, 8, 0, NULL));
    holds("they are right", are_right(8, 0));
    show("there is no more", recvmmsg(fd, got, COUNT, MSG_DONTWAIT, NULL));
    show("no message", recvmmsg(fd, got, 0, 0, NULL));
    show("a wrong time", recvmmsg(fd, got, 4, 0, &wrong));
    show("send two", sendmmsg(fd, sent + 3, 2, 0));
    show("when the time is over after the first", recvmmsg(fd, got, 4, 0, &none));
    show("the other", recvmmsg(fd, got, 4, MSG_WAITFORONE, NULL));

    show("send three long ones", sendmmsg(fd, sent + 20, 3, 0));
    want(100);
    show("wait for what is cut", recvmmsg(fd, got, 3, 0, NULL));
    printf("%u %u %d\n", got[0].msg_len, got[2].msg_len, got[1].msg_hdr.msg_flags == MSG_TRUNC);
    show("send three long ones", sendmmsg(fd, sent + 20, 3, 0));
    want(100);
    show("wait for lengths", recvmmsg(fd, got, 3, MSG_TRUNC, NULL));
    printf("%u %u %d\n", got[0].msg_len, got[2].msg_len, got[1].msg_hdr.msg_flags == MSG_TRUNC);

    sent[2].msg_hdr.msg_iov[0] = (struct iovec){too_long, sizeof too_long};
    show("the third is too long", sendmmsg(fd, sent, 5, 0));
    show("the first is too long", sendmmsg(fd, sent + 2, 3, 0));
    sent[2].msg_hdr.msg_iov[0] = (struct iovec){(void *)8, 100};
    show("the third is nowhere", sendmmsg(fd, sent, 5, 0));
    show("the first is nowhere", sendmmsg(fd, sent + 2, 3, 0));
    show("the vector is nowhere", sendmmsg(fd, (void *)8, 3, 0));
    want(ROOM);
    got[1].msg_hdr.msg_iov[1].iov_base = (void *)8;
    got[1].msg_hdr.msg_iov[0].iov_len = 1;
    show("two and two came back, a place is nowhere", recvmmsg(fd, got, 4, 0, NULL));

    fill();
    fd = connected(port);
    show("send one", sendmmsg(fd, sent + 9, 1, 0));
    poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, -1);
    show("recvmsg to nowhere", recvmsg(fd, &got[1].msg_hdr, 0));
    show("it is lost", recvmsg(fd, &got[0].msg_hdr, MSG_DONTWAIT));
    show("send one", sendmmsg(fd, sent + 9, 1, 0));
    poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, -1);
    show("readv to nowhere", readv(fd, got[1].msg_hdr.msg_iov, 2));

    /* By address, and some of them not for the server. */
    fill();
    other = socket(AF_INET, SOCK_DGRAM, 0);
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < 6; i++)
        sent[i].msg_hdr.msg_name = &server, sent[i].msg_hdr.msg_namelen = sizeof server;
    show("send to an address", sendmmsg(other, sent, 6, 0));
    want(ROOM);
    show("receive", recvmmsg(other, got, 6, 0, NULL));
    holds("they are right", are_right(6, 0) && names[4].sin_port == htons(port));
    sent[3].msg_hdr.msg_namelen = 4;
    show("the fourth has a short address", sendmmsg(other, sent, 6, 0));
    want(ROOM);
    show("receive", recvmmsg(other, got, 3, 0, NULL));
    sent[3].msg_hdr.msg_name = NULL;
    show("the fourth has none", sendmmsg(other, sent, 6, 0));

    fd = connected(atoi(argv[argc - 1]));
    show("send where nobody is", sendmmsg(fd, sent + 8, 4, 0));
    show("again", sendmmsg(fd, sent + 8, 1, 0));
    show("what came of it", recvmmsg(fd, got, 4, 0, NULL));
    return 0;
}
