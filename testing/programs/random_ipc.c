/* Random calls about what processes share by key or name: System V semaphores, message queues and shared memory, and POSIX
 * message queues. */
#include "random.h"
#include <mqueue.h>
#include <poll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <time.h>

#ifndef MSG_COPY
#define MSG_COPY 040000
#endif

#define SETS 3
#define QUEUES 3
#define SEGMENTS 3
#define NAMES 3

static struct {
    int id, is_there, count;
} sets[SETS];
static struct {
    int id, is_there;
} queues[QUEUES];
static struct {
    int id, is_there, size;
    char *at;
} segments[SEGMENTS];
/* Descriptors of POSIX queues, some for the same name. */
static int mqs[4] = {-1, -1, -1, -1};
static int mq_size[4];
static sigset_t ours;

static void setup(void) {
    sigemptyset(&ours);
    sigaddset(&ours, SIGUSR1);
    sigaddset(&ours, 40);
    sigprocmask(SIG_BLOCK, &ours, NULL);
}

static void finish(void) {
    for (int i = 0; i < SETS; i++)
        if (sets[i].is_there)
            CALL(semctl, sets[i].id, 0, IPC_RMID, 0);
    for (int i = 0; i < QUEUES; i++)
        if (queues[i].is_there)
            CALL(msgctl, queues[i].id, IPC_RMID, 0);
    for (int i = 0; i < SEGMENTS; i++)
        if (segments[i].is_there)
            CALL(shmctl, segments[i].id, IPC_RMID, 0);
    for (int i = 0; i < NAMES; i++) {
        char name[64];
        sprintf(name, "occlum-random-%d-%d", getpid(), i);
        CALL(mq_unlink, name);
    }
}

/* Keys that nobody else has. */
static int key(int index) { return getpid() * 64 + index + 1; }

static void show_permission(const struct ipc_perm *permission, int index) {
    printf(" mode %o owner %d key %s", permission->mode, permission->uid == getuid() && permission->cuid == getuid(),
           permission->__key == 0 ? "0" : permission->__key == key(index) ? "own" : "other");
}

/* A child that waits in a call until it has ended; its status is what the call said. */
static void finish_child(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    printf(" child %s", WIFEXITED(status) ? errno_name(WEXITSTATUS(status)) : "died");
}

static int some_id(int is_there, int id, const char **name) {
    if (chance(12)) {
        *name = "odd";
        return PICK(-1, 0x7ffffff0, 0x70000000);
    }
    *name = is_there ? "own" : "none";
    return is_there ? id : -1;
}

static void make_set(int index) {
    int count = PICK(1, 2, 3, 3, 3, 0, -1, 32001), flags = PICK(0600, 0600, 0600, 0600, 0600, 0600, 0600, 0400, 0200, 0);
    int kind = below(4);
    flags |= kind == 0 ? 0 : kind == 1 ? IPC_CREAT | IPC_EXCL : IPC_CREAT;
    int is_private = chance(3);
    printf("semget(%s, %d, %o)", is_private ? "private" : "key", count, flags);
    int id = success(CALL(semget, is_private ? IPC_PRIVATE : key(index), count, flags));
    if (id < 0)
        return;
    if (sets[index].is_there && id != sets[index].id)
        CALL(semctl, id, 0, IPC_RMID, 0);
    else if (!sets[index].is_there)
        sets[index].id = id, sets[index].is_there = 1, sets[index].count = count;
}

static void show_set(int index) {
    unsigned short values[4] = {9, 9, 9, 9};
    if (!sets[index].is_there || CALL(semctl, sets[index].id, 0, GETALL, values) != 0)
        return;
    printf(" {");
    for (int i = 0; i < sets[index].count && i < 4; i++)
        printf("%s%d%s", i ? " " : "", values[i], CALL(semctl, sets[index].id, i, GETPID) == getpid() ? "m" : "");
    printf("}");
}

static int some_operations(struct sembuf *list, int count) {
    int most = PICK(1, 1, 1, 2, 2, 3);
    for (int i = 0; i < most; i++) {
        list[i].sem_num = chance(15) ? 7 : below(count ? count : 1);
        list[i].sem_op = PICK(1, 1, 2, -1, -1, -2, 0, 3, chance(6) ? 32767 : 1, chance(6) ? -32768 : -1);
        list[i].sem_flg = chance(3) ? SEM_UNDO : 0;
        printf("%s%d%+d%s", i ? " " : "", list[i].sem_num, list[i].sem_op, list[i].sem_flg & SEM_UNDO ? "u" : "");
    }
    return most;
}

static void operate(int index) {
    const char *name;
    int id = some_id(sets[index].is_there, sets[index].id, &name);
    struct sembuf *list = (void *)scratch;
    struct timespec *time = (void *)(scratch + 4096);
    printf("semtimedop(%s, ", name);
    int count = some_operations(list, sets[index].count);
    /* It must not wait for ever: it waits for a while, or not at all. */
    int waits = chance(3);
    if (!waits)
        for (int i = 0; i < count; i++)
            list[i].sem_flg |= IPC_NOWAIT;
    *time = (struct timespec){0, PICK(1000, 1000, 0, -1, 1000000000)};
    if (chance(16))
        count = PICK(0, 501, 1 << 20);
    void *at = pointer_or(list, 1), *when = waits ? pointer_or(time, 0) : NULL;
    printf(", %s %d, %s %ld)", kind_of(at), count, waits ? kind_of(when) : "nowait", waits ? time->tv_nsec : 0);
    result(CALL(semtimedop, id, at, (unsigned long)count, when));
    show_set(index);
}

static void control_set(int index) {
    const char *name;
    int id = some_id(sets[index].is_there, sets[index].id, &name), number = PICK(0, 0, 1, 2, 3, -1);
    switch (below(9)) {
    case 0:
        printf("GETVAL(%s, %d)", name, number);
        result(CALL(semctl, id, number, GETVAL, 0));
        break;
    case 1: {
        int value = PICK(0, 1, 2, 5, 32767, 32768, -1);
        printf("SETVAL(%s, %d, %d)", name, number, value);
        result(CALL(semctl, id, number, SETVAL, value));
        break;
    }
    case 2: {
        unsigned short *values = (void *)scratch;
        for (int i = 0; i < 4; i++)
            values[i] = PICK(0, 1, 2, 3, 3, 3, chance(9) ? 40000 : 1);
        void *at = pointer_or(values, 1);
        printf("SETALL(%s, %s %d %d %d)", name, kind_of(at), values[0], values[1], values[2]);
        result(CALL(semctl, id, number, SETALL, at));
        break;
    }
    case 3:
        printf("GETNCNT(%s, %d)", name, number);
        result(CALL(semctl, id, number, GETNCNT, 0));
        printf(" GETZCNT");
        result(CALL(semctl, id, number, GETZCNT, 0));
        break;
    case 4:
    case 5: {
        struct semid_ds *about = (void *)scratch;
        memset(about, 0, sizeof *about);
        void *at = pointer_or(about, 1);
        printf("IPC_STAT(%s, %s)", name, kind_of(at));
        if (result(CALL(semctl, id, number, IPC_STAT, at)) == 0 && at == about) {
            printf(" %lu operated %d", about->sem_nsems, about->sem_otime != 0);
            show_permission(&about->sem_perm, index);
        }
        break;
    }
    case 6: {
        struct semid_ds *about = (void *)scratch;
        memset(about, 0, sizeof *about);
        about->sem_perm.mode = PICK(0600, 0600, 0600, 0600, 0400, 0200, 07777);
        about->sem_perm.uid = chance(8) ? -1 : getuid(), about->sem_perm.gid = getgid();
        void *at = pointer_or(about, 1);
        printf("IPC_SET(%s, %s %o %d)", name, kind_of(at), about->sem_perm.mode, about->sem_perm.uid == -1);
        result(CALL(semctl, id, number, IPC_SET, at));
        break;
    }
    case 7: {
        int command = PICK(99, -1, 10, 21);
        printf("semctl(%s, %d, %d)", name, number, command);
        result(CALL(semctl, id, number, command, 0));
        break;
    }
    default:
        if (!chance(3))
            return operate(index);
        printf("IPC_RMID(%s)", name);
        if (result(CALL(semctl, id, number, IPC_RMID, 0)) == 0)
            sets[index].is_there = 0;
    }
    show_set(index);
}

/* Another process waits for a semaphore, and what ends the wait. */
static void with_waiter(int index) {
    if (!sets[index].is_there || sets[index].count < 1)
        return make_set(index);
    int id = sets[index].id, for_zero = chance(3), undoes = chance(2), end = below(4);
    printf("a waiter for %s%s", for_zero ? "zero" : "more", undoes ? " with undo" : "");
    if (success(CALL(semctl, id, 0, SETVAL, for_zero ? 1 : 0)) != 0)
        return;
    /* Who may change the set may not be allowed to look at it. */
    if (CALL(semctl, id, 0, GETNCNT, 0) < 0) {
        result(-1);
        return;
    }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct sembuf one = {0, for_zero ? 0 : -1, undoes ? SEM_UNDO : 0};
        signal(SIGUSR2, SIG_DFL);
        _exit(CALL(semop, id, &one, 1) == 0 ? 0 : errno);
    }
    while (CALL(semctl, id, 0, for_zero ? GETZCNT : GETNCNT, 0) == 0)
        usleep(200);
    switch (end) {
    case 0:
        printf(" removed");
        result(CALL(semctl, id, 0, IPC_RMID, 0));
        sets[index].is_there = 0;
        break;
    case 1:
        printf(" killed");
        result(CALL(kill, child, SIGKILL));
        break;
    default: {
        struct sembuf one = {0, for_zero ? -1 : 1, 0};
        printf(" semop");
        result(CALL(semop, id, &one, 1));
    }
    }
    finish_child(child);
    show_set(index);
}

static void make_queue(int index) {
    int flags = PICK(0600, 0600, 0600, 0600, 0600, 0600, 0600, 0400, 0200, 0), kind = below(4);
    flags |= kind == 0 ? 0 : kind == 1 ? IPC_CREAT | IPC_EXCL : IPC_CREAT;
    int is_private = chance(3);
    printf("msgget(%s, %o)", is_private ? "private" : "key", flags);
    int id = success(CALL(msgget, is_private ? IPC_PRIVATE : key(index), flags));
    if (id < 0)
        return;
    if (queues[index].is_there && id != queues[index].id)
        CALL(msgctl, id, IPC_RMID, 0);
    else if (!queues[index].is_there)
        queues[index].id = id, queues[index].is_there = 1;
}

static void send_message(int index) {
    const char *name;
    int id = some_id(queues[index].is_there, queues[index].id, &name);
    struct msgbuf *message = (void *)scratch;
    message->mtype = PICK(1, 1, 2, 3, 5, chance(5) ? 0 : 1, chance(5) ? -1 : 2, 1ll << 40);
    long size = PICK(0, 1, 5, 20, 100, 1000, 5000, 8192, chance(4) ? 8193 : 3, chance(4) ? -1 : 4);
    for (int i = 0; i < size; i++)
        message->mtext[i] = (char)below(250);
    void *at = pointer_or(message, 1);
    int flags = IPC_NOWAIT | (chance(10) ? 0x4000 : 0);
    printf("msgsnd(%s, %s type %ld, %ld, %x)", name, kind_of(at), (long)message->mtype, size, flags);
    result(CALL(msgsnd, id, at, size, flags));
}

static void receive_message(int index) {
    const char *name;
    int id = some_id(queues[index].is_there, queues[index].id, &name);
    struct msgbuf *message = (void *)scratch;
    long size = PICK(0, 3, 100, 8192, 8192, 8192, 60000, chance(4) ? -1 : 8192), kind = PICK(0, 0, 0, 1, 2, 3, -2, -5, 7, chance(9) ? (1ull << 63) : 0);
    int flags = IPC_NOWAIT | (chance(3) ? PICK(MSG_NOERROR, MSG_NOERROR, MSG_EXCEPT, MSG_EXCEPT | MSG_NOERROR, MSG_COPY, MSG_COPY | MSG_NOERROR, 0x8000) : 0);
    message->mtype = 77;
    void *at = pointer_or(message, 1);
    printf("msgrcv(%s, %s, %ld, %ld, %x)", name, kind_of(at), size, kind, flags);
    long got = result(CALL(msgrcv, id, at, size, kind, flags));
    if (got >= 0 && at == message) {
        unsigned sum = 0;
        for (int i = 0; i < got; i++)
            sum = sum * 31 + (unsigned char)message->mtext[i];
        printf(" type %ld sum %x", (long)message->mtype, sum);
    }
}

static void control_queue(int index) {
    const char *name;
    int id = some_id(queues[index].is_there, queues[index].id, &name);
    struct msqid_ds *about = (void *)scratch;
    memset(about, 0, sizeof *about);
    switch (below(6)) {
    case 0:
    case 1:
    case 2: {
        void *at = pointer_or(about, 1);
        printf("IPC_STAT(%s, %s)", name, kind_of(at));
        if (result(CALL(msgctl, id, IPC_STAT, at)) == 0 && at == about) {
            printf(" %lu messages %lu bytes of %lu sent %d%d received %d%d", about->msg_qnum, about->__msg_cbytes, about->msg_qbytes,
                   about->msg_stime != 0, about->msg_lspid == getpid(), about->msg_rtime != 0, about->msg_lrpid == getpid());
            show_permission(&about->msg_perm, index);
        }
        break;
    }
    case 3: {
        about->msg_perm.mode = PICK(0600, 0600, 0600, 0600, 0600, 0400, 0200);
        about->msg_perm.uid = getuid(), about->msg_perm.gid = getgid();
        about->msg_qbytes = PICK(16384, 16384, 100, 0, 16385, 1 << 20);
        void *at = pointer_or(about, 1);
        printf("IPC_SET(%s, %s %o %lu)", name, kind_of(at), about->msg_perm.mode, about->msg_qbytes);
        result(CALL(msgctl, id, IPC_SET, at));
        break;
    }
    case 4: {
        int command = PICK(99, -1, 4);
        printf("msgctl(%s, %d)", name, command);
        result(CALL(msgctl, id, command, about));
        break;
    }
    default:
        if (!chance(3))
            return send_message(index);
        printf("IPC_RMID(%s)", name);
        if (result(CALL(msgctl, id, IPC_RMID, 0)) == 0)
            queues[index].is_there = 0;
    }
}

/* Another process waits for a message. */
static void with_receiver(int index) {
    if (!queues[index].is_there)
        return make_queue(index);
    int id = queues[index].id, ready[2];
    printf("a receiver");
    pipe2(ready, O_CLOEXEC);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct {
            long type;
            char text[16];
        } message;
        write(ready[1], "", 1);
        _exit(CALL(msgrcv, id, &message, 16, 9, MSG_NOERROR) >= 0 ? 0 : errno);
    }
    char byte;
    read(ready[0], &byte, 1);
    close(ready[0]), close(ready[1]);
    if (chance(3)) {
        printf(" removed");
        usleep(1000);
        if (result(CALL(msgctl, id, IPC_RMID, 0)) == 0)
            queues[index].is_there = 0;
        else
            kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        return;
    }
    struct {
        long type;
        char text[16];
    } message = {9, "to whom it may"};
    printf(" msgsnd");
    if (result(CALL(msgsnd, id, &message, 14, IPC_NOWAIT)) == 0)
        return finish_child(child);
    int status;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
}

static void make_segment(int index) {
    long size = PICK(1, 4096, 5000, 8192, 0, -1);
    int flags = PICK(0600, 0600, 0600, 0600, 0600, 0600, 0400, 0), kind = below(4);
    flags |= kind == 0 ? 0 : kind == 1 ? IPC_CREAT | IPC_EXCL : IPC_CREAT;
    int is_private = chance(3);
    printf("shmget(%s, %ld, %o)", is_private ? "private" : "key", size, flags);
    int id = success(CALL(shmget, is_private ? IPC_PRIVATE : key(index), size, flags));
    if (id < 0)
        return;
    if (segments[index].is_there && id != segments[index].id)
        CALL(shmctl, id, IPC_RMID, 0);
    else if (!segments[index].is_there)
        segments[index].id = id, segments[index].is_there = 1, segments[index].size = size;
}

static void use_segment(int index) {
    const char *name;
    int id = some_id(segments[index].is_there, segments[index].id, &name);
    switch (below(8)) {
    case 0:
    case 1: {
        if (segments[index].at != NULL) {
            char *at = segments[index].at;
            printf("memory was %d", at[0]);
            at[0] = (char)below(100);
            return;
        }
        int flags = PICK(0, 0, 0, SHM_RDONLY, SHM_REMAP);
        void *wanted = chance(8) ? (void *)PICK(0x1001, 0xffff800000000000) : NULL;
        printf("shmat(%s, %s, %x)", name, wanted ? "odd" : "any", flags);
        void *at = (void *)CALL(shmat, id, wanted, flags);
        success(at == (void *)-1 ? -1 : 0);
        if (at != (void *)-1) {
            printf(" has %d", *(char *)at);
            if (flags == 0)
                segments[index].at = at;
            else
                CALL(shmdt, at);
        }
        break;
    }
    case 2: {
        char *at = segments[index].at;
        int is_odd = chance(4) || at == NULL;
        printf("shmdt(%s)", is_odd ? "odd" : "own");
        if (result(CALL(shmdt, is_odd ? scratch : at)) == 0)
            segments[index].at = NULL;
        break;
    }
    case 3:
    case 4: {
        struct shmid_ds *about = (void *)scratch;
        memset(about, 0, sizeof *about);
        void *at = pointer_or(about, 1);
        printf("IPC_STAT(%s, %s)", name, kind_of(at));
        if (result(CALL(shmctl, id, IPC_STAT, at)) == 0 && at == about) {
            printf(" %zu bytes attached %lu own %d%d times %d%d", about->shm_segsz, (long)about->shm_nattch, about->shm_cpid == getpid(),
                   about->shm_lpid == getpid(), about->shm_atime != 0, about->shm_dtime != 0);
            show_permission(&about->shm_perm, index);
        }
        break;
    }
    case 5: {
        struct shmid_ds *about = (void *)scratch;
        memset(about, 0, sizeof *about);
        about->shm_perm.mode = PICK(0600, 0600, 0600, 0600, 0600, 0400, 0200);
        about->shm_perm.uid = getuid(), about->shm_perm.gid = getgid();
        void *at = pointer_or(about, 1);
        printf("IPC_SET(%s, %s %o)", name, kind_of(at), about->shm_perm.mode);
        result(CALL(shmctl, id, IPC_SET, at));
        break;
    }
    case 6: {
        if (segments[index].at == NULL)
            return make_segment(index);
        /* A child has the same memory, and its end takes its attachment away. */
        printf("a child writes");
        fflush(stdout);
        char value = (char)below(100);
        pid_t child = fork();
        if (child == 0) {
            segments[index].at[0] = value;
            _exit(0);
        }
        finish_child(child);
        printf(" %d", segments[index].at[0]);
        break;
    }
    default:
        if (!chance(3))
            return make_segment(index);
        printf("IPC_RMID(%s)", name);
        if (result(CALL(shmctl, id, IPC_RMID, 0)) == 0) {
            segments[index].is_there = 0;
            if (segments[index].at != NULL) {
                CALL(shmdt, segments[index].at);
                segments[index].at = NULL;
            }
        }
    }
}

static void open_named(int index) {
    char *name = scratch;
    int number = below(NAMES);
    sprintf(name, "occlum-random-%d-%d", getpid(), number);
    if (chance(5)) {
        char *at = pointer_or(name, 1);
        if (chance(4))
            strcpy(name, chance(2) ? "" : "a/b"), at = name;
        printf("mq_unlink(%s %d)", kind_of(at), *name ? number : -1);
        result(CALL(mq_unlink, at));
        return;
    }
    if (mqs[index] >= 0) {
        printf("close");
        result(CALL(close, mqs[index]));
        mqs[index] = -1;
        return;
    }
    struct mq_attr *wanted = (void *)(scratch + 1024);
    memset(wanted, 0, sizeof *wanted);
    wanted->mq_maxmsg = PICK(1, 2, 3, 10, chance(4) ? 0 : 2, chance(4) ? 11 : 3, chance(4) ? -1 : 2);
    wanted->mq_msgsize = PICK(8, 64, 64, chance(4) ? 0 : 8, chance(4) ? 8193 : 8);
    int flags = O_NONBLOCK | PICK(O_RDWR, O_RDWR, O_RDONLY, O_WRONLY, 3);
    int kind = below(4);
    flags |= kind == 0 ? 0 : kind == 1 ? O_CREAT | O_EXCL : O_CREAT;
    int mode = PICK(0600, 0600, 0400, 0200);
    void *attributes = pointer_or(wanted, 1), *at = pointer_or(name, 1);
    if (attributes == NULL && chance(2))
        attributes = wanted;
    printf("mq_open(%s %d, %x, %o, %s %ld %ld)", kind_of(at), number, flags, mode, kind_of(attributes), wanted->mq_maxmsg,
           wanted->mq_msgsize);
    int fd = success(CALL(mq_open, at, flags, mode, attributes));
    if (fd >= 0) {
        struct mq_attr is;
        CALL(mq_getsetattr, fd, NULL, &is);
        mqs[index] = fd;
        mq_size[index] = is.mq_msgsize;
    }
}

static void use_named(int index) {
    const char *name;
    int fd = mqs[index] < 0 && chance(2) ? 1 : chance(14) ? 99 : mqs[index];
    name = fd == mqs[index] ? "own" : "odd";
    int size = mqs[index] >= 0 ? mq_size[index] : 8;
    struct timespec *time = (void *)(scratch + 40000);
    *time = (struct timespec){PICK(1, 1, -1), PICK(0, 0, 1000000000)};
    switch (below(8)) {
    case 0:
    case 1: {
        unsigned priority = PICK(0, 1, 1, 5, 32767, chance(5) ? 32768 : 2);
        long len = PICK(0, 1, 5, 8, size, chance(4) ? size + 1 : 3);
        for (int i = 0; i < len; i++)
            scratch[i] = (char)below(250);
        void *at = pointer_or(scratch, 1), *when = chance(3) ? pointer_or(time, 1) : NULL;
        printf("mq_timedsend(%s, %s, %ld, %u, %s %ld.%ld)", name, kind_of(at), len, priority, kind_of(when), time->tv_sec, time->tv_nsec);
        result(CALL(mq_timedsend, fd, at, len, priority, when));
        break;
    }
    case 2:
    case 3: {
        unsigned *priority = (void *)(scratch + 32768);
        *priority = 77;
        long len = PICK(size, size, size, 8192, size - 1, 0);
        void *at = pointer_or(scratch, 0), *into = pointer_or(priority, 1), *when = chance(3) ? pointer_or(time, 1) : NULL;
        /* Whether what cannot be told is lost is not for here. */
        if (at != scratch)
            into = priority;
        if (into != priority && into != NULL)
            into = NULL;
        printf("mq_timedreceive(%s, %s, %ld, %s, %s %ld.%ld)", name, kind_of(at), len, kind_of(into), kind_of(when), time->tv_sec, time->tv_nsec);
        long got = result(CALL(mq_timedreceive, fd, at, len, into, when));
        if (got >= 0) {
            unsigned sum = 0;
            for (int i = 0; i < got; i++)
                sum = sum * 31 + (unsigned char)scratch[i];
            printf(" priority %u sum %x", *priority, sum);
        }
        break;
    }
    case 4: {
        struct sigevent *event = (void *)scratch;
        memset(event, 0, sizeof *event);
        event->sigev_notify = PICK(SIGEV_SIGNAL, SIGEV_SIGNAL, SIGEV_SIGNAL, SIGEV_NONE, 4, 77);
        event->sigev_signo = PICK(SIGUSR1, 40, 40, chance(4) ? 0 : 40, chance(4) ? 65 : 40);
        event->sigev_value.sival_int = below(100);
        void *at = pointer_or(event, 1);
        printf("mq_notify(%s, %s %d %d)", name, kind_of(at), event->sigev_notify, event->sigev_signo);
        result(CALL(mq_notify, fd, at));
        break;
    }
    case 5: {
        struct mq_attr *new = (void *)scratch, *old = (void *)(scratch + 256);
        memset(new, 0, sizeof *new), memset(old, 0x55, sizeof *old);
        new->mq_flags = O_NONBLOCK | (chance(6) ? 1 : 0);
        void *in = pointer_or(new, 1), *out = pointer_or(old, 1);
        printf("mq_getsetattr(%s, %s %lx, %s)", name, kind_of(in), new->mq_flags, kind_of(out));
        if (result(CALL(mq_getsetattr, fd, in, out)) == 0 && out == old)
            printf(" flags %lx %ld of %ld size %ld", old->mq_flags, old->mq_curmsgs, old->mq_maxmsg, old->mq_msgsize);
        break;
    }
    case 6: {
        struct pollfd row = {fd, POLLIN | POLLOUT};
        if (fd == 1)
            return open_named(index);
        printf("poll(%s)", name);
        result(CALL(poll, &row, 1, 0));
        printf(" %x", row.revents);
        break;
    }
    default: return open_named(index);
    }
    siginfo_t info;
    struct timespec none = {0};
    for (int number; (number = sigtimedwait(&ours, &info, &none)) > 0;)
        printf(" signal %d code %d value %d own %d", number, info.si_code, info.si_value.sival_int, info.si_pid == getpid());
}

static void step(void) {
    int index = below(3);
    switch (below(20)) {
    case 0: return make_set(index);
    case 1:
    case 2:
    case 3: return operate(index);
    case 4:
    case 5: return control_set(index);
    case 6: return with_waiter(index);
    case 7: return make_queue(index);
    case 8:
    case 9: return send_message(index);
    case 10: return receive_message(index);
    case 11: return control_queue(index);
    case 12: return with_receiver(index);
    case 13:
    case 14:
    case 15: return use_segment(index);
    case 16: return open_named(below(4));
    default: return use_named(below(4));
    }
}
