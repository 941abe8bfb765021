/* Files of a folder that somebody outside replaces and removes meanwhile, and that are sent to him: replaced FOLDER PORT. */
#include "check.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MANY = 300, LEN = 1000000 };

static int outside;

/* He does something that this letter stands for, and says so. */
static void ask(char what) {
    char done;
    if (write(outside, &what, 1) != 1 || read(outside, &done, 1) != 1)
        printf("nobody is outside\n");
}

static void show_content(const char *what, int fd) {
    char content[100];
    long len = pread(fd, content, sizeof content, 0);
    printf("%s: %.*s", what, len < 0 ? 2 : (int)len, len < 0 ? "?\n" : content);
    struct stat status;
    show("its size", fstat(fd, &status) ? -1 : status.st_size);
    show("its links", status.st_nlink);
}

static void logs(void) {
    ask('s');
    int old = open("log", O_RDWR | O_APPEND), reads = open("log", O_RDONLY), again[2];
    ask('r');
    show("written", write(old, "more\n", 5));
    show_content("the old", reads);
    again[0] = open("log", O_RDWR | O_CREAT, 0666);
    show_content("the new", again[0]);
    again[1] = open("log", O_RDONLY);
    show("written to the new", pwrite(again[0], "N", 1, 0));
    show_content("by another", again[1]);
    show_content("the old", old);
    struct stat first, second, third;
    fstat(reads, &first), fstat(again[1], &second), stat("log", &third);
    show("are one", first.st_ino == second.st_ino);
    show("is at the name", third.st_ino == second.st_ino);
    ask('d');
    show_content("what has no name", again[1]);
    show("opened", open("log", O_RDWR));
    show("truncated", ftruncate(again[0], 1));
    int self = open("/proc/self/fd/3", O_RDONLY);
    close(self);
    show_content("truncated", again[1]);
    char *mapped = mmap(0, 1, PROT_READ, MAP_PRIVATE, again[1], 0);
    printf("mapped: %c\n", mapped == MAP_FAILED ? '?' : *mapped);
    int made = open("log", O_RDWR | O_CREAT | O_EXCL, 0666);
    show("made", write(made, "own\n", 4));
    ask('r');
    show_content("made here", made);
    show("renamed", rename("log", "other"));
    int other = open("other", O_RDONLY);
    show_content("of him, renamed here", other);
    show("emptied", close(open("other", O_WRONLY | O_TRUNC)));
    show_content("emptied", other);
    int all[] = {old, reads, again[0], again[1], made, other};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        close(all[i]);
}

static void show_at(const char *path) {
    struct stat status;
    printf("%s ", path);
    show("size", stat(path, &status) ? -1 : S_ISDIR(status.st_mode) ? 0 : status.st_size);
    printf("%s ", path);
    show("kind", lstat(path, &status) ? -1 : status.st_mode & S_IFMT);
    int fd = open(path, O_RDONLY);
    char content[20];
    long len = read(fd, content, sizeof content);
    printf("%s ", path);
    show("read", len);
    close(fd);
}

static void put(const char *path, const char *content) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    printf("%s ", path);
    show("put", write(fd, content, strlen(content)));
    close(fd);
}

/* Paths through folders, links and what is neither. */
static void deep(void) {
    show("mkdir", mkdir("d", 0755) | mkdir("d/e", 0755) | mkdir("d/e/f", 0755));
    put("d/e/f/file", "deep");
    put("d/e/file", "higher");
    put("d/none/file", "nowhere");
    put("d/e/f/", "a folder");
    show("links", symlink("d/e/f", "short") | symlink("../file", "d/e/f/up") | symlink("missing", "d/e/dangling"));
    put("d/e/dangling", "made through a link");
    static const char *const paths[] = {
        "d/e/f/file", "short/file", "short/../file", "d/e/f/up", "short/up", "d/e/missing", "d/e/file/", "d/e/file/below", "d/none/below",
        "d//e/./f/../f/file", "d/e/f", "d/e/f/", "short", "short/", "d/e/f/up/", "d/e/dangling", "d/e/f/none",
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        show_at(paths[i]);
    int fd = open("d/e/f/file", O_RDWR), folder = open("d/e", O_RDONLY | O_DIRECTORY);
    show("renamed", rename("d/e", "d/E"));
    show_at("d/e/f/file");
    show_at("d/E/f/file");
    show("written", pwrite(fd, "D", 1, 0));
    show_content("by its descriptor", fd);
    show("in the folder", fstatat(folder, "f/file", &(struct stat){0}, 0));
    show("chdir", chdir("d/E/f"));
    show_at("file");
    show_at("../file");
    show("renamed", rename("../../E", "../../e"));
    show_at("file");
    put("new", "in a folder that was renamed");
    show_at("../f/new");
    show("gone", unlink("../f/new"));
    show("gone", unlink("new"));
    show("back", chdir("../../.."));
    show("a folder with something in it", rmdir("d/e/f"));
    show("moved", rename("d/e/f/file", "d/file"));
    show_at("d/file");
    show("emptied", unlink("d/e/f/up"));
    show("removed", rmdir("d/e/f"));
    show_at("d/e/f");
    show("made again", mkdir("d/e/f", 0700));
    put("d/e/f/file", "another");
    show_content("the first", fd);
    show_at("d/e/f/file");
    close(fd);
    close(folder);
    show("left", unlink("d/e/f/file") | rmdir("d/e/f") | unlink("d/e/file") | unlink("d/e/dangling") | unlink("d/e/missing"));
    show("left", rmdir("d/e") | unlink("d/file") | rmdir("d") | unlink("short"));
}

static void many(void) {
    int files[MANY], right = 0;
    ask('m');
    for (int i = 0; i < MANY; i++) {
        char name[20];
        sprintf(name, "many-%d", i);
        files[i] = open(name, O_RDONLY);
    }
    ask('u');
    for (int i = 0; i < MANY; i++) {
        int found = -1;
        right += pread(files[i], &found, sizeof found, 0) == sizeof found && found == i;
        close(files[i]);
    }
    show("files without names that are right", right);
}

static void send_to_him(void) {
    int file = open("page", O_RDWR | O_CREAT | O_TRUNC, 0666);
    char *content = malloc(LEN);
    for (int i = 0; i < LEN; i++)
        content[i] = i * 7 / 5;
    show("page", write(file, content, LEN));
    char *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (shared != MAP_FAILED)
        memcpy(shared, "stored where it is mapped", 25);
    show("from its end", sendfile(outside, file, 0, 100));
    lseek(file, 1000, SEEK_SET);
    if (write(outside, "f", 1) != 1)
        return;
    show("from the position", sendfile(outside, file, 0, 50000));
    show("position", lseek(file, 0, SEEK_CUR));
    off_t offset = 0;
    while (offset < LEN && sendfile(outside, file, &offset, LEN) > 0) {
    }
    show("offset", offset);
    show("position", lseek(file, 0, SEEK_CUR));
    unsigned sum = 0;
    show("the sum", read(outside, &sum, sizeof sum) == sizeof sum ? (long)sum : -1);
    offset = -1;
    show("before the file", sendfile(outside, file, &offset, 1));
    show("to what is read", sendfile(file, outside, 0, 1));
    int reads = open("page", O_RDONLY);
    show("not open for writing", sendfile(reads, file, 0, 1));
    shutdown(outside, SHUT_WR);
    signal(SIGPIPE, SIG_IGN);
    show("after the end", sendfile(outside, reads, 0, 1));
}

int main(int count, char **arguments) {
    if (count != 3 || chdir(arguments[1]))
        return 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons(atoi(arguments[2]));
    outside = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(outside, (struct sockaddr *)&address, sizeof address))
        return 2;
    logs();
    deep();
    many();
    send_to_him();
    return 0;
}
