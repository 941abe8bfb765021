/* What threads and processes share until one of them wants its own: unshare(2), CLOSE_RANGE_UNSHARE, and clone(2) of what shares
 * only a part. Argument: a folder that does not exist. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define UNSHARE_TABLE 2

static int is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

static const char *folder;

/* Where a thread is: the last component of its working directory. */
static const char *place(void) {
    static _Thread_local char path[4096];
    return syscall(SYS_getcwd, path, sizeof path) < 0 ? errno_name(errno) : strrchr(path, '/') + 1;
}

/* Runs something in a thread that shares everything, and waits for it. */
static void in_thread(void *(*what)(void *), void *argument) {
    pthread_t thread;
    pthread_create(&thread, NULL, what, argument);
    pthread_join(thread, NULL);
}

/* Where a link of /proc leads: the last component. */
static void show_link(const char *format, int number) {
    char path[100], target[4096] = "";
    snprintf(path, sizeof path, format, number);
    long len = readlink(path, target, sizeof target - 1);
    printf(format, 0);
    printf(" leads to %s\n", len < 0 ? errno_name(errno) : strrchr(target, '/') + 1);
}

/* A line of a file of /proc. */
static void show_line(const char *what, const char *path, const char *begin) {
    char line[200];
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, begin, strlen(begin)))
            printf("%s %s", what, line);
    if (file)
        fclose(file);
}

static int shared_fd, ends[2];

/* What /proc says of a thread that has descriptors of its own, and of the first thread. */
static void compare_tables(int fd) {
    char path[100], other[100];
    show_link("/proc/thread-self/fd/%d", fd);
    show_link("/proc/self/fd/%d", fd);
    sprintf(path, "/proc/%d/task/%d/fd/%d", getpid(), (int)syscall(SYS_gettid), fd);
    sprintf(other, "/proc/%d/task/%d/fd/%d", getpid(), getpid(), fd);
    struct stat own, first;
    holds("by its number", stat(path, &own) == 0 && S_ISDIR(own.st_mode));
    holds("the first by its own", stat(other, &first) == 0 && S_ISCHR(first.st_mode));
    sprintf(path, "/proc/%d/fdinfo/%d", (int)syscall(SYS_gettid), fd);
    show_line("the information", path, "flags:");
    sprintf(path, "/proc/%d/fdinfo/%d", getpid(), fd);
    show_line("of the first", path, "flags:");
}

static void *takes_files(void *argument) {
    (void)argument;
    show("unshare files", unshare(CLONE_FILES));
    close(shared_fd);
    holds("closed here", !is_open(shared_fd));
    int own = open("/dev", O_RDONLY);
    holds("the lowest number", own == shared_fd);
    compare_tables(own);
    close(ends[1]);
    holds("the pipe is open elsewhere", poll(&(struct pollfd){.fd = ends[0], .events = POLLIN}, 1, 0) == 0);
    ends[1] = dup(0);
    return NULL;
}

static void *takes_places(void *argument) {
    (void)argument;
    show("unshare places", unshare(CLONE_FS));
    chdir("inner");
    umask(0777);
    printf("the thread is in %s\n", place());
    show_link("/proc/thread-self/cwd", 0);
    show_link("/proc/self/cwd", 0);
    show_line("the thread", "/proc/thread-self/status", "Umask:");
    show_line("the first", "/proc/self/status", "Umask:");
    return NULL;
}

static void *closes_apart(void *argument) {
    show("close_range", syscall(SYS_close_range, shared_fd, ~0u, UNSHARE_TABLE | *(int *)argument));
    printf("and in the thread it is %s\n", !is_open(shared_fd) ? "closed" : fcntl(shared_fd, F_GETFD) ? "marked" : "open");
    return NULL;
}

static void *refused(void *argument) {
    (void)argument;
    show("memory", unshare(CLONE_VM));
    show("handlers", unshare(CLONE_SIGHAND));
    show("threads", unshare(CLONE_THREAD));
    show("users", unshare(CLONE_NEWUSER));
    show("nothing", unshare(0));
    return NULL;
}

static void *keeps_a_pipe(void *argument) {
    (void)argument;
    unshare(CLONE_FILES);
    close(shared_fd);
    return NULL;
}

static void threads(void) {
    struct stat info;
    pipe(ends);
    int write_end = ends[1];
    shared_fd = open("/dev/null", O_RDWR);
    in_thread(takes_files, NULL);
    holds("open in the first thread", is_open(shared_fd) && is_open(write_end));
    close(ends[1] = write_end);
    holds("with the thread its copies went", poll(&(struct pollfd){.fd = ends[0], .events = POLLIN}, 1, 1000) == 1);
    close(ends[0]);

    in_thread(takes_places, NULL);
    printf("the first thread is in %s\n", place());
    close(open("made", O_CREAT | O_WRONLY, 0666));
    stat("made", &info);
    printf("the umask of the first thread leaves %o\n", info.st_mode & 0777);

    int flags = 0;
    in_thread(closes_apart, &flags);
    holds("still open", is_open(shared_fd));
    flags = 4;
    in_thread(closes_apart, &flags);
    holds("still not marked", fcntl(shared_fd, F_GETFD) == 0);
    in_thread(refused, NULL);

    /* What one had alone goes with it. */
    pipe(ends);
    int read_end = ends[0];
    shared_fd = read_end;
    in_thread(keeps_a_pipe, NULL);
    close(read_end);
    signal(SIGPIPE, SIG_IGN);
    /* A thread that was joined may still be about to close what it had. */
    long written = 1;
    for (int i = 0; i < 5000 && (written = write(ends[1], "x", 1)) == 1; i++)
        usleep(1000);
    show("nobody reads", written);
    close(ends[1]);
}

/* The first thread leaves the table to the others. */
static pthread_barrier_t barrier;

static void *stays_with_the_old(void *argument) {
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    holds("the other thread has what the first closed", is_open(*(int *)argument));
    close(*(int *)argument);
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void first_thread(void) {
    pthread_t thread;
    char path[64];
    pthread_barrier_init(&barrier, NULL, 2);
    int fd = open("/dev/zero", O_RDONLY);
    pthread_create(&thread, NULL, stays_with_the_old, &fd);
    pthread_barrier_wait(&barrier);
    show("unshare in the first thread", unshare(CLONE_FILES | CLONE_FS));
    close(fd);
    sprintf(path, "/proc/self/fd/%d", fd);
    show("/proc shows its table", access(path, F_OK));
    chdir("inner");
    char shown[4096] = "";
    readlink("/proc/self/cwd", shown, sizeof shown - 1);
    printf("/proc shows its place: %s\n", strrchr(shown, '/') + 1);
    chdir("..");
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
}

/* A child that has the table of its parent. */
static int child(int flags, int (*run)(void)) {
    int status;
    fflush(stdout);
    pid_t pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        int code = run();
        fflush(stdout);
        _exit(code);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int closes(void) { return close(shared_fd) < 0; }

static int unshares_and_closes(void) {
    show("unshare in a child", unshare(CLONE_FILES));
    show("and again", unshare(CLONE_FILES));
    show("everything of its own", unshare(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_FS | CLONE_SYSVSEM));
    return close(shared_fd) < 0;
}

static int closes_all_apart(void) {
    show("close_range in a child", syscall(SYS_close_range, 3, ~0u, UNSHARE_TABLE));
    return is_open(shared_fd);
}

static int goes_elsewhere(void) { return chdir("inner") < 0; }

static int unshares_and_goes(void) {
    unshare(CLONE_FS);
    return chdir("inner") < 0;
}

static void children(void) {
    shared_fd = open("/dev/null", O_RDWR);
    printf("a child unshares: %d\n", child(CLONE_FILES, unshares_and_closes));
    holds("open", is_open(shared_fd));
    printf("a child closes a range: %d\n", child(CLONE_FILES, closes_all_apart));
    holds("open", is_open(shared_fd));
    printf("a child closes: %d\n", child(CLONE_FILES, closes));
    holds("closed", !is_open(shared_fd));
    printf("a child unshares and goes: %d\n", child(CLONE_FS, unshares_and_goes));
    printf("the parent is in %s\n", place());
    printf("a child goes: %d\n", child(CLONE_FS, goes_elsewhere));
    printf("the parent is in %s\n", place());
    chdir("..");
}

/* Locks belong to the table that they were taken through. */
static int tries_lock(void) {
    struct flock lock = {.l_type = F_WRLCK};
    return fcntl(shared_fd, F_SETLK, &lock) < 0 ? 1 : 0;
}

static int unshares_and_tries_lock(void) {
    unshare(CLONE_FILES);
    return tries_lock();
}

static void locks(void) {
    struct flock lock = {.l_type = F_WRLCK};
    shared_fd = open("locked", O_CREAT | O_RDWR, 0600);
    fcntl(shared_fd, F_SETLK, &lock);
    printf("a lock through the same table: %d\n", child(CLONE_FILES, tries_lock));
    printf("a lock through another: %d\n", child(CLONE_FILES, unshares_and_tries_lock));
    close(shared_fd);
}

/* What a semaphore is given back when somebody ends, it is given back at once. */
static void semaphores(void) {
    int set = semget(IPC_PRIVATE, 1, 0600);
    semctl(set, 0, SETVAL, 5);
    struct sembuf down = {0, -2, SEM_UNDO};
    semop(set, &down, 1);
    show("taken", semctl(set, 0, GETVAL));
    show("unshare", unshare(CLONE_SYSVSEM));
    show("given back", semctl(set, 0, GETVAL));
    semctl(set, 0, IPC_RMID);
}

static int namespaces_are_refused(void) {
    setresuid(1000, 1000, 1000);
    show("mounts", unshare(CLONE_NEWNS));
    show("names of hosts", unshare(CLONE_NEWUTS));
    show("network", unshare(CLONE_NEWNET | CLONE_FILES));
    return 0;
}

int main(int count, char **arguments) {
    (void)count;
    folder = arguments[1];
    mkdir(folder, 0755);
    chdir(folder);
    mkdir("inner", 0755);
    umask(022);
    show("an unknown flag", unshare(CLONE_PARENT));
    show("flags that are too long", syscall(SYS_unshare, 1ull << 32 | CLONE_FILES));
    show("of a child only", unshare(CLONE_CHILD_SETTID));
    show("alone", unshare(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_FILES | CLONE_FS));
    children();
    locks();
    semaphores();
    child(0, namespaces_are_refused);
    threads();
    first_thread();
    chdir("/");
    char path[4096];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, (const char *const[]){"inner", "made", "locked"}[i]);
        remove(path);
    }
    show("removed", rmdir(folder));
    return 0;
}
