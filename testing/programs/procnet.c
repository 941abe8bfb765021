/* What /proc/net tells of the sockets of the program. Prints the same everywhere. */
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static unsigned long ino(int fd) {
    struct stat about;
    fstat(fd, &about);
    return about.st_ino;
}

/* The line of a socket, of which the word at `where` is its number. */
static int find(const char *file, int fd, int where, char *line, size_t size) {
    char path[100], copy[500], wanted[30], *word;
    FILE *from;
    int number;
    snprintf(path, sizeof path, "/proc/net/%s", file);
    snprintf(wanted, sizeof wanted, "%lu", ino(fd));
    if (!(from = fopen(path, "r")))
        return printf("%s: %s\n", file, errno_name(errno)), 0;
    while (fgets(line, size, from)) {
        snprintf(copy, sizeof copy, "%s", line);
        for (number = 0, word = strtok(copy, " \n"); word; word = strtok(NULL, " \n"), number++)
            if (number == where && !strcmp(word, wanted))
                return fclose(from), 1;
    }
    fclose(from);
    return 0;
}

static int port(const struct sockaddr_storage *of) { return ntohs(((struct sockaddr_in *)of)->sin_port); }

/* A socket of the internet: addresses, ports as far as they are right, and the state. */
static void internet(const char *file, const char *what, int fd) {
    struct sockaddr_storage own = {0}, peer = {0};
    socklen_t len = sizeof own, peer_len = sizeof peer;
    char line[500], local[40], remote[40];
    unsigned local_port, remote_port, state, sent, waiting;
    if (!find(file, fd, 9, line, sizeof line)) {
        printf("%s %s: not listed\n", file, what);
        return;
    }
    sscanf(line, "%*s %39[^:]:%x %39[^:]:%x %x %x:%x", local, &local_port, remote, &remote_port, &state, &sent, &waiting);
    /* The acknowledgement of an end takes a moment. */
    state = state == 4 ? 5 : state;
    getsockname(fd, (struct sockaddr *)&own, &len);
    getpeername(fd, (struct sockaddr *)&peer, &peer_len);
    printf("%s %s: %s%s %s%s state %x waiting %u\n", file, what, local, (int)local_port == port(&own) ? "" : " WRONG PORT", remote,
           (int)remote_port == port(&peer) ? "" : " WRONG PORT", state, state == 8 ? 0 : waiting);
}

static int bound(int family, int kind) {
    struct sockaddr_storage name = {.ss_family = family};
    int fd = socket(family, kind, 0);
    if (family == AF_INET)
        ((struct sockaddr_in *)&name)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        ((struct sockaddr_in6 *)&name)->sin6_addr = in6addr_loopback;
    bind(fd, (struct sockaddr *)&name, family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
    return fd;
}

static int connected(int kind, int to) {
    struct sockaddr_storage name;
    socklen_t len = sizeof name;
    int fd;
    getsockname(to, (struct sockaddr *)&name, &len);
    fd = socket(name.ss_family, kind, 0);
    connect(fd, (struct sockaddr *)&name, len);
    return fd;
}

static void family(int family, const char *tcp, const char *udp) {
    int listener = bound(family, SOCK_STREAM), client, server, receiver, sender;
    internet(tcp, "that is bound", listener);
    listen(listener, 5);
    internet(tcp, "that listens", listener);
    client = connected(SOCK_STREAM, listener);
    server = accept(listener, NULL, NULL);
    write(client, "12345", 5);
    internet(tcp, "client", client);
    internet(tcp, "server", server);
    shutdown(client, SHUT_WR);
    internet(tcp, "server whose client ended", server);
    internet(tcp, "client that ended", client);
    shutdown(server, SHUT_WR);
    internet(tcp, "server that ended as well", server);
    receiver = bound(family, SOCK_DGRAM);
    internet(udp, "that is bound", receiver);
    sender = connected(SOCK_DGRAM, receiver);
    internet(udp, "that is connected", sender);
    internet(udp, "that is neither", socket(family, SOCK_DGRAM, 0));
    close(listener), close(client), close(server), close(receiver), close(sender);
}

/* Flags, type, state and name. */
static void local(const char *what, int fd) {
    char line[500], flags[20], kind[20], state[20], path[200] = "";
    if (!find("unix", fd, 6, line, sizeof line)) {
        printf("unix %s: not listed\n", what);
        return;
    }
    sscanf(line, "%*s %*s %*s %19s %19s %19s %*s %199[^\n]", flags, kind, state, path);
    printf("unix %s: %s %s %s '%s'\n", what, flags, kind, state, path);
}

static int named(int kind, const char *path, size_t len) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, kind, 0);
    memcpy(name.sun_path, path, len);
    bind(fd, (struct sockaddr *)&name, sizeof(sa_family_t) + len);
    return fd;
}

static void unix_domain(void) {
    static const char path[] = "/tmp/occlum-procnet";
    int pair[2], listener = named(SOCK_STREAM, path, sizeof path - 1), abstract;
    abstract = named(SOCK_DGRAM, "\0occlum procnet", 15);
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
    local("that is bound", listener);
    listen(listener, 1);
    local("that listens", listener);
    local("one of a pair", pair[0]);
    local("abstract", abstract);
    local("new", socket(AF_UNIX, SOCK_STREAM, 0));
    unlink(path);
}

static void head(const char *path, int lines) {
    char line[500];
    FILE *from = fopen(path, "r");
    while (from && lines-- && fgets(line, sizeof line, from))
        printf("%s|", line);
    printf("\n");
}

int main(void) {
    char target[50] = "";
    readlink("/proc/net", target, sizeof target);
    printf("/proc/net -> %s\n", target);
    head("/proc/net/tcp", 1);
    head("/proc/net/udp", 1);
    head("/proc/net/tcp6", 1);
    head("/proc/net/udp6", 1);
    head("/proc/net/unix", 1);
    head("/proc/net/dev", 2);
    head("/proc/net/route", 1);
    family(AF_INET, "tcp", "udp");
    family(AF_INET6, "tcp6", "udp6");
    unix_domain();
    return 0;
}
