/* Starts programs at its own address while its other threads compute: `crowded SELF ROUNDS`. Who must have the place asks these to
   leave it, which they do only if they get to run between two such requests. */
#include "check.h"
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static atomic_int ends;
static atomic_ulong work[2];

static void *compute(void *argument) {
    atomic_ulong *own = argument;
    while (!ends)
        atomic_fetch_add(own, 1);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 0;
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, compute, &work[i]);
    int good = 0, rounds = atoi(argv[2]);
    for (int i = 0; i < rounds; i++) {
        char *arguments[] = {argv[1], NULL};
        pid_t pid;
        int status = -1;
        if (posix_spawn(&pid, argv[1], NULL, NULL, arguments, environ) == 0)
            waitpid(pid, &status, 0);
        good += status == 0;
    }
    show("ended well", good);
    unsigned long before[] = {work[0], work[1]};
    usleep(50000);
    ends = 1;
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        holds("it goes on", work[i] > before[i]);
    }
    return 0;
}
