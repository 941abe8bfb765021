/* Extended attributes on tmpfs: names, values, who may have which. Argument: a folder that does not exist. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Known at run time only, or the compiler warns. */
static char *volatile nowhere = (char *)8;
static volatile size_t much = 1 << 20;

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Prints names, sorted, and their values. */
static void all(const char *what, const char *path) {
    char names[4096], *sorted[100], value[256];
    long len = llistxattr(path, names, sizeof names);
    int count = 0;
    printf("%s (%ld):", what, len);
    for (char *at = names; at < names + len; at += strlen(at) + 1)
        sorted[count++] = at;
    qsort(sorted, count, sizeof *sorted, by_name);
    for (int i = 0; i < count; i++) {
        long size = lgetxattr(path, sorted[i], value, sizeof value);
        printf(" %s=", sorted[i]);
        if (size < 0)
            printf("%s", errno_name(errno));
        else
            printf("%.*s", (int)size, value);
    }
    printf("\n");
}

static void names(const char *path) {
    static const char *const tried[] = {"user.a", "user.", "user", "trusted.a", "trusted.", "security.a", "security.",
                                        "system.a", "elsewhere.a", "", ".", "user.a.b"};
    char value[8];
    for (size_t i = 0; i < sizeof tried / sizeof *tried; i++) {
        printf("name \"%s\": ", tried[i]);
        printf("%s ", errno_name(lgetxattr(path, tried[i], value, 8) < 0 ? errno : 0));
        printf("%s ", errno_name(lsetxattr(path, tried[i], "one", 3, 0) < 0 ? errno : 0));
        printf("%s ", errno_name(lgetxattr(path, tried[i], value, 8) < 0 ? errno : 0));
        printf("%s\n", errno_name(i % 2 && lremovexattr(path, tried[i]) < 0 ? errno : 0));
    }
    all("and there are", path);
}

static void sizes(const char *path) {
    static char value[65537], name[300] = "user.";
    memset(value, 'v', sizeof value);
    show("an empty value", setxattr(path, "user.empty", NULL, 0, 0));
    show("and read", getxattr(path, "user.empty", value, 8));
    show("65536 bytes", setxattr(path, "user.large", value, 65536, 0));
    show("65537 bytes", setxattr(path, "user.large", value, 65537, 0));
    show("how much room", getxattr(path, "user.large", NULL, 0));
    show("too little room", getxattr(path, "user.large", value, 65535));
    show("enough room", getxattr(path, "user.large", value, much));
    show("removed", removexattr(path, "user.large"));
    show("and again", removexattr(path, "user.large"));
    memset(name + 5, 'n', 251);
    show("a name of 256 bytes", setxattr(path, name, "x", 1, 0));
    name[255] = 0;
    show("a name of 255 bytes", setxattr(path, name, "x", 1, 0));
    show("and removed", removexattr(path, name));
    show("a list that is too long", listxattr(path, value, 3));
    long len = listxattr(path, NULL, 0);
    show("a list with just room", listxattr(path, value, len));
    show("a list without", listxattr(path, value, len - 1));
}

static void flags(const char *path) {
    show("REPLACE nothing", setxattr(path, "user.f", "x", 1, XATTR_REPLACE));
    show("CREATE", setxattr(path, "user.f", "x", 1, XATTR_CREATE));
    show("CREATE again", setxattr(path, "user.f", "y", 1, XATTR_CREATE));
    show("REPLACE", setxattr(path, "user.f", "z", 1, XATTR_REPLACE));
    show("both", setxattr(path, "user.f", "z", 1, XATTR_REPLACE | XATTR_CREATE));
    show("both, and nothing", setxattr(path, "user.none", "z", 1, XATTR_REPLACE | XATTR_CREATE));
    show("an unknown flag", setxattr(path, "user.f", "z", 1, 4));
    removexattr(path, "user.f");
}

/* Which mistake is found first. */
static void orders(const char *path) {
    show("flag, then name", setxattr(path, "", nowhere, 1, 4));
    show("name, then value", setxattr(path, "", nowhere, 1, 0));
    show("size, then value", setxattr(path, "user.a", nowhere, 70000, 0));
    show("value, then space", setxattr(path, "elsewhere.a", nowhere, 1, 0));
    show("file, then space", setxattr("/none", "elsewhere.a", "x", 1, 0));
    show("get: file, then space", getxattr("/none", "elsewhere.a", NULL, 0));
    setxattr(path, "user.a", "value", 5, 0);
    show("get to nowhere", getxattr(path, "user.a", nowhere, much));
    show("list to nowhere", listxattr(path, nowhere, much));
    show("a name from nowhere", getxattr(path, nowhere, NULL, 0));
    show("capabilities of nonsense", setxattr(path, "security.capability", "nonsense", 8, 0));
    static const unsigned capabilities[5] = {0x02000001, 0x400};
    show("capabilities", setxattr(path, "security.capability", capabilities, 20, 0));
    show("and removed", removexattr(path, "security.capability"));
}

static void descriptors(const char *path) {
    char value[8];
    int fd = open(path, O_RDONLY), place = open(path, O_PATH), ends[2];
    show("fsetxattr", fsetxattr(fd, "user.fd", "fd", 2, 0));
    show("fgetxattr", fgetxattr(fd, "user.fd", value, 8));
    show("flistxattr", flistxattr(fd, NULL, 0) > 0);
    show("fremovexattr", fremovexattr(fd, "user.fd"));
    show("of O_PATH", fgetxattr(place, "user.a", value, 8));
    show("set of O_PATH", fsetxattr(place, "user.a", "x", 1, 0));
    show("of none", fsetxattr(-1, "user.a", "x", 1, 0));
    pipe(ends);
    show("of a pipe", fsetxattr(ends[0], "user.a", "x", 1, 0));
    show("got of a pipe", fgetxattr(ends[0], "user.a", value, 8));
    show("trusted of a pipe", fsetxattr(ends[0], "trusted.a", "x", 1, 0));
    show("list of a pipe", flistxattr(ends[0], value, 8));
    int memory = memfd_create("m", 0);
    show("of a memfd", fsetxattr(memory, "user.a", "mem", 3, 0));
    show("got of a memfd", fgetxattr(memory, "user.a", value, 8));
    close(fd), close(place), close(ends[0]), close(ends[1]), close(memory);
    show("of /proc", getxattr("/proc/self/status", "user.a", value, 8));
    show("set in /proc", setxattr("/proc/self/status", "user.a", "x", 1, 0));
}

/* Relative to a folder: the calls of Linux 6.13. */
#define setxattrat(...) syscall(463, __VA_ARGS__)
#define getxattrat(...) syscall(464, __VA_ARGS__)
#define listxattrat(...) syscall(465, __VA_ARGS__)
#define removexattrat(...) syscall(466, __VA_ARGS__)

static void relative(void) {
    struct {
        unsigned long value;
        unsigned size, flags;
        unsigned long more[600];
    } args = {0};
    char value[8] = "value";
    int folder = open("folder", O_RDONLY), file = open("file", O_RDONLY), place = open("file", O_PATH);
    close(openat(folder, "within", O_CREAT | O_WRONLY, 0644));
    symlinkat("within", folder, "to");
    args.value = (unsigned long)value, args.size = 5;
    show("set", setxattrat(folder, "within", 0, "user.at", &args, 16));
    args.flags = XATTR_CREATE;
    show("CREATE again, through a link", setxattrat(folder, "to", 0, "user.at", &args, 16));
    show("of the link", setxattrat(folder, "to", AT_SYMLINK_NOFOLLOW, "user.at", &args, 16));
    show("trusted of the link", setxattrat(folder, "to", AT_SYMLINK_NOFOLLOW, "trusted.at", &args, 16));
    show("get with flags", getxattrat(folder, "within", 0, "user.at", &args, 16));
    args.flags = 0, args.size = 8, memset(value, 0, 8);
    show("get", getxattrat(folder, "to", 0, "user.at", &args, 16));
    printf("%.8s\n", value);
    args.size = 2;
    show("too little room", getxattrat(folder, "within", 0, "user.at", &args, 16));
    args.size = 0;
    show("how much", getxattrat(folder, "within", 0, "user.at", &args, 16));
    show("a short structure", getxattrat(folder, "within", 0, "user.at", &args, 15));
    show("a long one", getxattrat(folder, "within", 0, "user.at", &args, 24));
    args.more[0] = 1;
    show("with more than is known", getxattrat(folder, "within", 0, "user.at", &args, 24));
    show("too long", getxattrat(folder, "within", 0, "user.at", &args, 4097));
    show("no structure", getxattrat(folder, "within", 0, "user.at", NULL, 16));
    show("unknown flag", getxattrat(folder, "within", AT_REMOVEDIR, "user.at", &args, 16));
    show("list", listxattrat(folder, "within", 0, NULL, 0));
    show("list of the link", listxattrat(folder, "to", AT_SYMLINK_NOFOLLOW, NULL, 0) > 0);
    show("list with a flag", listxattrat(folder, "within", AT_SYMLINK_FOLLOW, NULL, 0));
    show("remove", removexattrat(folder, "to", 0, "user.at"));
    show("and again", removexattrat(folder, "within", 0, "user.at"));
    show("remove with a flag", removexattrat(folder, "within", 1, "user.at"));
    args.size = 5;
    show("the descriptor itself", setxattrat(file, "", AT_EMPTY_PATH, "user.at", &args, 16));
    show("without a path", removexattrat(file, NULL, AT_EMPTY_PATH, "user.at"));
    show("an empty path", getxattrat(file, "", 0, "user.at", &args, 16));
    show("no path", getxattrat(file, NULL, 0, "user.at", &args, 16));
    show("a place", listxattrat(place, "", AT_EMPTY_PATH, NULL, 0));
    show("no descriptor", listxattrat(-1, "", AT_EMPTY_PATH, NULL, 0));
    show("nor for a path", listxattrat(-1, "within", 0, NULL, 0));
    show("the working directory", listxattrat(AT_FDCWD, "", AT_EMPTY_PATH, NULL, 0));
    show("set there", setxattrat(AT_FDCWD, "", AT_EMPTY_PATH, "user.here", &args, 16));
    show("got there", getxattrat(AT_FDCWD, NULL, AT_EMPTY_PATH, "user.here", &args, 16));
    show("removed there", removexattrat(AT_FDCWD, "", AT_EMPTY_PATH, "user.here"));
    show("removed", removexattrat(AT_FDCWD, ".", 0, "user.here"));
    show("below it", listxattrat(AT_FDCWD, "none", 0, NULL, 0));
    show("below a file", listxattrat(file, "none", 0, NULL, 0));
    unlinkat(folder, "within", 0), unlinkat(folder, "to", 0);
    close(folder), close(file), close(place);
}

/* Times and events; another name, another place. */
static void changes(const char *path, const char *other) {
    struct stat before, after;
    stat(path, &before);
    usleep(20000);
    setxattr(path, "user.t", "x", 1, 0);
    stat(path, &after);
    holds("mtime stays", before.st_mtim.tv_nsec == after.st_mtim.tv_nsec && before.st_mtim.tv_sec == after.st_mtim.tv_sec);
    holds("ctime goes on", before.st_ctim.tv_nsec != after.st_ctim.tv_nsec || before.st_ctim.tv_sec != after.st_ctim.tv_sec);
    struct inotify_event event = {0};
    int instance = inotify_init1(IN_NONBLOCK);
    inotify_add_watch(instance, path, IN_ALL_EVENTS);
    removexattr(path, "user.none");
    show("no event", read(instance, &event, sizeof event));
    removexattr(path, "user.t");
    read(instance, &event, sizeof event);
    holds("IN_ATTRIB", event.mask == IN_ATTRIB);
    close(instance);
    link(path, other);
    all("another name", other);
    unlink(path);
    rename(other, path);
    all("and moved", path);
}

static void by_others(const char *path, const char *folder) {
    char value[8];
    lsetxattr(path, "trusted.a", "t", 1, 0);
    lsetxattr(path, "security.a", "s", 1, 0);
    chmod(path, 0666);
    chmod(folder, 0777);
    fflush(stdout);
    if (fork() == 0) {
        setresgid(1000, 1000, 1000);
        setresuid(1000, 1000, 1000);
        all("another user sees", path);
        show("user.", setxattr(path, "user.b", "x", 1, 0));
        show("trusted.", setxattr(path, "trusted.a", "x", 1, 0));
        show("no trusted.", setxattr(path, "trusted.", "x", 1, 0));
        show("get trusted.", getxattr(path, "trusted.a", value, 8));
        show("remove trusted.", removexattr(path, "trusted.a"));
        show("security.", setxattr(path, "security.a", "x", 1, 0));
        show("get security.", getxattr(path, "security.a", value, 8));
        show("remove security.", removexattr(path, "security.a"));
        show("remove capabilities", removexattr(path, "security.capability"));
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
}

int main(int count, char **arguments) {
    const char *folder = arguments[1];
    mkdir(folder, 0755);
    if (chdir(folder) != 0)
        return 1;
    close(open("file", O_CREAT | O_WRONLY, 0644));
    mkdir("folder", 0755);
    symlink("file", "link");
    mkfifo("fifo", 0600);
    const char *const kinds[] = {"file", "folder", "link", "fifo"};
    for (int i = 0; i < 4; i++) {
        printf("-- %s\n", kinds[i]);
        names(kinds[i]);
    }
    show("through a link", getxattr("link", "user.a", NULL, 0));
    sizes("file");
    flags("folder");
    orders("file");
    descriptors("file");
    if (count > 2)
        relative();
    changes("file", "other");
    by_others("file", folder);
    all("in the end", "file");
    for (int i = 0; i < 4; i++)
        remove(kinds[i]);
    chdir("/");
    show("removed", rmdir(folder));
    return 0;
}
