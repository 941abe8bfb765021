/* Random calls about sockets: TCP, UDP and the Unix domain, and after each call what changed in what they are ready for. The
 * environment may say which address of IPv4 is used instead of the loopback one (ADDRESS). */
#include "random_sockets.h"
#include "events.h"
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>

static void look_at(int index);

static void make(int index) {
    if (slots[index].fd >= 0) {
        printf("close(%s)", kind_name(index));
        result(CALL(close, slots[index].fd));
        slots[index].fd = -1, slots[index].port = 0;
        return;
    }
    int other = below(SLOTS);
    int domain = PICK(AF_INET, AF_INET, AF_INET6, AF_UNIX, AF_UNIX), type = PICK(SOCK_STREAM, SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET);
    int flags = SOCK_NONBLOCK | (chance(2) ? SOCK_CLOEXEC : 0), protocol = chance(15) ? PICK(6, 17, 255, 256, -1) : 0;
    if (chance(30))
        domain = PICK(0, 77), type = PICK(0, 4, 11, 3);
    if (chance(3)) {
        int *ends = (void *)scratch, *at = pointer(ends);
        ends[0] = ends[1] = -1;
        domain = chance(12) ? domain : AF_UNIX;
        printf("socketpair(%d, %d, %x, %d, %s)", domain, type, flags, protocol, kind_of(at));
        if (result(CALL(socketpair, domain, type | flags, protocol, at)) == 0) {
            put(index, ends[0], domain, type);
            if (slots[other].fd < 0)
                put(other, ends[1], domain, type), printf(" other %d", other);
            else
                close(ends[1]);
        }
        return;
    }
    printf("socket(%d, %d, %x, %d)", domain, type, flags, protocol);
    long fd = success(CALL(socket, domain, type | flags, protocol));
    if (fd >= 0)
        put(index, fd, domain, type);
}

/* Whether it may have a port, or had one, that it was not bound to. */
static int is_used(int index) {
    if (slots[index].fd < 0 || slots[index].domain == AF_UNIX)
        return 0;
    return slots[index].type == SOCK_STREAM ? slots[index].has_connected : slots[index].has_sent;
}

static void bind_some(int index) {
    if (is_used(index))
        return look_at(index);
    struct sockaddr_storage *to = (void *)scratch;
    printf("bind(%s,", kind_name(index));
    socklen_t len = make_address(slots[index].domain, below(SLOTS), 1, to);
    void *at = pointer(to);
    printf(" %s)", kind_of(at));
    if (result(CALL(bind, slots[index].fd, at, len)) == 0)
        learn_port(index);
}

static void listen_some(int index) {
    if (is_used(index))
        return look_at(index);
    int backlog = PICK(0, 1, 5, 5, -1);
    printf("listen(%s, %d)", kind_name(index), backlog);
    if (result(CALL(listen, slots[index].fd, backlog)) == 0)
        learn_port(index);
}

static int partner(int index) {
    for (int i = 0; i < 20; i++) {
        int other = below(SLOTS);
        if (other != index && slots[other].domain == slots[index].domain && slots[other].type == slots[index].type && slots[other].port)
            return other;
    }
    return below(SLOTS);
}

static void connect_some(int index) {
    struct sockaddr_storage *to = (void *)scratch;
    printf("connect(%s,", kind_name(index));
    socklen_t len = make_address(slots[index].domain, partner(index), 0, to);
    void *at = pointer(to);
    printf(" %s)", kind_of(at));
    slots[index].has_connected = 1;
    if (result(CALL(connect, slots[index].fd, at, len)) == 0 && is_of(index, 0, SOCK_DGRAM))
        learn_port(index);
}

static void accept_some(int index) {
    struct sockaddr_storage *from = (void *)scratch;
    socklen_t *len = (void *)(scratch + 256);
    *len = PICK(sizeof *from, sizeof *from, 0, 5, -1);
    void *at = pointer(from), *len_at = pointer(len);
    int flags = chance(20) ? 1 : SOCK_NONBLOCK, to = -1, size = *len;
    for (int i = 0; i < SLOTS && to < 0; i++)
        if (slots[i].fd < 0)
            to = i;
    printf("accept4(%s, %s, %s %d, %x)", kind_name(index), kind_of(at), kind_of(len_at), size, flags);
    long fd = success(CALL(accept4, slots[index].fd, at, len_at, flags));
    if (fd < 0)
        return;
    if (to < 0) {
        close(fd);
        return;
    }
    put(to, fd, slots[index].domain, slots[index].type);
    printf(" as %d", to);
    if (at == from && len_at == len) {
        if (size == sizeof *from)
            show_address(from, *len);
        else
            printf(" length %d", *len);
    }
}

static int send_flags(int index) {
    int flags = MSG_DONTWAIT;
    if (chance(3))
        flags |= MSG_NOSIGNAL;
    if (chance(15))
        flags |= PICK(MSG_EOR, MSG_CONFIRM, MSG_DONTROUTE, MSG_TRUNC, MSG_PEEK, MSG_ERRQUEUE, MSG_WAITALL);
    if (chance(8))
        flags |= MSG_OOB;
    if (chance(6) && is_of(index, 0, SOCK_DGRAM))
        flags |= MSG_MORE;
    return flags;
}

/* Control messages to send, in `at`: how long they are. Prints them. */
static long make_control(int index, char *at) {
    struct cmsghdr *one = (void *)at;
    int domain = slots[index].domain;
    long len = CMSG_LEN(4);
    switch (slots[index].domain != AF_UNIX && slots[index].type == SOCK_STREAM ? 2 + below(3) : below(7)) {
    case 0:
        one->cmsg_level = SOL_SOCKET, one->cmsg_type = SCM_RIGHTS;
        int other = below(SLOTS);
        *(int *)CMSG_DATA(one) = slots[other].domain == AF_UNIX ? memory : slots[other].fd;
        printf(" rights %s", kind_name(other));
        break;
    case 1: {
        one->cmsg_level = SOL_SOCKET, one->cmsg_type = SCM_CREDENTIALS;
        struct ucred who = {getpid(), getuid(), getgid()};
        who.pid += chance(6), who.uid += chance(6);
        memcpy(CMSG_DATA(one), &who, sizeof who);
        len = CMSG_LEN(sizeof who);
        printf(" credentials%s%s", who.pid == getpid() ? "" : " another pid", who.uid == getuid() ? "" : " another uid");
        break;
    }
    case 2:
        one->cmsg_level = domain == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
        one->cmsg_type = domain == AF_INET6 ? IPV6_TCLASS : IP_TOS;
        *(int *)CMSG_DATA(one) = PICK(0, 8, 255, 256, -1);
        printf(" class %d", *(int *)CMSG_DATA(one));
        break;
    case 3:
        one->cmsg_level = domain == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
        one->cmsg_type = domain == AF_INET6 ? IPV6_HOPLIMIT : IP_TTL;
        *(int *)CMSG_DATA(one) = PICK(1, 64, 255, 256, 0, -1, -2);
        printf(" hops %d", *(int *)CMSG_DATA(one));
        break;
    case 4:
        one->cmsg_level = IPPROTO_UDP, one->cmsg_type = UDP_SEGMENT;
        *(short *)CMSG_DATA(one) = PICK(1, 100, 1000);
        len = CMSG_LEN(2);
        printf(" segment %d", *(short *)CMSG_DATA(one));
        break;
    case 5:
        one->cmsg_level = PICK(SOL_SOCKET, IPPROTO_TCP, 255), one->cmsg_type = PICK(0, 55, 200);
        printf(" level %d type %d", one->cmsg_level, one->cmsg_type);
        break;
    default: return 0;
    }
    long given = chance(12) && (slots[index].domain == AF_UNIX || slots[index].type != SOCK_STREAM) ? PICK(0, 8, 15, 16, 18, 40, -1) : len;
    one->cmsg_len = given;
    if (given != len)
        printf(" length %ld", given);
    return CMSG_SPACE(len - CMSG_LEN(0));
}

static void send_some(int index) {
    int fd = slots[index].fd, flags = send_flags(index);
    int size = PICK(0, 1, 5, 100, 1000, 1500, 3000, 7);
    /* A message of nothing that is not received is as if it were for some kernels. */
    if (size == 0 && slots[index].type == SOCK_SEQPACKET)
        size = 2;
    slots[index].has_sent = 1;
    for (int i = 0; i < size; i++)
        scratch[i] = (char)below(250);
    /* The host looks at a socket when it has the data. */
    char *at = slots[index].domain == AF_UNIX ? pointer_or(scratch, 0) : scratch;
    if (at != scratch && size == 0)
        size = 1;
    struct iovec rows[3] = {{at, size / 2}, {at, 0}, {at == scratch ? scratch + size / 2 : at, size - size / 2}};
    struct sockaddr_storage *to = (void *)(scratch + 8192);
    socklen_t len = 0;
    switch (below(6)) {
    case 0:
        printf("write(%s, %s, %d)", kind_name(index), kind_of(at), size);
        result(chance(2) ? CALL(write, fd, at, size) : CALL(writev, fd, rows, 3));
        break;
    case 1:
    case 2:
        printf("sendto(%s, %s, %d, %x", kind_name(index), kind_of(at), size, flags);
        if (chance(is_of(index, 0, SOCK_DGRAM) ? 2 : 10))
            len = make_address(slots[index].domain, partner(index), 0, to);
        printf(")");
        result(CALL(sendto, fd, at, size, flags, len ? to : NULL, len));
        break;
    case 3: {
        struct mmsghdr *messages = (void *)(scratch + 12000);
        memset(messages, 0, 3 * sizeof *messages);
        int count = PICK(0, 1, 2, 3);
        printf("sendmmsg(%s, %s, %d, %d, %x", kind_name(index), kind_of(at), size, count, flags);
        if (chance(is_of(index, 0, SOCK_DGRAM) ? 2 : 10))
            len = make_address(slots[index].domain, partner(index), 0, to);
        for (int i = 0; i < 3; i++) {
            messages[i].msg_hdr.msg_iov = rows, messages[i].msg_hdr.msg_iovlen = i == 1 ? 1 : 3;
            messages[i].msg_hdr.msg_name = len ? to : NULL, messages[i].msg_hdr.msg_namelen = len;
        }
        printf(")");
        long sent = result(CALL(sendmmsg, fd, messages, count, flags));
        for (long i = 0; i < sent; i++)
            printf(" %d", messages[i].msg_len);
        break;
    }
    default: {
        struct msghdr message = {.msg_iov = rows, .msg_iovlen = 3};
        memset(scratch + 10000, 0, 200);
        printf("sendmsg(%s, %s, %d, %x,", kind_name(index), kind_of(at), size, flags);
        if (chance(is_of(index, 0, SOCK_DGRAM) ? 2 : 10))
            len = make_address(slots[index].domain, partner(index), 0, to);
        message.msg_name = len ? to : NULL, message.msg_namelen = len;
        message.msg_controllen = make_control(index, scratch + 10000);
        message.msg_control = message.msg_controllen ? pointer(scratch + 10000) : NULL;
        printf(" %s)", kind_of(message.msg_control));
        result(CALL(sendmsg, fd, &message, flags));
    }
    }
}

static void keep(int fd) {
    int domain = 0, type = 0;
    socklen_t len = 4;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0) {
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
        printf(" socket %d %d", domain, type);
        for (int i = 0; i < SLOTS; i++)
            if (slots[i].fd < 0) {
                put(i, fd, domain, type);
                printf(" as %d", i);
                return;
            }
    }
    close(fd);
}

static void show_control(struct msghdr *message) {
    for (struct cmsghdr *one = CMSG_FIRSTHDR(message); one; one = CMSG_NXTHDR(message, one)) {
        printf(" (%d %d %ld", one->cmsg_level, one->cmsg_type, (long)one->cmsg_len);
        int value;
        memcpy(&value, CMSG_DATA(one), 4);
        if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SCM_RIGHTS)
            keep(value);
        else if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SCM_CREDENTIALS) {
            struct ucred who;
            memcpy(&who, CMSG_DATA(one), sizeof who);
            printf(" %s %s", who.pid == getpid() ? "own" : who.pid ? "another" : "nobody", who.uid == getuid() ? "own" : who.uid == 65534 ? "nobody" : "another");
        } else if ((one->cmsg_level == IPPROTO_IP && one->cmsg_type == IP_RECVERR) || (one->cmsg_level == IPPROTO_IPV6 && one->cmsg_type == IPV6_RECVERR)) {
            struct sock_extended_err error;
            memcpy(&error, CMSG_DATA(one), sizeof error);
            printf(" %s origin %d type %d code %d info %d", errno_name(error.ee_errno), error.ee_origin, error.ee_type, error.ee_code, error.ee_info);
            show_address(CMSG_DATA(one) + sizeof error, one->cmsg_level == IPPROTO_IP ? 16 : 28);
        } else if (one->cmsg_level != SOL_SOCKET && one->cmsg_len == CMSG_LEN(4))
            printf(" %d", value);
        printf(")");
    }
}

static void receive_some(int index) {
    int fd = slots[index].fd, flags = MSG_DONTWAIT;
    int size = PICK(0, 1, 5, 50, 1000, 5000, 20000);
    /* What nothing does to a mark is not for here. */
    if (size == 0 && is_of(index, AF_UNIX, SOCK_STREAM))
        size = 3;
    if (chance(3))
        flags |= PICK(MSG_PEEK, MSG_TRUNC, MSG_WAITALL, MSG_PEEK | MSG_TRUNC);
    if (chance(8))
        flags |= PICK(MSG_OOB, MSG_ERRQUEUE, MSG_OOB | MSG_PEEK, MSG_NOSIGNAL, MSG_CMSG_CLOEXEC);
    char *at = pointer_or(scratch, 0);
    memset(scratch, 0, 20000);
    if (at != scratch && size == 0)
        size = 1;
    struct sockaddr_storage *from = (void *)(scratch + 30000);
    struct iovec rows[2] = {{at, size / 3}, {at == scratch ? scratch + size / 3 : at, size - size / 3}};
    socklen_t *len = (void *)(scratch + 30200);
    *len = PICK(128, 128, 0, 9);
    long got;
    switch (below(5)) {
    case 0:
        printf("read(%s, %s, %d)", kind_name(index), kind_of(at), size);
        got = result(chance(2) ? CALL(read, fd, at, size) : CALL(readv, fd, rows, 2));
        break;
    case 1:
    case 2: {
        void *from_at = chance(2) ? NULL : pointer(from), *len_at = pointer(len);
        int room = *len;
        printf("recvfrom(%s, %s, %d, %x, %s, %s %d)", kind_name(index), kind_of(at), size, flags, kind_of(from_at), kind_of(len_at), room);
        got = result(CALL(recvfrom, fd, at, size, flags, from_at, len_at));
        if (got >= 0 && from_at == from && len_at == len) {
            if (room == 128)
                show_address(from, *len);
            else
                printf(" length %d", *len);
        }
        break;
    }
    case 3: {
        struct mmsghdr *messages = (void *)(scratch + 40000);
        memset(messages, 0, 3 * sizeof *messages);
        for (int i = 0; i < 3; i++) {
            messages[i].msg_hdr.msg_iov = rows, messages[i].msg_hdr.msg_iovlen = 2;
        }
        struct timespec *timeout = chance(4) ? (void *)(scratch + 41000) : NULL;
        if (timeout)
            *timeout = (struct timespec){PICK(0, 1, -1), PICK(0, 5, 1000000000)}, printf("[%ld %ld]", (long)timeout->tv_sec, (long)timeout->tv_nsec);
        int count = PICK(1, 2, 3);
        printf("recvmmsg(%s, %s, %d, %d, %x)", kind_name(index), kind_of(at), size, count, flags);
        got = result(CALL(recvmmsg, fd, messages, count, flags, timeout));
        for (long i = 0; i < got; i++)
            printf(" %d:%x", messages[i].msg_len, messages[i].msg_hdr.msg_flags);
        if (got > 0)
            got = 0;
        break;
    }
    default: {
        long room = PICK(0, 0, 256, 256, 256, 20, 16, 12);
        struct msghdr message = {.msg_iov = rows, .msg_iovlen = 2, .msg_name = from, .msg_namelen = *len,
                                 .msg_control = room ? scratch + 31000 : NULL, .msg_controllen = room};
        printf("recvmsg(%s, %s, %d, %x, %ld)", kind_name(index), kind_of(at), size, flags, room);
        got = result(CALL(recvmsg, fd, &message, flags));
        if (got < 0)
            break;
        printf(" flags %x control %ld", message.msg_flags, (long)message.msg_controllen);
        if (*len == 128 && message.msg_namelen)
            show_address(from, message.msg_namelen);
        else
            printf(" length %d", message.msg_namelen);
        show_control(&message);
    }
    }
    if (got > 0 && at == scratch)
        printf(" sum %x", sum_of(scratch, got < size ? got : size));
}

static void option(int index) {
    static const struct {
        int level, option;
        const char *name;
    } all[] = {
#define ONE(level, name) {level, name, #name}
        ONE(SOL_SOCKET, SO_REUSEADDR), ONE(SOL_SOCKET, SO_REUSEADDR), ONE(SOL_SOCKET, SO_REUSEPORT), ONE(SOL_SOCKET, SO_KEEPALIVE),
        ONE(SOL_SOCKET, SO_OOBINLINE), ONE(SOL_SOCKET, SO_OOBINLINE), ONE(SOL_SOCKET, SO_PASSCRED), ONE(SOL_SOCKET, SO_PASSCRED),
        ONE(SOL_SOCKET, SO_LINGER), ONE(SOL_SOCKET, SO_BROADCAST), ONE(SOL_SOCKET, SO_TYPE), ONE(SOL_SOCKET, SO_DOMAIN),
        ONE(SOL_SOCKET, SO_PROTOCOL), ONE(SOL_SOCKET, SO_ACCEPTCONN), ONE(SOL_SOCKET, SO_ERROR), ONE(SOL_SOCKET, SO_ERROR),
ONE(SOL_SOCKET, SO_RXQ_OVFL), ONE(SOL_SOCKET, SO_TIMESTAMP), ONE(SOL_SOCKET, SO_DONTROUTE),
        ONE(SOL_SOCKET, SO_SNDTIMEO), ONE(SOL_SOCKET, SO_RCVTIMEO), ONE(SOL_SOCKET, SO_NO_CHECK), ONE(SOL_SOCKET, SO_TIMESTAMPNS),
        ONE(SOL_SOCKET, SO_SNDLOWAT), ONE(IPPROTO_IP, IP_TOS), ONE(IPPROTO_IP, IP_TTL), ONE(IPPROTO_IP, IP_PKTINFO),
        ONE(IPPROTO_IP, IP_RECVERR), ONE(IPPROTO_IP, IP_RECVERR), ONE(IPPROTO_IP, IP_RECVTTL), ONE(IPPROTO_IP, IP_RECVTOS),
        ONE(IPPROTO_IP, IP_MTU_DISCOVER), ONE(IPPROTO_IP, IP_FREEBIND),
        ONE(IPPROTO_IPV6, IPV6_V6ONLY), ONE(IPPROTO_IPV6, IPV6_V6ONLY), ONE(IPPROTO_IPV6, IPV6_RECVERR), ONE(IPPROTO_IPV6, IPV6_RECVPKTINFO),
        ONE(IPPROTO_IPV6, IPV6_UNICAST_HOPS), ONE(IPPROTO_IPV6, IPV6_TCLASS), ONE(IPPROTO_IPV6, IPV6_RECVTCLASS), ONE(IPPROTO_IPV6, IPV6_RECVHOPLIMIT),
        ONE(IPPROTO_TCP, TCP_NODELAY), ONE(IPPROTO_TCP, TCP_KEEPIDLE), ONE(IPPROTO_TCP, TCP_KEEPCNT), ONE(IPPROTO_TCP, TCP_USER_TIMEOUT),
        ONE(IPPROTO_TCP, TCP_SYNCNT), ONE(IPPROTO_UDP, UDP_CORK), ONE(IPPROTO_UDP, UDP_SEGMENT), ONE(IPPROTO_UDP, UDP_GRO), ONE(255, 1),
#undef ONE
    };
    int which = below(sizeof all / sizeof *all), fd = slots[index].fd;
    /* Kernels differ. */
    if (all[which].option == SO_PASSCRED && all[which].level == SOL_SOCKET && slots[index].domain != AF_UNIX)
        which = 0;
    int *value = (void *)scratch;
    socklen_t *len = (void *)(scratch + 64);
    *len = chance(4) ? PICK(0, 1, 3, 5, 8, 16, 100, -1) : all[which].option == SO_LINGER && all[which].level == SOL_SOCKET ? 8 : 4;
    if ((all[which].option == SO_SNDTIMEO || all[which].option == SO_RCVTIMEO) && all[which].level == SOL_SOCKET && !chance(4))
        *len = 16;
    if (all[which].level == IPPROTO_IPV6 && (int)*len < 0)
        *len = 4;
    void *at = pointer(value);
    memset(scratch, 0, 64);
    int is_set = chance(2);
    printf("%s(%s, %s, %s, %d", is_set ? "setsockopt" : "getsockopt", kind_name(index), all[which].name, kind_of(at), (int)*len);
    if (is_set) {
        value[0] = PICK(0, 1, 1, 2, 5, 100, 255, 256, -1), value[1] = PICK(0, 0, 1);
        printf(", %d %d)", value[0], value[1]);
        result(CALL(setsockopt, fd, all[which].level, all[which].option, at, *len));
        return;
    }
    void *len_at = pointer(len);
    printf(" %s)", kind_of(len_at));
    if (result(CALL(getsockopt, fd, all[which].level, all[which].option, at, len_at)) == 0) {
        printf(" length %d value %d", *len, *len == 1 ? *(unsigned char *)value : *value);
        if (*len >= 8)
            printf(" %d", value[1]);
    }
}

static void look_at(int index) {
    int fd = slots[index].fd, value = -1;
    struct sockaddr_storage *name = (void *)scratch;
    socklen_t *len = (void *)(scratch + 256);
    struct stat about;
    memset(name, 0, sizeof *name);
    switch (below(8)) {
    case 0:
    case 1: {
        *len = chance(4) ? PICK(0, 1, 3, 20, -1) : sizeof *name;
        int room = *len, of_peer = chance(2);
        void *at = pointer(name), *len_at = pointer(len);
        printf("%s(%s, %s, %s %d)", of_peer ? "getpeername" : "getsockname", kind_name(index), kind_of(at), kind_of(len_at), room);
        if (result(of_peer ? CALL(getpeername, fd, at, len_at) : CALL(getsockname, fd, at, len_at)) == 0) {
            if (room == sizeof *name && (slots[index].domain == AF_UNIX || slots[index].port))
                show_address(name, *len);
            else
                printf(" length %d", *len);
        }
        return;
    }
    case 2: {
        unsigned request = PICK(FIONREAD, FIONREAD, FIONREAD, SIOCATMARK, SIOCATMARK, FIONBIO, TCGETS, FIOASYNC);
        value = 1;
        if (request == FIOASYNC)
            value = 0;
        printf("ioctl(%s, %x)", kind_name(index), request);
        if (result(CALL(ioctl, fd, request, &value)) == 0)
            printf(" %d", value);
        return;
    }
    case 3:
        printf("fcntl(%s, F_GETFL)", kind_name(index));
        result(CALL(fcntl, fd, F_GETFL));
        return;
    case 4:
        printf("fstat(%s)", kind_name(index));
        if (result(fstat(fd, &about)) == 0)
            printf(" mode %o size %ld links %d blocks %ld", about.st_mode, (long)about.st_size, (int)about.st_nlink, (long)about.st_blksize);
        return;
    case 5:
        printf("lseek, pread, pwrite, ftruncate, fsync(%s)", kind_name(index));
        result(CALL(lseek, fd, 0, SEEK_CUR)), result(CALL(pread64, fd, scratch, 1, 0)), result(CALL(pwrite64, fd, scratch, 1, 0));
        result(CALL(ftruncate, fd, 0)), result(CALL(fsync, fd));
        return;
    case 6: {
        struct tcp_info info;
        socklen_t size = sizeof info;
        memset(&info, 0, sizeof info);
        printf("getsockopt(%s, TCP_INFO)", kind_name(index));
        if (result(CALL(getsockopt, fd, IPPROTO_TCP, TCP_INFO, &info, &size)) == 0)
            printf(" state %d", info.tcpi_state == 4 ? 5 : info.tcpi_state);
        return;
    }
    default: {
        int other = below(SLOTS);
        if (slots[other].fd < 0 && fd >= 0) {
            printf("dup(%s) as %d", kind_name(index), other);
            long new = success(CALL(dup, fd));
            if (new >= 0) {
                int port = slots[index].port;
                put(other, new, slots[index].domain, slots[index].type);
                slots[other].port = port, slots[other].has_sent = slots[other].has_connected = 1;
            }
        } else
            printf("nothing");
    }
    }
}

static void from_files(int index) {
    int fd = slots[index].fd;
    long count = PICK(0, 1, 10, 1000, 3000);
    off_t *offset = (void *)scratch;
    slots[index].has_sent = 1;
    *offset = PICK(0, 100, 8999, 20000);
    char held[5000];
    switch (below(4)) {
    case 0:
        printf("sendfile(%s, %ld, %ld)", kind_name(index), (long)*offset, count);
        result(CALL(sendfile, fd, memory, offset, count));
        printf(" offset %ld", (long)*offset);
        return;
    case 1:
        printf("splice(%s to the pipe, %ld)", kind_name(index), count);
        result(CALL(splice, fd, NULL, pipe_ends[1], NULL, count, SPLICE_F_NONBLOCK));
        break;
    case 2:
        printf("splice(pipe to %s, %ld)", kind_name(index), count);
        write(pipe_ends[1], scratch + 100, 50);
        if (result(CALL(splice, pipe_ends[0], NULL, fd, NULL, count, SPLICE_F_NONBLOCK)) < 0) {
            read(pipe_ends[0], held, sizeof held);
            return;
        }
        break;
    default:
        printf("sendfile from %s", kind_name(index));
        result(CALL(sendfile, memory, fd, NULL, 10));
        return;
    }
    long got = read(pipe_ends[0], held, sizeof held);
    printf(" in the pipe %ld", got);
    if (got > 0)
        printf(" sum %x", sum_of(held, got));
    while (read(pipe_ends[0], held, sizeof held) > 0) {
    }
}

static void watch(int index) {
    struct epoll_event *event = (void *)scratch;
    int outer = below(2), operation = PICK(EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_MOD, EPOLL_CTL_DEL);
    event->events = PICK(EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLIN | EPOLLET, EPOLLOUT | EPOLLET, EPOLLIN | EPOLLONESHOT, EPOLLPRI,
                         EPOLLIN | EPOLLOUT | EPOLLONESHOT, EPOLLRDHUP, EPOLLRDHUP | EPOLLIN | EPOLLET, EPOLLIN | EPOLLEXCLUSIVE, 0);
    event->data.u64 = index;
    /* Whether each message that is received is an edge for who sent it is not for here. */
    if (event->events & EPOLLET && (slots[index].domain == AF_UNIX || slots[index].type == SOCK_DGRAM))
        event->events &= ~EPOLLOUT;
    printf("epoll_ctl(%d, %d, %s, %x)", outer, operation, kind_name(index), event->events);
    result(CALL(epoll_ctl, epolls[outer], operation, slots[index].fd, event));
}

static void wait_some(void) {
    int outer = below(2);
    if (chance(3)) {
        fd_set sets[3];
        int most = 0;
        for (int i = 0; i < 3; i++)
            FD_ZERO(&sets[i]);
        for (int i = 0; i < SLOTS; i++)
            if (slots[i].fd >= 0) {
                for (int j = 0; j < 3; j++)
                    FD_SET(slots[i].fd, &sets[j]);
                if (slots[i].fd >= most)
                    most = slots[i].fd + 1;
            }
        struct timeval zero = {0, 0};
        printf("select");
        result(CALL(select, most, &sets[0], &sets[1], &sets[2], &zero));
        for (int i = 0; i < SLOTS; i++)
            if (slots[i].fd >= 0)
                printf(" %d%s%s%s", i, FD_ISSET(slots[i].fd, &sets[0]) ? "r" : "", FD_ISSET(slots[i].fd, &sets[1]) ? "w" : "",
                       FD_ISSET(slots[i].fd, &sets[2]) ? "x" : "");
        return;
    }
    printf("epoll_wait(%d)", outer);
    show_events(epolls[outer]);
}

static void show_readiness(void) {
    struct pollfd rows[SLOTS];
    for (int i = 0; i < SLOTS; i++)
        rows[i] = (struct pollfd){slots[i].fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND | POLLMSG, 0};
    poll(rows, SLOTS, 0);
    for (int i = 0; i < SLOTS; i++)
        if (slots[i].fd >= 0 && rows[i].revents != slots[i].was) {
            printf(" {%d: %x}", i, (unsigned short)rows[i].revents);
            slots[i].was = rows[i].revents;
        }
}

static void step_with(int index) {
    /* A socket that waits for events is what most calls are for. */
    if (slots[index].fd < 0 && !chance(10))
        return make(index);
    switch (below(40)) {
    case 0:
    case 1: return make(index);
    case 2:
    case 3:
    case 4: return bind_some(index);
    case 5:
    case 6: return listen_some(index);
    case 7:
    case 8:
    case 9:
    case 10: return connect_some(index);
    case 11:
    case 12:
    case 13: return accept_some(index);
    case 14:
    case 15:
    case 16:
    case 17:
    case 18: return send_some(index);
    case 19:
    case 20:
    case 21:
    case 22:
    case 23: return receive_some(index);
    case 24: {
        int how = PICK(SHUT_RD, SHUT_WR, SHUT_WR, SHUT_RDWR, 3, -1);
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        if (is_used(index) && getpeername(slots[index].fd, (void *)&peer, &len) != 0)
            break;
        printf("shutdown(%s, %d)", kind_name(index), how);
        result(CALL(shutdown, slots[index].fd, how));
        return;
    }
    case 25:
    case 26:
    case 27:
    case 28: return option(index);
    case 29:
    case 30:
    case 31: return look_at(index);
    case 32: return from_files(index);
    case 33:
    case 34:
    case 35:
    case 36: return watch(index);
    default: return wait_some();
    }
}

static void step(void) {
    current = below(SLOTS);
    step_with(current);
    show_readiness();
}
