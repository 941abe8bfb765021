/* Threads that make no system call: how soon a signal reaches one, and that a process full of them ends. */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SIGNALS = 200, THREADS = 32 };
static volatile uint64_t spins;
static volatile int stops;
static volatile uint64_t received;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void on_signal(int number) {
    (void)number;
    received = now();
}

static void *spin(void *argument) {
    (void)argument;
    while (!stops)
        spins++;
    return NULL;
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(uint64_t *)a, y = *(uint64_t *)b;
    return x < y ? -1 : x > y;
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IONBF, 0);
    static uint64_t latencies[SIGNALS];
    pthread_t threads[THREADS];
    signal(SIGUSR1, on_signal);
    pthread_create(&threads[0], NULL, spin, NULL);
    int lost = 0;
    for (int i = 0; i < SIGNALS; i++) {
        received = 0;
        uint64_t start = now();
        pthread_kill(threads[0], SIGUSR1);
        while (!received && now() - start < 5000000000)
            ;
        lost += !received;
        latencies[i] = received - start;
        usleep(500);
    }
    stops = 1;
    pthread_join(threads[0], NULL);
    qsort(latencies, SIGNALS, sizeof *latencies, compare);
    printf("signals lost: %d\n", lost);
    if (count > 1)
        printf("median %lu us, p99 %lu us\n", latencies[SIGNALS / 2] / 1000, latencies[SIGNALS * 99 / 100] / 1000);
    holds("half of them came within 200 ms", latencies[SIGNALS / 2] < 200000000);

    for (int how = 0; how < 3; how++) {
        uint64_t start = now();
        pid_t child = fork();
        if (child == 0) {
            stops = 0;
            for (int i = 0; i < THREADS; i++)
                pthread_create(&threads[i], NULL, spin, NULL);
            usleep(20000);
            if (how == 0)
                _exit(7);
            if (how == 1)
                kill(getpid(), SIGKILL);
            *(volatile int *)8 = 1;
        }
        int status;
        waitpid(child, &status, 0);
        printf("%d busy threads end: %x\n", THREADS, status & ~0x80);
        holds("soon", now() - start < 10000000000);
    }
    return 0;
}
