/* Ends in the way that the argument names. */
#include "check.h"
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

static int overflow(int depth) {
    volatile char big[64];
    int (*volatile again)(int) = overflow;
    big[0] = (char)depth;
    return again(depth + 1) + big[0];
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    printf("before\n");
    fflush(stdout);
    if (!strcmp(how, "abort"))
        abort();
    if (!strcmp(how, "null"))
        *(volatile int *)8 = 1;
    if (!strcmp(how, "noncanonical"))
        *(volatile int *)0x8000000000000000 = 1;
    if (!strcmp(how, "jump"))
        ((void (*)(void))0x1234)();
    if (!strcmp(how, "divide")) {
        volatile int one = 1, zero = 0;
        printf("%d\n", one / zero);
    }
    if (!strcmp(how, "illegal"))
        __asm__ volatile("ud2");
    if (!strcmp(how, "trap"))
        __asm__ volatile("int3");
    if (!strcmp(how, "privileged"))
        __asm__ volatile("hlt");
    if (!strcmp(how, "overflow"))
        return overflow(0);
    if (!strcmp(how, "term"))
        raise(SIGTERM);
    if (!strcmp(how, "kill"))
        kill(getpid(), SIGKILL);
    if (!strcmp(how, "pipe")) {
        int ends[2];
        pipe(ends);
        close(ends[0]);
        write(ends[1], "x", 1);
    }
    if (!strcmp(how, "group"))
        syscall(SYS_exit_group, 0x1ff);
    if (!strcmp(how, "seven"))
        _exit(7);
    return 0;
}
