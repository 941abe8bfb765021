/* Files and folders, in an empty folder that the argument names. */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *folder) {
    char *names[1000];
    int count = 0;
    DIR *stream = opendir(folder);
    if (!stream) {
        printf("opendir %s: %s\n", folder, errno_name(errno));
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(stream)) && count < 1000) {
        char text[300];
        snprintf(text, sizeof text, "%s/%d", entry->d_name, entry->d_type);
        names[count++] = strdup(text);
    }
    closedir(stream);
    qsort(names, count, sizeof *names, by_name);
    printf("%s has %d:", folder, count);
    for (int i = 0; i < count; i++) {
        if (i < 12)
            printf(" %s", names[i]);
        free(names[i]);
    }
    printf("\n");
}

static void describe(const char *path) {
    struct stat s;
    if (lstat(path, &s)) {
        printf("lstat %s: %s\n", path, errno_name(errno));
        return;
    }
    printf("%s: mode %o", path, s.st_mode);
    if (S_ISREG(s.st_mode) || S_ISLNK(s.st_mode))
        printf(" size %ld links %ld", (long)s.st_size, (long)s.st_nlink);
    printf(" own %d\n", s.st_uid == getuid() && s.st_gid == getgid());
}

static void contents(const char *path) {
    char text[256];
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (length < 0)
        printf("%s: %s\n", path, errno_name(errno));
    else
        printf("%s: \"%.*s\"\n", path, (int)length, text);
    close(fd);
}

static void put(const char *path, const char *text, int flags) {
    int fd = open(path, O_WRONLY | O_CREAT | flags, 0644);
    if (fd < 0) {
        printf("open %s: %s\n", path, errno_name(errno));
        return;
    }
    show("write", write(fd, text, strlen(text)));
    close(fd);
}

static void reading_and_writing(void) {
    put("a", "hello", O_TRUNC);
    put("a", " world", O_APPEND);
    contents("a");
    put("a", "J", 0);
    contents("a");
    put("a", "x", O_EXCL);
    put("b", "", O_TRUNC);
    describe("a");
    describe("b");

    int fd = open("a", O_RDWR);
    char text[32] = {0};
    show("lseek end", lseek(fd, 0, SEEK_END));
    show("lseek back", lseek(fd, -5, SEEK_CUR));
    show("read", read(fd, text, 3));
    printf("%s\n", text);
    show("lseek before the start", lseek(fd, -1, SEEK_SET));
    show("lseek nonsense", lseek(fd, 0, 99));
    show("pwrite", pwrite(fd, "W", 1, 6));
    show("the position stays", lseek(fd, 0, SEEK_CUR));
    show("pwrite far", pwrite(fd, "end", 3, 10000));
    describe("a");
    memset(text, 1, sizeof text);
    show("pread of a hole", pread(fd, text, 4, 5000));
    holds("holes are zero", text[0] == 0 && text[3] == 0);
    show("pread at the end", pread(fd, text, 10, 10003));
    show("pread past the end", pread(fd, text, 10, 20000));
    show("pread before the start", pread(fd, text, 10, -1));
    show("ftruncate", ftruncate(fd, 5));
    describe("a");
    show("ftruncate longer", ftruncate(fd, 8));
    contents("a");
    show("ftruncate to -1", ftruncate(fd, -1));
    struct iovec parts[3] = {{"one,", 4}, {"", 0}, {"two", 3}};
    lseek(fd, 0, SEEK_SET);
    show("writev", writev(fd, parts, 3));
    char left[3], right[10] = {0};
    struct iovec holes[2] = {{left, 3}, {right, 9}};
    show("preadv", preadv(fd, holes, 2, 0));
    printf("%.3s|%s\n", left, right);
    show("writev of too many", writev(fd, parts, 2000));
    show("fsync", fsync(fd));
    show("fdatasync", fdatasync(fd));
    show("fallocate", fallocate(fd, 0, 0, 100));
    describe("a");
    show("read of what is open for both", read(fd, text, 0));
    close(fd);
    fd = open("a", O_RDONLY);
    show("write to what is open for reading", write(fd, "x", 1));
    show("ftruncate of what is open for reading", ftruncate(fd, 0));
    close(fd);
    fd = open("a", O_WRONLY);
    show("read of what is open for writing", read(fd, text, 1));
    close(fd);
    show("close again", close(fd));
    show("truncate", truncate("a", 3));
    contents("a");
}

static void names(void) {
    works("rename", rename("a", "c"));
    describe("a");
    contents("c");
    works("rename over", rename("c", "b"));
    contents("b");
    works("rename of nothing", rename("nothing", "x"));
    works("link", link("b", "d"));
    describe("b");
    put("d", "12", O_TRUNC);
    contents("b");
    works("unlink", unlink("b"));
    describe("d");
    works("unlink of nothing", unlink("b"));
    works("symlink", symlink("d", "s"));
    describe("s");
    contents("s");
    char text[10];
    show("readlink", readlink("s", text, sizeof text));
    show("readlink of a file", readlink("d", text, sizeof text));
    works("symlink over", symlink("d", "s"));
    works("a loop", symlink("loop", "loop"));
    contents("loop");
    works("dangling", symlink("nowhere", "dangling"));
    contents("dangling");
    works("O_NOFOLLOW", open("s", O_RDONLY | O_NOFOLLOW));
    works("O_EXCL through a link", open("dangling", O_CREAT | O_EXCL | O_WRONLY, 0600));
    put("dangling", "made", 0);
    contents("nowhere");
    char deep[300];
    memset(deep, 'n', 255);
    deep[255] = 0;
    works("a name of 255", open(deep, O_CREAT | O_WRONLY, 0600));
    works("its unlink", unlink(deep));
    deep[255] = 'n';
    deep[256] = 0;
    works("a name of 256", open(deep, O_CREAT | O_WRONLY, 0600));
    char path[PATH_MAX + 10];
    memset(path, '/', sizeof path);
    path[sizeof path - 1] = 0;
    works("a path too long", open(path, O_RDONLY));
    works("an empty path", open("", O_RDONLY));
}

static void folders(void) {
    works("mkdir", mkdir("f", 0755));
    works("mkdir again", mkdir("f", 0755));
    describe("f");
    works("mkdir in nothing", mkdir("no/f", 0755));
    works("mkdir in a file", mkdir("d/f", 0755));
    put("f/x", "in f", 0);
    put("f/../f/./y", "also", 0);
    list("f");
    works("rmdir of a full one", rmdir("f"));
    works("unlink of a folder", unlink("f"));
    works("rmdir of a file", rmdir("d"));
    works("rename of a folder", rename("f", "g"));
    contents("g/x");
    works("rename into itself", rename("g", "g/h"));
    works("a file over a folder", rename("d", "g"));
    works("a folder over a file", rename("g", "d"));
    works("open of a folder for writing", open("g", O_WRONLY));
    int fd = open("g", O_RDONLY | O_DIRECTORY);
    works("open as a folder", fd);
    char text[100];
    show("read of a folder", read(fd, text, 10));
    works("O_DIRECTORY of a file", open("d", O_RDONLY | O_DIRECTORY));
    int inside = openat(fd, "x", O_RDONLY);
    show("openat", read(inside, text, 100));
    close(inside);
    works("openat from a file", openat(open("d", O_RDONLY), "x", O_RDONLY));
    works("fchdir", fchdir(fd));
    contents("x");
    works("chdir ..", chdir(".."));
    works("chdir to a file", chdir("d"));
    works("unlinkat", unlinkat(fd, "x", 0));
    works("unlinkat folder flag", unlinkat(AT_FDCWD, "g", AT_REMOVEDIR));
    unlink("g/y");
    works("rmdir", rmdir("g"));
    show("readdir of a folder that is gone", syscall(SYS_getdents64, fd, text, sizeof text));
    close(fd);
    works("rmdir .", rmdir("."));
    mkdir("many", 0755);
    for (int i = 0; i < 500; i++) {
        snprintf(text, sizeof text, "many/file-%03d", i);
        close(open(text, O_CREAT | O_WRONLY, 0644));
    }
    list("many");
    fd = open("many", O_RDONLY);
    show("getdents into too little", syscall(SYS_getdents64, fd, text, 10));
    close(fd);
    for (int i = 0; i < 500; i++) {
        snprintf(text, sizeof text, "many/file-%03d", i);
        unlink(text);
    }
    list("many");
    rmdir("many");
}

static void attributes(void) {
    works("chmod", chmod("d", 0600));
    describe("d");
    works("fchmodat", fchmodat(AT_FDCWD, "d", 0751, 0));
    describe("d");
    works("access exists", access("d", F_OK));
    works("access read", access("d", R_OK));
    works("access of nothing", access("nothing", F_OK));
    works("access nonsense", access("d", 99));
    struct timespec times[2] = {{.tv_sec = 1000000000, .tv_nsec = 123456789}, {.tv_sec = 1500000000, .tv_nsec = 5}};
    works("utimensat", utimensat(AT_FDCWD, "d", times, 0));
    struct stat s;
    stat("d", &s);
    printf("times: %ld.%ld %ld.%ld\n", s.st_atim.tv_sec, s.st_atim.tv_nsec, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    put("d", "later", O_TRUNC);
    stat("d", &s);
    holds("writing updates the time", s.st_mtim.tv_sec > 1600000000 && labs(s.st_mtim.tv_sec - time(NULL)) < 5);
    umask(077);
    close(open("u", O_CREAT | O_WRONLY, 0666));
    describe("u");
    holds("umask", umask(022) == 077);
#ifdef STATX_BASIC_STATS
    struct statx x;
    works("statx", statx(AT_FDCWD, "u", 0, STATX_BASIC_STATS, &x));
    printf("statx: mode %o size %d\n", x.stx_mode, (int)x.stx_size);
#endif
    struct statfs fs;
    works("statfs", statfs(".", &fs));
    holds("statfs says something", fs.f_bsize > 0 && fs.f_namelen == 255);
    works("fstat of a closed one", fstat(999, &s));
    works("stat through a file", stat("d/x", &s));
    works("stat with a slash", stat("d/", &s));
    works("stat of a dangling link", (unlink("nowhere"), stat("dangling", &s)));
    char *cwd = getcwd(NULL, 0);
    holds("getcwd", cwd && cwd[0] == '/');
    char small[2];
    holds("getcwd into too little", !getcwd(small, 2) && errno == ERANGE);
    char *real = realpath("./d", NULL);
    holds("realpath", real && !strncmp(real, cwd, strlen(cwd)) && !strcmp(real + strlen(cwd), "/d"));
}

static void descriptors(void) {
    int fd = open("d", O_RDWR | O_CLOEXEC), copy = dup(fd);
    close(copy);
    holds("the lowest number is taken", dup(fd) == copy);
    show("F_GETFD", fcntl(fd, F_GETFD));
    show("F_GETFD of the copy", fcntl(copy, F_GETFD));
    lseek(fd, 3, SEEK_SET);
    show("copies share the position", lseek(copy, 0, SEEK_CUR));
    int other = open("d", O_RDONLY);
    show("another open does not", lseek(other, 0, SEEK_CUR));
    show("F_GETFL", fcntl(other, F_GETFL) & O_ACCMODE);
    show("F_SETFL", fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK));
    printf("O_APPEND %d O_NONBLOCK %d\n", !!(fcntl(copy, F_GETFL) & O_APPEND), !!(fcntl(copy, F_GETFL) & O_NONBLOCK));
    show("dup2", dup2(fd, 50));
    show("dup2 onto itself", dup2(50, 50));
    show("dup3 onto itself", dup3(50, 50, 0));
    show("F_DUPFD", fcntl(fd, F_DUPFD, 60));
    show("dup2 of a closed one", dup2(999, 51));
    show("dup2 to a bad one", dup2(fd, -1));
    show("fcntl nonsense", fcntl(fd, 9999));
    show("isatty of a file", isatty(fd) ? 1 : -1);
    unlink("d");
    show("an unlinked file can be written", write(fd, "still", 5));
    struct stat s;
    fstat(fd, &s);
    show("its links", s.st_nlink);
    close(fd);
    close(copy);
    close(other);
    close(50);
    close(60);
    show("close of -1", close(-1));
}

static void devices(void) {
    char buffer[64];
    int fd = open("/dev/null", O_RDWR);
    show("null read", read(fd, buffer, 10));
    show("null write", write(fd, buffer, 10));
    close(fd);
    fd = open("/dev/zero", O_RDONLY);
    memset(buffer, 1, sizeof buffer);
    show("zero read", read(fd, buffer, 64));
    holds("zeros", buffer[0] == 0 && buffer[63] == 0);
    close(fd);
    fd = open("/dev/full", O_RDWR);
    show("full write", write(fd, buffer, 10));
    close(fd);
    char more[64] = {0};
    fd = open("/dev/urandom", O_RDONLY);
    show("urandom read", read(fd, buffer, 64));
    show("again", read(fd, more, 64));
    holds("random bytes differ", memcmp(buffer, more, 64) != 0);
    close(fd);
    struct stat s;
    stat("/dev/null", &s);
    printf("/dev/null: mode %o device %lx\n", s.st_mode & S_IFMT, (long)s.st_rdev);
    char path[64];
    fd = open("u", O_RDONLY);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    char target[PATH_MAX] = {0};
    readlink(path, target, sizeof target - 1);
    size_t length = strlen(target);
    holds("/proc/self/fd names the file", length > 2 && !strcmp(target + length - 2, "/u"));
    close(fd);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc < 2 || (mkdir(argv[1], 0755) && errno != EEXIST) || chdir(argv[1]))
        return perror("the folder"), 1;
    umask(022);
    reading_and_writing();
    names();
    folders();
    attributes();
    descriptors();
    devices();
    return 0;
}
