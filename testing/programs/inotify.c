/* inotify: what is told of files and directories. Argument: a folder that does not exist. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int instance;

/* Whether the order of events of different watches is the file system's choice. */
static int is_sorted;

/* Prints and takes the events that wait. Cookies are shown by whether they are the last. */
static void events(const char *what) {
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {
        {IN_ACCESS, "ACCESS"}, {IN_MODIFY, "MODIFY"}, {IN_ATTRIB, "ATTRIB"}, {IN_CLOSE_WRITE, "CLOSE_WRITE"},
        {IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"}, {IN_OPEN, "OPEN"}, {IN_MOVED_FROM, "MOVED_FROM"}, {IN_MOVED_TO, "MOVED_TO"},
        {IN_CREATE, "CREATE"}, {IN_DELETE, "DELETE"}, {IN_DELETE_SELF, "DELETE_SELF"}, {IN_MOVE_SELF, "MOVE_SELF"},
        {IN_IGNORED, "IGNORED"}, {IN_ISDIR, "ISDIR"}, {IN_Q_OVERFLOW, "Q_OVERFLOW"},
    };
    static unsigned last;
    char buffer[8192] __attribute__((aligned(8)));
    printf("%s:", what);
    static struct {
        int watch;
        char text[200];
    } lines[100];
    int count = 0;
    while (poll(&(struct pollfd){.fd = instance, .events = POLLIN}, 1, 0) == 1) {
        long len = read(instance, buffer, sizeof buffer);
        for (char *at = buffer; at < buffer + len;) {
            struct inotify_event *event = (struct inotify_event *)at;
            char *to = lines[count].text;
            lines[count++].watch = event->wd;
            to += sprintf(to, " [%d", event->wd);
            for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
                if (event->mask & names[i].bit)
                    to += sprintf(to, " %s", names[i].name);
            if (event->len)
                to += sprintf(to, " \"%s\" %u", event->name, event->len);
            if (event->cookie)
                to += sprintf(to, event->cookie == last ? " same" : " cookie");
            last = event->cookie;
            strcpy(to, "]");
            at += sizeof *event + event->len;
        }
    }
    for (int i = 1; i < count && is_sorted; i++)
        for (int j = i; j > 0 && lines[j].watch < lines[j - 1].watch; j--) {
            __typeof__(lines[0]) moved = lines[j];
            lines[j] = lines[j - 1];
            lines[j - 1] = moved;
        }
    for (int i = 0; i < count; i++)
        printf("%s", lines[i].text);
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    char text[100];
    mkdir(argv[1], 0755);
    if (argc < 2 || chdir(argv[1]) == -1)
        return 1;
    instance = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    works("inotify_init1", instance);
    show("unknown flag", inotify_init1(1));
    show("nothing yet", read(instance, text, sizeof text));
    show("not there", inotify_add_watch(instance, "none", IN_ALL_EVENTS));
    show("no events", inotify_add_watch(instance, ".", 0));
    show("watch", inotify_add_watch(instance, ".", IN_ALL_EVENTS));
    show("watch again", inotify_add_watch(instance, ".", IN_ALL_EVENTS));
    show("only new", inotify_add_watch(instance, ".", IN_ALL_EVENTS | IN_MASK_CREATE));
    int file = open("file", O_CREAT | O_RDWR, 0644);
    events("create");
    write(file, "12345", 5);
    write(file, "67890", 5);
    events("write twice is one");
    show("watch the file", inotify_add_watch(instance, "file", IN_ALL_EVENTS));
    pread(file, text, 5, 0);
    events("read");
    pread(file, text, 5, 100);
    events("read nothing");
    ftruncate(file, 3);
    events("ftruncate");
    fchmod(file, 0600);
    events("fchmod");
    close(file);
    events("close");
    close(open("file", O_RDONLY));
    events("open and close");
    close(open("file", O_WRONLY | O_TRUNC));
    events("open to truncate");
    truncate("file", 10);
    events("truncate");
    utimensat(AT_FDCWD, "file", NULL, 0);
    events("utimensat");
    link("file", "other");
    events("link");
    symlink("file", "symlink");
    events("symlink");
    mkdir("folder", 0755);
    events("mkdir");
    show("watch the folder", inotify_add_watch(instance, "folder", IN_ALL_EVENTS));
    rename("file", "folder/moved");
    events("rename");
    rename("folder/moved", "folder/a name that is longer than sixteen bytes");
    events("rename within");
    rename("other", "folder/moved");
    events("another name of it");
    unlink("folder/moved");
    events("unlink");
    unlink("folder/a name that is longer than sixteen bytes");
    is_sorted = 1;
    events("unlink the last");
    close(open("target", O_CREAT | O_WRONLY, 0644));
    close(open("source", O_CREAT | O_WRONLY, 0644));
    events("two files");
    show("watch the target", inotify_add_watch(instance, "target", IN_ALL_EVENTS));
    rename("source", "target");
    events("rename over it");
    int waiting = -1;
    mkfifo("fifo", 0600);
    ioctl(instance, FIONREAD, &waiting);
    printf("FIONREAD %d\n", waiting);
    show("a buffer too small", read(instance, text, 16));
    events("mkfifo");
    rmdir("folder");
    events("rmdir");
    is_sorted = 0;
    show("once", inotify_add_watch(instance, "target", IN_ATTRIB | IN_ONESHOT));
    chmod("target", 0600);
    chmod("target", 0644);
    events("only once");
    show("a directory only", inotify_add_watch(instance, "target", IN_OPEN | IN_ONLYDIR));
    show("the link itself", inotify_add_watch(instance, "symlink", IN_ALL_EVENTS | IN_DONT_FOLLOW));
    show("no such watch", inotify_rm_watch(instance, 99));
    show("inotify_rm_watch", inotify_rm_watch(instance, 1));
    events("the last of it");
    unlink("fifo");
    events("silence");
    show("not inotify", inotify_add_watch(1, ".", IN_OPEN));
    unlink("symlink");
    unlink("target");
    chdir("/");
    show("rmdir", rmdir(argv[1]));
    return 0;
}
