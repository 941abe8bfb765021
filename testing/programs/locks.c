/* What pthreads has beside mutexes and conditions: barriers, read-write locks, robust and priority-inheriting mutexes, once,
 * cancellation with clean-up, spin locks, named exits. */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <time.h>
#include <unistd.h>

#define THREADS 8
static pthread_barrier_t barrier;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t mutex;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int serial, once_count, cleaned, writes, wrong;
static long shared[2];
static sem_t ready;

static void run_once(void) { once_count++; }

static void *meet(void *argument) {
    (void)argument;
    for (int i = 0; i < 50; i++) {
        pthread_once(&once, run_once);
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
            __atomic_add_fetch(&serial, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static void *read_and_write(void *argument) {
    for (int i = 0; i < 300; i++) {
        if ((i + (long)argument) % 7 == 0) {
            pthread_rwlock_wrlock(&rwlock);
            shared[0]++, shared[1]++, writes++;
            pthread_rwlock_unlock(&rwlock);
        } else {
            pthread_rwlock_rdlock(&rwlock);
            if (shared[0] != shared[1])
                __atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
            pthread_rwlock_unlock(&rwlock);
        }
    }
    return NULL;
}

static void init_mutex(int protocol, int robust, int type) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    printf("protocol: %s", errno_name(pthread_mutexattr_setprotocol(&attributes, protocol)));
    printf(", robust: %s", errno_name(pthread_mutexattr_setrobust(&attributes, robust)));
    printf(", type: %s", errno_name(pthread_mutexattr_settype(&attributes, type)));
    printf(", init: %s\n", errno_name(pthread_mutex_init(&mutex, &attributes)));
}

static void *count(void *argument) {
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&mutex);
        ++*(long *)argument;
        if (i % 100 == 0)
            sched_yield();
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void *dies_with_it(void *argument) {
    (void)argument;
    pthread_mutex_lock(&mutex);
    sem_post(&ready);
    usleep(20000);
    return NULL;
}

static void contend(void) {
    pthread_t threads[THREADS];
    long counter = 0;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, count, &counter);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("counter %ld\n", counter);
}

static void owner_dies(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, dies_with_it, NULL);
    sem_wait(&ready);
    int found = pthread_mutex_lock(&mutex);
    printf("lock of an owner that ended: %s\n", found == EOWNERDEAD ? "EOWNERDEAD" : errno_name(found));
    printf("consistent: %s\n", errno_name(pthread_mutex_consistent(&mutex)));
    printf("unlock: %s\n", errno_name(pthread_mutex_unlock(&mutex)));
    pthread_join(thread, NULL);
    printf("lock again: %s\n", errno_name(pthread_mutex_lock(&mutex)));
    printf("unlock: %s\n", errno_name(pthread_mutex_unlock(&mutex)));
}

static void clean(void *argument) {
    cleaned += (long)argument;
    if (argument == (void *)10)
        pthread_mutex_unlock(&mutex);
}

static void *is_cancelled(void *argument) {
    pthread_cleanup_push(clean, (void *)1);
    if (argument) {
        pthread_mutex_lock(&mutex);
        pthread_cleanup_push(clean, (void *)10);
        sem_post(&ready);
        for (;;)
            pthread_cond_wait(&condition, &mutex);
        pthread_cleanup_pop(0);
    } else {
        char byte;
        int ends[2];
        pipe(ends);
        sem_post(&ready);
        read(ends[0], &byte, 1);
    }
    pthread_cleanup_pop(0);
    return NULL;
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    pthread_t threads[THREADS];
    sem_init(&ready, 0, 0);
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, meet, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("barriers %d, once %d\n", serial, once_count);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, read_and_write, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("writes %d, of both %ld %ld, wrong %d\n", writes, shared[0], shared[1], wrong);

    init_mutex(PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED, PTHREAD_MUTEX_ERRORCHECK);
    contend();
    pthread_mutex_lock(&mutex);
    printf("lock twice: %s\n", errno_name(pthread_mutex_lock(&mutex)));
    printf("try: %s\n", errno_name(pthread_mutex_trylock(&mutex)));
    pthread_mutex_unlock(&mutex);
    init_mutex(PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, PTHREAD_MUTEX_NORMAL);
    contend();
    owner_dies();
    init_mutex(PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_ROBUST, PTHREAD_MUTEX_NORMAL);
    contend();
    owner_dies();

    init_mutex(PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, PTHREAD_MUTEX_NORMAL);
    for (long i = 0; i < 2; i++) {
        void *result;
        pthread_create(&threads[0], NULL, is_cancelled, (void *)i);
        sem_wait(&ready);
        usleep(5000);
        pthread_cancel(threads[0]);
        pthread_join(threads[0], &result);
        printf("cancelled: %d, cleaned up %d\n", result == PTHREAD_CANCELED, cleaned);
    }
    printf("the mutex is free: %s\n", errno_name(pthread_mutex_trylock(&mutex)));
    return 0;
}
