/* The sockets of random_sockets.c: what is known of them, and how they and their addresses are shown. */
#include "random.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define SLOTS 8
#define NAMES 3

/* A descriptor, what it is, the port that it was bound to last, and what poll said of it last. */
static struct slot {
    int fd, domain, type, port, has_sent, has_connected;
    long was;
} slots[SLOTS];
static int memory, pipe_ends[2], epolls[2];
static char folder[40];
static struct in_addr own;
/* The socket that a call is about. */
static int current;
/* A port of nobody. */
#define dead 1
static int is_used(int index);

static void setup(void) {
    catch_signal(SIGPIPE, 0);
    catch_signal(SIGURG, 0);
    inet_aton(getenv("ADDRESS") ? getenv("ADDRESS") : "127.0.0.1", &own);
    sprintf(folder, "/tmp/random_sockets.%07d", getpid());
    mkdir(folder, 0755);
    for (int i = 0; i < SLOTS; i++)
        slots[i] = (struct slot){.fd = -1, .was = -1};
    memory = syscall(SYS_memfd_create, "file", 0);
    for (int i = 0; i < 9000; i++)
        scratch[i] = (char)(i * 7);
    write(memory, scratch, 9000);
    pipe2(pipe_ends, O_NONBLOCK);
    for (int i = 0; i < 2; i++)
        epolls[i] = epoll_create1(0);
}

static void unix_path(int number, char *to) { sprintf(to, "%s/%c", folder, 'a' + number); }

static void finish(void) {
    char path[64];
    for (int i = 0; i < NAMES; i++)
        unix_path(i, path), unlink(path);
    rmdir(folder);
}

static unsigned sum_of(const char *bytes, long count) {
    unsigned sum = 0;
    for (long i = 0; i < count; i++)
        sum = sum * 31 + (unsigned char)bytes[i];
    return sum;
}

static int is_of(int index, int domain, int type) {
    return slots[index].fd >= 0 && (!domain || slots[index].domain == domain) && (!type || slots[index].type == type);
}

static const char *kind_name(int index) {
    static char text[8][24];
    static int at;
    struct slot *slot = &slots[index];
    const char *family = slot->domain == AF_INET ? "4" : slot->domain == AF_INET6 ? "6" : "";
    const char *type = slot->fd < 0 ? "none" : slot->domain == AF_UNIX ? slot->type == SOCK_STREAM ? "stream" : slot->type == SOCK_DGRAM ? "dgram" : "seqpacket"
                       : slot->type == SOCK_STREAM ? "tcp" : "udp";
    at = (at + 1) % 8;
    sprintf(text[at], "%d %s%s", index, type, family);
    return text[at];
}

static void put(int index, int fd, int domain, int type) { slots[index] = (struct slot){.fd = fd, .domain = domain, .type = type, .was = -1}; }

/* Which socket a port is of, or was. */
static void show_port(int port) {
    if (port == 0) {
        printf(":0");
        return;
    }
    for (int exact = 1; exact >= 0; exact--)
        for (int i = 0; i < SLOTS; i++)
            if (slots[i].port == port && (!exact || (slots[i].domain == slots[current].domain && slots[i].type == slots[current].type))) {
                printf(":port of %d", i);
                return;
            }
    printf(port == dead ? ":nobody" : ":?");
}

static void show_address(const void *address, socklen_t len) {
    union {
        struct sockaddr_storage all;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
        struct sockaddr_un local;
    } name;
    memset(&name, 0, sizeof name);
    memcpy(&name, address, len < sizeof name ? len : sizeof name);
    char text[64];
    printf(" <%d ", len);
    if (len >= 16 && name.all.ss_family == AF_INET) {
        printf("%s", name.four.sin_addr.s_addr == own.s_addr ? "own" : inet_ntoa(name.four.sin_addr));
        show_port(ntohs(name.four.sin_port));
    } else if (len >= 28 && name.all.ss_family == AF_INET6) {
        struct in_addr *tail = (void *)&name.six.sin6_addr.s6_addr[12];
        int is_own = IN6_IS_ADDR_V4MAPPED(&name.six.sin6_addr) && tail->s_addr == own.s_addr;
        printf("%s", is_own ? "own mapped" : inet_ntop(AF_INET6, &name.six.sin6_addr, text, sizeof text));
        show_port(ntohs(name.six.sin6_port));
    } else if (len >= 2 && name.all.ss_family == AF_UNIX) {
        size_t skip = strlen(folder);
        if (len == 2)
            printf("unnamed");
        else if (name.local.sun_path[0] == 0)
            printf("abstract %s", len == 8 ? "automatic" : strchr(name.local.sun_path + 1, '/') ? strchr(name.local.sun_path + 1, '/') : "?");
        else
            printf("path %s", strncmp(name.local.sun_path, folder, skip) ? "?" : name.local.sun_path + skip);
    } else if (len >= 2)
        printf("family %d", name.all.ss_family);
    printf(">");
}

static void learn_port(int index) {
    struct sockaddr_storage name;
    socklen_t len = sizeof name;
    if (slots[index].domain != AF_UNIX && getsockname(slots[index].fd, (void *)&name, &len) == 0)
        slots[index].port = ntohs(((struct sockaddr_in *)&name)->sin_port);
}

/* Whether a port may be the one of that socket. */
static int is_own(int of) { return slots[current].type == SOCK_STREAM && slots[of].port == slots[current].port; }

/* An address to bind or to go to, in `to`: mostly one of the family, of socket `of`. Prints it. */
static socklen_t make_address(int domain, int of, int is_to_bind, struct sockaddr_storage *to) {
    memset(to, 0, sizeof *to);
    if (chance(25))
        domain = PICK(AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC, 77);
    if (chance(20) && !is_to_bind)
        domain = AF_UNSPEC;
    to->ss_family = domain;
    socklen_t len = sizeof(struct sockaddr_storage);
    if (domain == AF_INET || domain == AF_INET6) {
        int port = is_to_bind && !chance(4) ? 0 : slots[of].port;
        /* A stream that connects to itself is not for here. */
        if (!is_to_bind && (port == 0 || is_own(of)))
            port = dead;
        if (domain == AF_INET) {
            struct sockaddr_in *four = (void *)to;
            four->sin_port = htons(port);
            four->sin_addr.s_addr = chance(8) ? htonl(PICK(INADDR_ANY, 0x7f000005, INADDR_LOOPBACK)) : own.s_addr;
            len = sizeof *four;
        } else {
            struct sockaddr_in6 *six = (void *)to;
            six->sin6_port = htons(port);
            six->sin6_addr = in6addr_loopback;
            if (chance(8))
                six->sin6_addr = in6addr_any;
            len = sizeof *six;
        }
    } else if (domain == AF_UNIX) {
        struct sockaddr_un *local = (void *)to;
        int number = below(NAMES);
        if (chance(2)) {
            unix_path(number, local->sun_path);
            len = offsetof(struct sockaddr_un, sun_path) + strlen(local->sun_path) + 1;
        } else
            len = offsetof(struct sockaddr_un, sun_path) + 1 + sprintf(local->sun_path + 1, "%07d/%c", getpid(), 'a' + number);
        if (chance(8))
            len = 2;
    } else
        len = 16;
    show_address(to, len);
    if (chance(25)) {
        len = domain == AF_UNIX ? PICK(0, 1, 2, 111, 128, 129, -1) : PICK(0, 1, 2, 3, 8, 15, 16, 24, 27, 110, 128, 129, -1);
        printf(" length %d", (int)len);
    }
    return len;
}
