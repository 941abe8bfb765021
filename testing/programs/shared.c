/* Memory that programs share which are not forked from one another: by name, by key, by a file. With an argument it is the other
   program. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { ROUNDS = 2000, LEN = 40 * 4096 };

struct area {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int turn, count;
    _Atomic int lone;
    char bytes[20 * 4096];
};

static char name[64], semaphore[64], path[64];
static key_t key;

static pid_t start(const char *role, const char *id) {
    char *arguments[] = {"shared", (char *)role, (char *)id, NULL};
    pid_t pid;
    if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environ))
        abort();
    return pid;
}

static int finish(pid_t pid) {
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static struct area *open_area(int flags) {
    int fd = shm_open(name, O_RDWR | flags, 0600);
    if (fd < 0 || ((flags & O_CREAT) && ftruncate(fd, LEN)))
        return NULL;
    struct area *area = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return area == MAP_FAILED ? NULL : area;
}

/* Takes turns with the other program. */
static void alternate(struct area *area, int me) {
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&area->mutex);
        while (area->turn != me)
            pthread_cond_wait(&area->changed, &area->mutex);
        area->turn = !me;
        area->count++;
        area->bytes[i % sizeof area->bytes]++;
        pthread_cond_signal(&area->changed);
        pthread_mutex_unlock(&area->mutex);
    }
}

static int other(const char *role) {
    if (!strcmp(role, "alternate")) {
        struct area *area = open_area(0);
        if (!area)
            return 1;
        alternate(area, 1);
        return 0;
    }
    if (!strcmp(role, "semaphore")) {
        sem_t *sem = sem_open(semaphore, 0), *back;
        char name_back[80];
        snprintf(name_back, sizeof name_back, "%s-back", semaphore);
        back = sem_open(name_back, 0);
        if (sem == SEM_FAILED || back == SEM_FAILED)
            return 1;
        for (int i = 0; i < ROUNDS; i++)
            if (sem_wait(sem) || sem_post(back))
                return 2;
        return 0;
    }
    if (!strcmp(role, "segment")) {
        int id = shmget(key, 0, 0);
        char *memory = shmat(id, NULL, 0);
        if (id < 0 || memory == (void *)-1)
            return 1;
        while (memory[0] != 1)
            usleep(1000);
        strcpy(memory + 5000, "from the other program");
        memory[0] = 2;
        return shmdt(memory) ? 2 : 0;
    }
    if (!strcmp(role, "file")) {
        int fd = open(path, O_RDWR);
        char *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096);
        if (memory == MAP_FAILED)
            return 1;
        memory[0]++;
        memory[4096] = 'x';
        /* Ends without unmapping it. */
        return memory[1];
    }
    return 99;
}

static sigjmp_buf place;

static void fault(int number) { siglongjmp(place, number); }

static const char *touch(volatile char *at, int store) {
    int number = sigsetjmp(place, 1);
    if (number)
        return number == SIGBUS ? "SIGBUS" : "SIGSEGV";
    if (store)
        *at = 1;
    else
        (void)*at;
    return "nothing";
}

static void by_name(const char *id) {
    struct area *area = open_area(O_CREAT | O_EXCL);
    holds("shm_open and mmap", area != NULL);
    pthread_mutexattr_t mutex;
    pthread_condattr_t cond;
    pthread_mutexattr_init(&mutex);
    pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&area->mutex, &mutex);
    pthread_condattr_init(&cond);
    pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&area->changed, &cond);
    pid_t pid = start("alternate", id);
    alternate(area, 0);
    show("two programs take turns", finish(pid));
    show("turns", area->count);
    holds("both wrote", area->bytes[0] == 2 && area->bytes[ROUNDS - 1] == 2);

    /* A fork has it as well, and so has a program that is started meanwhile. */
    area->count = 0;
    pid = fork();
    if (pid == 0) {
        alternate(area, 0);
        _exit(0);
    }
    pid_t third = start("alternate", id);
    show("a fork and a program", finish(pid) + finish(third));
    show("turns", area->count);
    struct area *again = open_area(0);
    holds("mapped twice by one program", again != NULL);
    again->lone = 77;
    show("both show the same", area->lone);
    works("munmap of one", munmap(again, LEN));
    show("the other is there", area->lone);
    works("munmap of the other", munmap(area, LEN));
    area = open_area(0);
    show("its content stays", area->lone);
    works("shm_unlink", shm_unlink(name));
    holds("the name is gone", open_area(0) == NULL);
    show("the memory is not", area->lone);
    munmap(area, LEN);
}

static void by_semaphore(const char *id) {
    char name_back[80];
    snprintf(name_back, sizeof name_back, "%s-back", semaphore);
    sem_t *sem = sem_open(semaphore, O_CREAT | O_EXCL, 0600, 0);
    sem_t *back = sem_open(name_back, O_CREAT | O_EXCL, 0600, 0);
    holds("sem_open", sem != SEM_FAILED && back != SEM_FAILED);
    holds("sem_open of the same", sem_open(semaphore, 0) == sem);
    sem_close(sem);
    pid_t pid = start("semaphore", id);
    int failed = 0;
    for (int i = 0; i < ROUNDS; i++)
        failed += sem_post(sem) || sem_wait(back);
    show("failures", failed);
    show("the other program", finish(pid));
    int value = -1;
    sem_getvalue(sem, &value);
    show("value", value);
    sem_close(sem);
    sem_close(back);
    works("sem_unlink", sem_unlink(semaphore));
    works("sem_unlink", sem_unlink(name_back));
}

static void by_key(const char *id) {
    int segment = shmget(key, 10000, IPC_CREAT | IPC_EXCL | 0600);
    char *memory = shmat(segment, NULL, 0);
    holds("shmget and shmat", segment >= 0 && memory != (void *)-1);
    pid_t pid = start("segment", id);
    memory[0] = 1;
    while (*(volatile char *)memory != 2)
        usleep(1000);
    show("the other program", finish(pid));
    puts(memory + 5000);
    struct shmid_ds about;
    shmctl(segment, IPC_STAT, &about);
    show("attached", about.shm_nattch);
    works("shmdt", shmdt(memory));
    memory = shmat(segment, NULL, SHM_RDONLY);
    puts(memory + 5000);
    shmdt(memory);
    works("IPC_RMID", shmctl(segment, IPC_RMID, NULL));
}

static void by_file(const char *id) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    char block[3 * 4096] = "", byte;
    block[4096] = 'a';
    block[4097] = 5;
    if (write(fd, block, sizeof block) != sizeof block)
        return;
    char *memory = mmap(NULL, sizeof block, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    show("the other program sees what was written", finish(start("file", id)));
    printf("and what it stored is seen: %c %c\n", memory[4096], memory[8192]);
    pread(fd, &byte, 1, 4096);
    printf("and read: %c\n", byte);
    memory[4097] = 9;
    pread(fd, &byte, 1, 4097);
    show("a store is read", byte);
    pwrite(fd, "w", 1, 4096);
    printf("a write is seen: %c\n", memory[4096]);
    memory[4098] = 3;
    pwrite(fd, "v", 1, 4096);
    printf("and keeps a store beside it: %c %d\n", memory[4096], memory[4098]);
    show("the other program", finish(start("file", id)));
    signal(SIGSEGV, fault);
    signal(SIGBUS, fault);
    works("mprotect", mprotect(memory, 4096, PROT_READ));
    printf("a store to what is read-only: %s\n", touch(memory, 1));
    works("mprotect", mprotect(memory, 4096, PROT_NONE));
    printf("a load of what is hidden: %s\n", touch(memory, 0));
    works("mprotect", mprotect(memory, 4096, PROT_READ | PROT_WRITE));
    printf("a store: %s\n", touch(memory, 1));
    works("ftruncate", ftruncate(fd, 4096));
    printf("behind the end: %s\n", touch(memory + 8192, 0));
    works("ftruncate", ftruncate(fd, 64 * 4096));
    printf("longer again: %s, %d\n", touch(memory + 8192, 1), memory[4096]);
    memory[1] = 4;
    memory = mremap(memory, sizeof block, 64 * 4096, MREMAP_MAYMOVE);
    holds("mremap", memory != MAP_FAILED);
    printf("the new end: %s\n", touch(memory + 63 * 4096, 1));
    show("the old begin", memory[1]);
    works("msync", msync(memory, 64 * 4096, MS_SYNC));
    char *part = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 63 * 4096);
    show("a part of it mapped again", part[0]);
    works("munmap of the part", munmap(part, 4096));
    printf("the rest: %s\n", touch(memory + 62 * 4096, 1));
    works("munmap", munmap(memory, 64 * 4096));
    pread(fd, &byte, 1, 63 * 4096);
    show("the file has it", byte);
    unlink(path);
    close(fd);
    int many = 0;
    for (int i = 0; i < 300; i++) {
        int memfd = memfd_create("many", 0);
        if (memfd < 0 || ftruncate(memfd, 4096))
            break;
        char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
        close(memfd);
        if (page == MAP_FAILED)
            break;
        page[0] = i;
        many += page[0] == (char)i;
    }
    show("files mapped at once", many);
}

int main(int argc, char **argv) {
    char id[32];
    snprintf(id, sizeof id, "%d", getpid());
    if (argc > 2)
        snprintf(id, sizeof id, "%s", argv[2]);
    snprintf(name, sizeof name, "/occlum-shared-%s", id);
    snprintf(semaphore, sizeof semaphore, "/occlum-semaphore-%s", id);
    snprintf(path, sizeof path, "/tmp/occlum-shared-%s", id);
    key = 0x0cc10000 + atoi(id) % 0xffff;
    if (argc > 2)
        return other(argv[1]);
    by_name(id);
    by_semaphore(id);
    by_key(id);
    by_file(id);
    return 0;
}
