/* Children: fork, exec, wait, pipes between them, signals from and to them. */
#include "check.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static int global = 1;
static volatile sig_atomic_t children;

static void chld(int number) {
    (void)number;
    children++;
}

static void describe(const char *what, int status) {
    if (WIFEXITED(status))
        printf("%s: exited %d\n", what, WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        printf("%s: signal %d\n", what, WTERMSIG(status));
    else
        printf("%s: status %x\n", what, status);
}

static void wait_for(const char *what, pid_t pid) {
    int status = 0;
    pid_t got = waitpid(pid, &status, 0);
    holds("the right child", got == pid);
    describe(what, status);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 1) {
        printf("executed with %s, X is %s\n", argv[1], getenv("X") ? getenv("X") : "unset");
        return 12;
    }
    show("no children", wait(NULL));
    signal(SIGCHLD, chld);
    int on_stack = 1, *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t self = getpid(), pid = fork();
    if (pid == 0) {
        global = on_stack = 2;
        shared[0] = getppid() == self && getpid() != self ? 7 : 1;
        _exit(33);
    }
    wait_for("fork", pid);
    printf("private: %d %d, shared: %d\n", global, on_stack, shared[0]);
    holds("SIGCHLD came", children > 0);

    pid = fork();
    if (pid == 0) {
        raise(SIGTERM);
        _exit(1);
    }
    wait_for("a child that kills itself", pid);
    pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    kill(pid, SIGKILL);
    wait_for("a child that was killed", pid);
    pid = fork();
    if (pid == 0)
        *(volatile int *)16 = 1;
    wait_for("a child that faults", pid);

    int ends[2], back[2];
    char text[64] = {0};
    if (pipe(ends) || pipe(back))
        return 1;
    pid = fork();
    if (pid == 0) {
        close(ends[1]);
        close(back[0]);
        ssize_t length = read(ends[0], text, sizeof text);
        for (ssize_t i = 0; i < length; i++)
            text[i] ^= 0x20;
        write(back[1], text, length);
        _exit(0);
    }
    close(ends[0]);
    close(back[1]);
    write(ends[1], "Hello", 5);
    show("what the child read comes back", read(back[0], text, sizeof text));
    printf("%s\n", text);
    show("then the pipe ends", read(back[0], text, sizeof text));
    wait_for("the child at the pipe", pid);

    pid = fork();
    if (pid == 0) {
        setenv("X", "y", 1);
        execl("/proc/self/exe", "self", "an argument", NULL);
        _exit(99);
    }
    wait_for("exec", pid);
    char *arguments[] = {"self", "spawned", NULL};
    int error = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environ);
    wait_for("posix_spawn", pid);
    printf("it returned %d\n", error);
    pid = vfork();
    if (pid == 0) {
        execve("/nothing/here", arguments, environ);
        _exit(errno);
    }
    wait_for("an exec that fails after vfork", pid);
    describe("system", system("exit 5"));
    FILE *pipe_of = popen("echo through a shell; exit 3", "r");
    printf("popen: %s", fgets(text, sizeof text, pipe_of));
    describe("pclose", pclose(pipe_of));

    for (int i = 0; i < 5; i++)
        if (fork() == 0)
            _exit(i);
    int sum = 0, status;
    while (wait(&status) > 0)
        sum += WEXITSTATUS(status);
    printf("five children: %d\n", sum);
    show("and no more", wait(NULL));
    pid = fork();
    if (pid == 0) {
        pid_t grandchild = fork();
        if (grandchild == 0)
            _exit(21);
        waitpid(grandchild, &status, 0);
        _exit(WEXITSTATUS(status) + 1);
    }
    wait_for("a grandchild", pid);
    pid = fork();
    if (pid == 0)
        pause();
    show("WNOHANG", waitpid(pid, &status, WNOHANG));
    kill(pid, SIGTERM);
    wait_for("after WNOHANG", pid);

    /* Where the number cannot be stored there is a child nevertheless; where its descriptor cannot, there is none. */
    long flags[] = {CLONE_PARENT_SETTID, CLONE_CHILD_SETTID, CLONE_PIDFD};
    for (int i = 0; i < 3; i++) {
        pid = (pid_t)syscall(SYS_clone, SIGCHLD | flags[i], 0, 8, 8, 0);
        if (pid == 0)
            _exit(23);
        show("clone", pid < 0 ? pid : 0);
        if (pid > 0)
            wait_for("its child", pid);
    }
    int descriptor = dup(0);
    show("the next descriptor", descriptor);
    return 0;
}
