/* Pseudo-terminals: lines, modes, sessions, job control, hang-up. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int master, slave;
static volatile sig_atomic_t got;
static void note(int number) { got = number; }

/* Prints bytes with those that cannot be seen as numbers. */
static void bytes(const char *what, const char *text, long len) {
    if (len < 0) {
        printf("%s: %s\n", what, errno_name(errno));
        return;
    }
    printf("%s: %ld \"", what, len);
    for (long i = 0; i < len; i++)
        if (text[i] >= 32 && text[i] < 127)
            putchar(text[i]);
        else
            printf("\\%o", (unsigned char)text[i]);
    printf("\"\n");
    fflush(stdout);
}

/* What is there to be read now. */
static void drain(const char *what, int fd) {
    char text[8192];
    long len = 0;
    while (len < (long)sizeof text && poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 20) == 1) {
        long more = read(fd, text + len, sizeof text - len);
        if (more <= 0) {
            if (len == 0)
                len = more;
            break;
        }
        len += more;
    }
    bytes(what, text, len);
}

static void type(const char *text) {
    if (write(master, text, strlen(text)) != (long)strlen(text))
        printf("typing: %s\n", errno_name(errno));
}

static void look(const char *what, int fd) {
    struct pollfd one = {.fd = fd, .events = POLLIN | POLLOUT};
    poll(&one, 1, 0);
    printf("%s:%s%s%s%s\n", what, one.revents & POLLIN ? " IN" : "", one.revents & POLLOUT ? " OUT" : "",
           one.revents & POLLHUP ? " HUP" : "", one.revents & POLLERR ? " ERR" : "");
}

static void make(void) {
    char name[64];
    master = posix_openpt(O_RDWR | O_NOCTTY);
    works("grantpt", grantpt(master));
    ptsname_r(master, name, sizeof name);
    holds("the slave has a name", strncmp(name, "/dev/pts/", 9) == 0);
    show("the slave is locked", open(name, O_RDWR | O_NOCTTY));
    works("unlockpt", unlockpt(master));
    slave = open(name, O_RDWR | O_NOCTTY);
    works("open", slave);
    holds("isatty", isatty(slave) && isatty(master));
    char back[64] = "";
    ttyname_r(slave, back, sizeof back);
    holds("ttyname", strcmp(back, name) == 0);
    struct stat by_name, by_fd;
    stat(name, &by_name);
    fstat(slave, &by_fd);
    holds("a character device", S_ISCHR(by_fd.st_mode) && by_name.st_rdev == by_fd.st_rdev && by_fd.st_ino == by_name.st_ino);
}

static void lines(void) {
    char text[100];
    look("nothing typed, slave", slave);
    look("nothing typed, master", master);
    type("hello");
    look("half a line, slave", slave);
    type("\r");
    look("a line, slave", slave);
    int waiting = 0;
    ioctl(slave, FIONREAD, &waiting);
    printf("FIONREAD %d\n", waiting);
    bytes("a short read", text, read(slave, text, 3));
    bytes("the rest", text, read(slave, text, 100));
    drain("echo", master);
    type("abX\177cd\027ef gh\027\027x\ty\177\177\177\n");
    drain("edited", slave);
    drain("editing as it is seen", master);
    type("forgotten\025kept\026\003\n");
    drain("killed", slave);
    drain("killing as it is seen", master);
    type("end\004\004");
    bytes("an end of input", text, read(slave, text, 100));
    bytes("another", text, read(slave, text, 100));
    type("one\ntwo\n");
    bytes("one line at a time", text, read(slave, text, 100));
    bytes("the next", text, read(slave, text, 100));
    drain("echo", master);
    show("write", write(slave, "a\nb\tc\r\n", 7));
    drain("output", master);
}

static void modes(void) {
    char text[100];
    struct termios was, raw;
    works("tcgetattr", tcgetattr(slave, &was));
    printf("flags %o %o %o %o\n", was.c_iflag, was.c_oflag, was.c_cflag, was.c_lflag);
    printf("characters");
    for (int i = 0; i < 17; i++)
        printf(" %d", was.c_cc[i]);
    printf("\n");
    raw = was;
    cfmakeraw(&raw);
    works("raw", tcsetattr(slave, TCSANOW, &raw));
    type("\003\r\177");
    drain("raw input", slave);
    drain("no echo", master);
    write(slave, "\n", 1);
    drain("raw output", master);
    raw.c_cc[VMIN] = 3;
    tcsetattr(slave, TCSANOW, &raw);
    type("ab");
    look("two of three", slave);
    type("c");
    look("three of three", slave);
    bytes("min 3", text, read(slave, text, 100));
    raw.c_cc[VMIN] = 0;
    tcsetattr(slave, TCSANOW, &raw);
    bytes("min 0", text, read(slave, text, 100));
    raw.c_cc[VTIME] = 1;
    tcsetattr(slave, TCSANOW, &raw);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    bytes("time 1", text, read(slave, text, 100));
    clock_gettime(CLOCK_MONOTONIC, &to);
    long ms = (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000;
    holds("a tenth of a second", ms >= 80 && ms < 1000);
    raw.c_cc[VMIN] = 5;
    tcsetattr(slave, TCSANOW, &raw);
    type("xy");
    bytes("min 5 time 1", text, read(slave, text, 100));
    fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK);
    bytes("nonblocking", text, read(slave, text, 100));
    fcntl(slave, F_SETFL, O_RDWR);
    type("flushed");
    works("tcflush", tcflush(slave, TCIFLUSH));
    look("after a flush", slave);
    works("cooked", tcsetattr(slave, TCSAFLUSH, &was));
    was.c_lflag &= ~ECHO;
    tcsetattr(slave, TCSANOW, &was);
    type("secret\n");
    drain("a secret", slave);
    drain("is not seen", master);
    was.c_lflag |= ECHO;
    tcsetattr(slave, TCSADRAIN, &was);
    struct winsize size = {24, 80, 0, 0};
    works("TIOCSWINSZ", ioctl(master, TIOCSWINSZ, &size));
    memset(&size, 0, sizeof size);
    ioctl(slave, TIOCGWINSZ, &size);
    printf("%d x %d\n", size.ws_row, size.ws_col);
    works("stop", tcflow(slave, TCOOFF));
    look("stopped, slave", slave);
    works("go on", tcflow(slave, TCOON));
    look("going on, slave", slave);
    type("\023");
    look("stopped by the keyboard", slave);
    type("\021");
    look("going on by the keyboard", slave);
}

/* What a shell does: a session with a terminal, jobs in the foreground and the background. */
static int session(void) {
    signal(SIGTTOU, SIG_IGN);
    signal(SIGHUP, note);
    /* Who is started in the background ignores it. */
    signal(SIGQUIT, SIG_DFL);
    show("setsid", setsid() == getpid() ? 0 : -1);
    show("no terminal yet", tcgetpgrp(slave));
    show("/dev/tty", open("/dev/tty", O_RDWR));
    works("TIOCSCTTY", ioctl(slave, TIOCSCTTY, 0));
    holds("in the foreground", tcgetpgrp(slave) == getpgrp());
    holds("of this session", tcgetsid(slave) == getsid(0));
    int tty = open("/dev/tty", O_RDWR);
    works("/dev/tty", tty);
    holds("/dev/tty is the terminal", tcgetpgrp(tty) == getpgrp());
    holds("the master knows the group", tcgetpgrp(master) == getpgrp());
    close(tty);
    show("a group that is not there", tcsetpgrp(slave, 99999999));

    signal(SIGWINCH, note);
    struct winsize size = {30, 90, 0, 0};
    ioctl(master, TIOCSWINSZ, &size);
    holds("SIGWINCH", got == SIGWINCH);
    signal(SIGINT, note);
    type("junk\003");
    for (int i = 0; i < 100 && got != SIGINT; i++)
        usleep(1000);
    holds("SIGINT", got == SIGINT);
    look("nothing is left of the line", slave);
    drain("^C", master);

    int status;
    pid_t child = fork();
    if (child == 0) {
        char text[10];
        setpgid(0, 0);
        signal(SIGTTOU, SIG_DFL);
        bytes("a background job reads when it may", text, read(slave, text, 10));
        _exit(7);
    }
    setpgid(child, child);
    waitpid(child, &status, WUNTRACED);
    printf("stopped by %s\n", WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN ? "SIGTTIN" : "something else");
    works("tcsetpgrp", tcsetpgrp(slave, child));
    kill(-child, SIGCONT);
    type("for you\n");
    waitpid(child, &status, WUNTRACED);
    printf("ended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    works("back", tcsetpgrp(slave, getpgrp()));

    child = fork();
    if (child == 0) {
        setpgid(0, 0);
        signal(SIGTTOU, SIG_DFL);
        struct termios now;
        tcgetattr(slave, &now);
        tcsetattr(slave, TCSANOW, &now);
        _exit(8);
    }
    setpgid(child, child);
    waitpid(child, &status, WUNTRACED);
    printf("stopped by %s\n", WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTOU ? "SIGTTOU" : "something else");
    kill(-child, SIGKILL);
    waitpid(child, &status, 0);

    child = fork();
    if (child == 0) {
        setpgid(0, 0);
        for (;;)
            pause();
    }
    setpgid(child, child);
    tcsetpgrp(slave, child);
    type("\032");
    waitpid(child, &status, WUNTRACED);
    printf("stopped by %s\n", WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP ? "SIGTSTP" : "something else");
    kill(-child, SIGCONT);
    type("\034");
    waitpid(child, &status, 0);
    printf("ended by %s\n", WIFSIGNALED(status) && WTERMSIG(status) == SIGQUIT ? "SIGQUIT" : "something else");
    tcsetpgrp(slave, getpgrp());
    drain("what was seen", master);
    got = 0;
    close(master);
    for (int i = 0; i < 1000 && got != SIGHUP; i++)
        usleep(1000);
    holds("SIGHUP", got == SIGHUP);
    char text[10];
    show("read after a hang-up", read(slave, text, 10));
    show("write after a hang-up", write(slave, "x", 1));
    look("hung up", slave);
    show("/dev/tty after a hang-up", open("/dev/tty", O_RDWR));
    return 0;
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    make();
    lines();
    modes();
    pid_t child = fork();
    if (child == 0)
        _exit(session());
    int status;
    close(master);
    close(slave);
    waitpid(child, &status, 0);
    printf("the session ended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    make();
    close(slave);
    look("nobody at the slave", master);
    char byte;
    show("read", read(master, &byte, 1));
    return 0;
}
