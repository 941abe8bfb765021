/* Threads: creation, joining, mutexes, conditions, thread-local storage, signals to one of them. */
#include "check.h"
#include <pthread.h>
#include <semaphore.h>
#include <time.h>
#include <signal.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long counter, turn;
static __thread int own = 5;
static sem_t semaphore;
static pthread_key_t key;
static volatile sig_atomic_t hit;
static pthread_t signalled;

static void *count(void *argument) {
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&lock);
        counter++;
        pthread_mutex_unlock(&lock);
    }
    own += (long)argument;
    return (void *)(long)own;
}

static void *ping(void *argument) {
    long me = (long)argument;
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&lock);
        while (turn != me)
            pthread_cond_wait(&changed, &lock);
        turn = !me;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void destroy(void *value) { __atomic_add_fetch((long *)value, 1, __ATOMIC_SEQ_CST); }

static void *with_key(void *argument) {
    pthread_setspecific(key, argument);
    sem_post(&semaphore);
    return NULL;
}

static void handler(int number) {
    (void)number;
    hit = pthread_equal(pthread_self(), signalled) ? 1 : 2;
}

static void *waits(void *argument) {
    (void)argument;
    while (!hit)
        usleep(1000);
    return NULL;
}

static void *cancelled(void *argument) {
    (void)argument;
    for (;;)
        sleep(1);
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    pthread_t threads[8];
    long sum = 0;
    for (long i = 0; i < 8; i++)
        if (pthread_create(&threads[i], NULL, count, (void *)i))
            return printf("pthread_create fails\n"), 1;
    for (int i = 0; i < 8; i++) {
        void *result;
        pthread_join(threads[i], &result);
        sum += (long)result;
    }
    printf("counter %ld, results %ld, own %d\n", counter, sum, own);
    for (long i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, ping, (void *)i);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("turn %ld\n", turn);

    static long destroyed;
    sem_init(&semaphore, 0, 0);
    pthread_key_create(&key, destroy);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, with_key, &destroyed);
    for (int i = 0; i < 4; i++)
        sem_wait(&semaphore);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    printf("destroyed %ld\n", destroyed);

    signal(SIGUSR1, handler);
    pthread_create(&signalled, NULL, waits, NULL);
    pthread_kill(signalled, SIGUSR1);
    pthread_join(signalled, NULL);
    printf("the right thread was signalled: %d\n", hit);

    pthread_create(&threads[0], NULL, cancelled, NULL);
    pthread_cancel(threads[0]);
    void *result;
    pthread_join(threads[0], &result);
    holds("a sleeping thread can be cancelled", result == PTHREAD_CANCELED);
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 50000000;
    if (soon.tv_nsec >= 1000000000)
        soon.tv_sec++, soon.tv_nsec -= 1000000000;
    pthread_mutex_lock(&lock);
    printf("a timed wait ends: %s\n", errno_name(pthread_cond_timedwait(&changed, &lock, &soon)));
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < 200; i++) {
        pthread_create(&threads[0], NULL, with_key, &destroyed);
        pthread_join(threads[0], NULL);
    }
    printf("200 more threads came and went: %ld\n", destroyed);
    return 0;
}
