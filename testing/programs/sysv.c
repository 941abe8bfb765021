/* System V IPC: semaphores, message queues, shared memory. */
#include "check.h"
#include <signal.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MSG_COPY
#define MSG_COPY 040000
#endif

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
};

static int status_of(pid_t child) {
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static long operate(int set, int number, int change, int flags) {
    struct sembuf one = {number, change, flags};
    return semop(set, &one, 1);
}

static void nothing(int number) { (void)number; }

static void semaphores(void) {
    key_t key = getpid();
    show("not there", semget(key, 3, 0));
    show("none in it", semget(key, 0, IPC_CREAT | 0600));
    int set = semget(key, 3, IPC_CREAT | IPC_EXCL | 0600);
    works("semget", set);
    show("exclusive", semget(key, 3, IPC_CREAT | IPC_EXCL | 0600));
    holds("found by key", semget(key, 0, 0) == set);
    show("more than it has", semget(key, 4, 0));
    unsigned short values[3] = {5, 0, 7};
    show("SETALL", semctl(set, 0, SETALL, (union semun){.array = values}));
    show("GETVAL", semctl(set, 2, GETVAL));
    show("SETVAL", semctl(set, 1, SETVAL, (union semun){.val = 2}));
    show("SETVAL too large", semctl(set, 1, SETVAL, (union semun){.val = 32768}));
    memset(values, 0, sizeof values);
    semctl(set, 0, GETALL, (union semun){.array = values});
    printf("values %d %d %d\n", values[0], values[1], values[2]);
    holds("GETPID", semctl(set, 1, GETPID) == getpid());
    show("no such number", semctl(set, 3, GETVAL));
    show("down", operate(set, 0, -5, 0));
    show("down again", operate(set, 0, -1, IPC_NOWAIT));
    show("is zero", operate(set, 0, 0, IPC_NOWAIT));
    show("is not", operate(set, 1, 0, IPC_NOWAIT));
    show("too far up", operate(set, 1, 32767, 0));
    show("no such semaphore", operate(set, 3, 1, 0));
    struct sembuf both[2] = {{1, -1, IPC_NOWAIT}, {0, -1, IPC_NOWAIT}};
    show("one of two", semop(set, both, 2));
    show("so neither", semctl(set, 1, GETVAL));
    show("no operations", semop(set, both, 0));
    show("a time", semtimedop(set, &(struct sembuf){0, -1, 0}, 1, &(struct timespec){0, 10000000}));

    pid_t child = fork();
    if (child == 0)
        _exit(operate(set, 0, -3, 0) == 0 ? 4 : 5);
    while (semctl(set, 0, GETNCNT) != 1)
        usleep(1000);
    show("one waits", semctl(set, 0, GETNCNT));
    operate(set, 0, 2, 0);
    usleep(10000);
    show("still", semctl(set, 0, GETNCNT));
    operate(set, 0, 2, 0);
    show("woken", status_of(child));
    show("left", semctl(set, 0, GETVAL));

    child = fork();
    if (child == 0) {
        operate(set, 2, -4, SEM_UNDO);
        operate(set, 1, 3, SEM_UNDO);
        _exit(semctl(set, 2, GETVAL));
    }
    show("while the child lives", status_of(child));
    show("undone", semctl(set, 2, GETVAL));
    show("undone up", semctl(set, 1, GETVAL));

    struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    alarm(1);
    show("a signal, though it says restart", operate(set, 2, 0, 0));

    child = fork();
    if (child == 0)
        _exit(operate(set, 2, 0, 0) == -1 && errno == EIDRM ? 6 : 7);
    while (semctl(set, 2, GETZCNT) != 1)
        usleep(1000);
    struct semid_ds about;
    show("IPC_STAT", semctl(set, 0, IPC_STAT, (union semun){.buf = &about}));
    printf("mode %o, %lu semaphores, key %d\n", about.sem_perm.mode, (unsigned long)about.sem_nsems, about.sem_perm.__key == key);
    show("IPC_RMID", semctl(set, 0, IPC_RMID));
    show("EIDRM", status_of(child));
    show("gone", operate(set, 0, 1, 0));
    show("unknown command", semctl(set, 0, 99));
}

struct text {
    long kind;
    char text[32];
};

static void receive(const char *what, int queue, long kind, int flags) {
    struct text message = {0, ""};
    long len = msgrcv(queue, &message, sizeof message.text, kind, flags);
    if (len < 0)
        printf("%s: %s\n", what, errno_name(errno));
    else
        printf("%s: %ld \"%.*s\"\n", what, message.kind, (int)len, message.text);
}

static void messages(void) {
    key_t key = getpid();
    int queue = msgget(key, IPC_CREAT | 0600);
    works("msgget", queue);
    holds("found by key", msgget(key, 0) == queue);
    for (long kind = 5; kind > 0; kind--) {
        struct text message = {kind, ""};
        snprintf(message.text, sizeof message.text, "of type %ld", kind);
        show("msgsnd", msgsnd(queue, &message, strlen(message.text), 0));
    }
    show("no type", msgsnd(queue, &(struct text){0, ""}, 1, 0));
    show("too long", msgsnd(queue, &(struct text){1, ""}, 9000, 0));
    struct msqid_ds about;
    msgctl(queue, IPC_STAT, &about);
    printf("%lu messages, %lu bytes of %lu\n", (unsigned long)about.msg_qnum, (unsigned long)about.__msg_cbytes,
           (unsigned long)about.msg_qbytes);
    holds("the sender", about.msg_lspid == getpid());
    receive("copied", queue, 1, MSG_COPY | IPC_NOWAIT);
    receive("type 3", queue, 3, 0);
    receive("up to 4", queue, -4, 0);
    receive("not 5", queue, 5, MSG_EXCEPT);
    receive("the first", queue, 0, 0);
    receive("type 9", queue, 9, IPC_NOWAIT);
    struct text message;
    show("a buffer too small", msgrcv(queue, &message, 3, 0, 0));
    show("cut", msgrcv(queue, &message, 3, 0, MSG_NOERROR));
    receive("empty", queue, 0, IPC_NOWAIT);
    static char block[8008];
    *(long *)block = 1;
    show("fill", msgsnd(queue, block, 8000, 0));
    show("fill", msgsnd(queue, block, 8000, 0));
    show("full", msgsnd(queue, block, 8000, IPC_NOWAIT));
    pid_t child = fork();
    if (child == 0)
        _exit(msgsnd(queue, block, 8000, 0) == 0 ? 3 : 4);
    usleep(10000);
    show("make room", msgrcv(queue, block, 8000, 0, 0));
    show("sent", status_of(child));
    msgrcv(queue, block, 8000, 0, 0), msgrcv(queue, block, 8000, 0, 0);
    child = fork();
    if (child == 0)
        _exit(msgrcv(queue, block, 8000, 0, 0) == -1 && errno == EIDRM ? 8 : 9);
    usleep(20000);
    show("IPC_RMID", msgctl(queue, IPC_RMID, NULL));
    show("EIDRM", status_of(child));
    show("gone", msgsnd(queue, block, 1, 0));
}

static void segments(void) {
    key_t key = getpid();
    show("no bytes", shmget(key, 0, IPC_CREAT | 0600));
    int segment = shmget(key, 10000, IPC_CREAT | 0600);
    works("shmget", segment);
    show("more than it has", shmget(key, 20000, 0));
    holds("found by key", shmget(key, 100, 0) == segment);
    int *shared = shmat(segment, NULL, 0);
    works("shmat", (long)shared);
    show("zeros", shared[0] + shared[2000]);
    shared[0] = 1;
    pid_t child = fork();
    if (child == 0) {
        shared[1] = shared[0] + 41;
        shared[2000] = 7;
        _exit(shmdt(shared));
    }
    show("the child", status_of(child));
    printf("what it wrote: %d %d\n", shared[1], shared[2000]);
    struct shmid_ds about;
    show("IPC_STAT", shmctl(segment, IPC_STAT, &about));
    printf("%lu bytes, %lu attached, mode %o\n", (unsigned long)about.shm_segsz, (unsigned long)about.shm_nattch, about.shm_perm.mode);
    holds("the creator", about.shm_cpid == getpid() && about.shm_lpid == child);
    show("shmdt", shmdt(shared));
    show("shmdt again", shmdt(shared));
    shared = shmat(segment, NULL, 0);
    printf("what stays: %d %d\n", shared[1], shared[2000]);
    shmdt(shared);

    /* A child attaches what its parent has, and the other way round. */
    int ends[2];
    char byte;
    pipe(ends);
    child = fork();
    if (child == 0) {
        read(ends[0], &byte, 1);
        int *here = shmat(segment, NULL, 0);
        int seen = here == (void *)-1 ? 99 : here[1];
        here[3] = 55;
        _exit(seen);
    }
    shared = shmat(segment, NULL, 0);
    shared[1] = 43;
    write(ends[1], "x", 1);
    show("seen by the child", status_of(child));
    printf("seen by the parent: %d\n", shared[3]);

    const int *fixed = shared;
    show("read only", shmdt(fixed));
    fixed = shmat(segment, NULL, SHM_RDONLY);
    printf("read: %d\n", fixed[3]);
    child = fork();
    if (child == 0) {
        *(volatile int *)fixed = 1;
        _exit(0);
    }
    printf("a store: %s\n", status_of(child) == -SIGSEGV ? "SIGSEGV" : "went through");
    show("IPC_RMID", shmctl(segment, IPC_RMID, NULL));
    show("no key any more", shmget(key, 0, 0));
    show("still there", shmctl(segment, IPC_STAT, &about));
    printf("mode %o, read %d\n", about.shm_perm.mode, fixed[3]);
    shmdt(fixed);
    show("gone", shmctl(segment, IPC_STAT, &about));
    show("not attached", (long)shmat(segment, NULL, 0));
    show("not a segment", shmdt((void *)0x10000000));
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    semaphores();
    messages();
    segments();
    return 0;
}
