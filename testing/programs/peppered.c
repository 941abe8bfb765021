/* Calls that block in the host, and long computations: nobody who is interrupted for nothing may notice. */
#include "check.h"
#include <pthread.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINES 40000
#define ROUNDS 20000000

static void *compute(void *seed) {
    uint64_t state = (uintptr_t)seed;
    double sum = 0;
    for (int i = 0; i < ROUNDS; i++) {
        state = state * 6364136223846793005 + 1442695040888963407;
        sum += (double)(state >> 40) / 3;
    }
    printf("%016llx %.3f\n", (unsigned long long)state, sum);
    return NULL;
}

int main(void) {
    char line[64];
    static char block[200000];
    memset(block, 'x', sizeof block);
    /* More than the host's pipe holds, at once and by lines. */
    show("block", write(1, block, sizeof block));
    for (int i = 0; i < LINES; i++) {
        int len = sprintf(line, "line %d of many\n", i);
        if (write(1, line, len) != len)
            return 1;
    }
    show("read to the end", read(0, line, sizeof line));
    for (uintptr_t i = 1; i <= 3; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, compute, (void *)i);
        pthread_join(thread, NULL);
    }
    for (int i = 0; i < 20; i++) {
        int status;
        pid_t child = fork();
        if (child == 0)
            _exit(i);
        if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != i)
            return 2;
    }
    puts("done");
    return 0;
}
