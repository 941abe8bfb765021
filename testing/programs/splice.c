/* splice, tee, vmsplice, sendfile, copy_file_range, and pipes of packets. Argument: a folder that does not exist. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char text[100000];

static void bytes(const char *what, long len) {
    if (len < 0)
        printf("%s: %s\n", what, errno_name(errno));
    else
        printf("%s: %ld \"%.*s\"\n", what, len, len > 40 ? 40 : (int)len, text);
    fflush(stdout);
}

static int waiting(int fd) {
    int count = -1;
    ioctl(fd, FIONREAD, &count);
    return count;
}

/* What a socket or a file does not take stays in the pipe. */
static void what_stays(int file) {
    int pipes[2], sockets[2];
    pipe(pipes), socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets);
    for (int i = 0; i < 100; i++)
        write(pipes[1], "0123456789", 10);
    int alone = socket(AF_INET, SOCK_DGRAM, 0);
    show("splice to nowhere", splice(pipes[0], NULL, alone, NULL, 300, 0));
    show("left", waiting(pipes[0]));
    while (write(sockets[0], text, 200) > 0 || write(sockets[0], text, 1) > 0) {
    }
    show("splice to what is full", splice(pipes[0], NULL, sockets[0], NULL, 300, 0));
    show("left", waiting(pipes[0]));
    while (read(sockets[1], text, 200) > 0) {
    }
    show("splice to what was full", splice(pipes[0], NULL, sockets[0], NULL, 303, 0));
    show("left", waiting(pipes[0]));
    show("splice the rest of the page", splice(pipes[0], NULL, sockets[0], NULL, 17, 0));
    memset(text, 0, 200);
    read(sockets[1], text, 10), read(sockets[1], text, 20);
    bytes("came", 20);
    show("splice to a file", splice(pipes[0], NULL, file, &(loff_t){5}, 100, 0));
    pread(file, text, 20, 5);
    bytes("came", 20);
    show("left", waiting(pipes[0]));
    shutdown(sockets[0], SHUT_WR);
    show("splice to what takes nothing", splice(pipes[0], NULL, sockets[0], NULL, 100, 0));
    show("left", waiting(pipes[0]));
    memset(text, 0, 200);
    bytes("read", read(pipes[0], text, 10));
    close(pipes[0]), close(pipes[1]), close(sockets[0]), close(sockets[1]), close(alone);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGPIPE, SIG_IGN);
    mkdir(argv[1], 0755);
    if (argc < 2 || chdir(argv[1]) == -1)
        return 1;
    int one[2], two[2];
    pipe(one), pipe(two);
    int file = open("file", O_CREAT | O_RDWR, 0644), other = open("other", O_CREAT | O_RDWR, 0644);
    write(file, "the quick brown fox jumps over the lazy dog", 43);

    loff_t at = 4;
    show("splice from a file", splice(file, &at, one[1], NULL, 11, 0));
    printf("offset %ld\n", (long)at);
    show("tee", tee(one[0], two[1], 5, 0));
    printf("%d and %d\n", waiting(one[0]), waiting(two[0]));
    show("tee all", tee(one[0], two[1], 100, 0));
    bytes("the copies", read(two[0], text, 100));
    at = 3;
    show("splice to a file", splice(one[0], NULL, other, &at, 100, 0));
    printf("offset %ld\n", (long)at);
    bytes("what it has", pread(other, text, 100, 0));
    show("nothing to splice", splice(one[0], NULL, other, NULL, 10, SPLICE_F_NONBLOCK));
    show("nothing to tee", tee(one[0], two[1], 10, SPLICE_F_NONBLOCK));
    show("tee to itself", tee(one[0], one[1], 10, 0));
    show("tee of a file", tee(file, one[1], 10, 0));
    show("tee of none", tee(one[0], two[1], 0, 0));
    show("no pipe", splice(file, NULL, other, NULL, 10, 0));
    at = 0;
    show("an offset of a pipe", splice(one[0], &at, other, NULL, 10, 0));
    show("unknown flag", splice(one[0], NULL, other, NULL, 10, 64));
    write(one[1], "from pipe to pipe", 17);
    show("pipe to pipe", splice(one[0], NULL, two[1], NULL, 9, 0));
    bytes("came", read(two[0], text, 100));
    bytes("stayed", read(one[0], text, 100));
    int null = open("/dev/null", O_WRONLY);
    write(one[1], "gone", 4);
    show("to a device", splice(one[0], NULL, null, NULL, 100, 0));

    struct iovec parts[2] = {{"several ", 8}, {"parts", 5}};
    show("vmsplice", vmsplice(one[1], parts, 2, 0));
    struct iovec into[2] = {{text, 4}, {text + 4, 90}};
    bytes("vmsplice the other way", vmsplice(one[0], into, 2, 0));
    show("nothing to vmsplice", vmsplice(one[0], into, 2, SPLICE_F_NONBLOCK));
    show("vmsplice of a file", vmsplice(file, parts, 2, 0));
    show("no parts", vmsplice(one[1], parts, 0, 0));

    lseek(file, 0, SEEK_SET);
    ftruncate(other, 0), lseek(other, 0, SEEK_SET);
    show("sendfile", sendfile(other, file, NULL, 9));
    off_t from = 40;
    show("sendfile from an offset", sendfile(other, file, &from, 100));
    printf("offset %ld, positions %ld %ld\n", (long)from, (long)lseek(file, 0, SEEK_CUR), (long)lseek(other, 0, SEEK_CUR));
    show("sendfile to a pipe", sendfile(one[1], file, NULL, 6));
    bytes("came", read(one[0], text, 100));
    loff_t source = 4, target = 0;
    show("copy_file_range", copy_file_range(file, &source, other, &target, 5, 0));
    bytes("copied", pread(other, text, 100, 0));
    source = 0, target = 2;
    show("onto itself", copy_file_range(file, &source, file, &target, 5, 0));
    show("with a pipe", copy_file_range(file, NULL, one[1], NULL, 5, 0));

    int packets[2];
    show("packets", pipe2(packets, O_DIRECT | O_NONBLOCK));
    holds("O_DIRECT", fcntl(packets[1], F_GETFL) & O_DIRECT);
    write(packets[1], "first", 5);
    write(packets[1], "second", 6);
    write(packets[1], "third", 5);
    printf("%d bytes\n", waiting(packets[0]));
    bytes("one packet", read(packets[0], text, 100));
    bytes("part of one", read(packets[0], text, 3));
    bytes("the rest is lost", read(packets[0], text, 100));
    bytes("empty", read(packets[0], text, 100));
    show("larger than a packet", write(packets[1], text, 10000));
    show("a packet", read(packets[0], text, 20000));
    show("a packet", read(packets[0], text, 20000));
    show("a packet", read(packets[0], text, 20000));
    holds("no O_DIRECT where it is read", !(fcntl(packets[0], F_GETFL) & O_DIRECT));
    write(packets[1], "packets", 7);
    write(packets[1], "stay", 4);
    show("tee of packets", tee(packets[0], two[1], 9, 0));
    bytes("all of both", read(two[0], text, 100));
    show("splice of a part", splice(packets[0], NULL, one[1], NULL, 3, 0));
    bytes("a part", read(one[0], text, 100));
    bytes("what it left is one packet", read(packets[0], text, 2));
    show("vmsplice across packets", vmsplice(packets[0], &(struct iovec){text, 100}, 1, SPLICE_F_NONBLOCK));
    parts[0] = (struct iovec){"no ", 3}, parts[1] = (struct iovec){"packet", 6};
    show("vmsplice", vmsplice(packets[1], parts, 2, 0));
    show("splice of a file", splice(file, &(loff_t){0}, packets[1], NULL, 9, 0));
    bytes("no packets", read(packets[0], text, 100));
    show("splice to itself", splice(packets[0], NULL, packets[1], NULL, 10, 0));
    fcntl(packets[1], F_SETFL, O_NONBLOCK);
    write(packets[1], "ab", 2);
    write(packets[1], "cd", 2);
    memset(text, 0, 10);
    bytes("bytes again", read(packets[0], text, 100));
    close(packets[0]);
    show("nobody reads", write(packets[1], "x", 1));

    show("nothing to splice from nowhere", splice(-1, NULL, -1, NULL, 0, 99));
    lseek(file, 0, SEEK_SET);
    ftruncate(file, 100000);
    show("sendfile does not wait for more room", sendfile(one[1], file, NULL, 100000));
    for (long len; (len = read(one[0], text, sizeof text)) > 0 && waiting(one[0]) > 0;) {}

    close(two[0]);
    write(one[1], "x", 1);
    show("tee to nobody", tee(one[0], two[1], 10, 0));
    show("splice to nobody", splice(one[0], NULL, two[1], NULL, 10, 0));
    close(one[1]);
    show("the end of a pipe", splice(one[0], NULL, other, NULL, 10, 0));
    what_stays(other);
    unlink("file"), unlink("other");
    chdir("/");
    rmdir(argv[1]);
    return 0;
}
