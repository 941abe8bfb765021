/* Random calls about processes: children and their ends, groups, sessions, limits, attributes, scheduling. */
#include "random.h"
#include <sched.h>
#include <sys/prctl.h>
#include <sys/times.h>
#include <time.h>

#define CHILDREN 6

static struct {
    pid_t pid;
    int is_there, has_ended, is_stopped;
    /* It ends as soon as it goes on. */
    int is_doomed;
    /* The write end of a pipe whose end tells it to go on. */
    int leash;
} children[CHILDREN];

static void setup(void) {
    for (int number = 1; number <= 31; number++)
        if (number != SIGKILL && number != SIGSTOP && number != SIGTSTP && number != SIGCHLD)
            catch_signal(number, 0);
    /* SIGCHLD comes when it wants, so it is looked at only when it must have come. */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    catch_signal(SIGCHLD, 0);
    struct rlimit limit = {100, 200};
    for (int i = 0; i < 16; i++)
        if (i != RLIMIT_NOFILE && i != RLIMIT_STACK && i != RLIMIT_DATA && i != RLIMIT_AS && i != RLIMIT_FSIZE &&
            i != RLIMIT_CPU && i != RLIMIT_NPROC)
            CALL(prlimit64, 0, i, &limit, NULL);
    struct sched_param zero = {0};
    sched_setscheduler(0, SCHED_OTHER, &zero);
}

static void finish(void) {}

static pid_t some_child(int *index) {
    *index = below(CHILDREN);
    return children[*index].is_there ? children[*index].pid : 0;
}

static void show_pid(pid_t pid) {
    if (pid == getpid())
        printf(" self");
    else if (pid > 0)
        for (int i = 0; i < CHILDREN; i++)
            if (children[i].pid == pid)
                printf(" child %d", i);
}

/* SIGCHLD that comes, if it must: `waitid` may know of a change before the signal is sent. */
static void show_sigchld(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    siginfo_t info;
    struct timespec patience = {2, 0};
    if (sigtimedwait(&set, &info, &patience) == SIGCHLD) {
        printf(" SIGCHLD code %d status %d", info.si_code, info.si_status);
        show_pid(info.si_pid);
    }
}

/* What `waitid` says without taking it. */
static void await(pid_t pid, int options) {
    siginfo_t info = {0};
    if (waitid(P_PID, pid, &info, options | WNOWAIT) == 0)
        printf(" {code %d status %d}", info.si_code, info.si_status);
    show_sigchld();
}

/* A child that ends at once, or waits for a signal. */
static void start(void) {
    int index = below(CHILDREN);
    if (children[index].is_there) {
        printf("there is a child %d", index);
        return;
    }
    int how = below(6), ends[2], ready[2];
    pipe2(ends, O_CLOEXEC);
    pipe2(ready, O_CLOEXEC);
    fflush(stdout);
    /* Signals wait until the child has set up what they do. */
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t child = fork();
    if (child == 0) {
        sigset_t none;
        sigemptyset(&none);
        close(ends[1]);
        for (int i = 0; i < CHILDREN; i++)
            if (children[i].is_there && children[i].leash >= 0)
                close(children[i].leash);
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        signal(SIGTERM, SIG_DFL), signal(SIGCHLD, SIG_DFL);
        signal(SIGUSR1, SIG_DFL), signal(SIGABRT, SIG_DFL);
        sigprocmask(SIG_SETMASK, &none, NULL);
        char byte = 0;
        write(ready[1], &byte, 1);
        close(ready[1]);
        switch (how) {
        case 0: _exit(7);
        case 1: _exit(256 + 3);
        case 2: kill(getpid(), SIGTERM); break;
        case 3: abort();
        default:
            /* Until a signal ends it, or the parent ends or lets it go. */
            while (read(ends[0], &byte, 1) < 0) {}
            _exit(9);
        }
        _exit(1);
    }
    char byte;
    close(ready[1]);
    read(ready[0], &byte, 1);
    close(ready[0]);
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(ends[0]);
    children[index].pid = child;
    children[index].is_there = 1;
    children[index].has_ended = how < 4;
    children[index].is_stopped = children[index].is_doomed = 0;
    children[index].leash = how < 4 ? -1 : ends[1];
    if (how < 4)
        close(ends[1]);
    printf("fork %d kind %d", index, how);
    success(child);
    if (how < 4)
        await(child, WEXITED);
}

/* Signals to a child whose effect is then waited for. */
static void signal_child(void) {
    int index;
    pid_t child = some_child(&index);
    if (!child)
        return start();
    int number = PICK(SIGSTOP, SIGSTOP, SIGCONT, SIGCONT, SIGKILL, SIGUSR1, 0, SIGWINCH);
    printf("kill(child %d, %d)", index, number);
    if (success(CALL(kill, child, number)) != 0 || children[index].has_ended)
        return;
    int is_stopped = children[index].is_stopped;
    if (number == SIGSTOP && !is_stopped) {
        children[index].is_stopped = 1;
        await(child, WSTOPPED);
    } else if (number == SIGKILL || number == SIGUSR1 && !is_stopped || number == SIGCONT && children[index].is_doomed) {
        children[index].has_ended = 1;
        await(child, WEXITED);
    } else if (number == SIGUSR1) {
        children[index].is_doomed = 1;
    } else if (number == SIGCONT && is_stopped) {
        children[index].is_stopped = 0;
        await(child, WCONTINUED);
    }
}

static void let_go(void) {
    int index;
    pid_t child = some_child(&index);
    if (!child || children[index].leash < 0)
        return start();
    printf("let child %d go", index);
    close(children[index].leash);
    children[index].leash = -1;
    if (children[index].is_stopped) {
        children[index].is_doomed = 1;
    } else if (!children[index].has_ended) {
        children[index].has_ended = 1;
        await(child, WEXITED);
    }
}

static void forget(pid_t pid) {
    for (int i = 0; i < CHILDREN; i++)
        if (children[i].pid == pid && children[i].is_there) {
            children[i].is_there = 0;
            if (children[i].leash >= 0)
                close(children[i].leash);
        }
}

static void wait_four(void) {
    int index, *status = (void *)scratch;
    pid_t child = some_child(&index);
    int id = chance(3) || !child ? PICK(-1, -1, 0, 4000000, -4000000, (int)0x80000000, -3999999) : child;
    int options = WNOHANG | PICK(0, 0, WUNTRACED, WCONTINUED, WUNTRACED | WCONTINUED, __WALL, __WCLONE, __WNOTHREAD, WEXITED,
                                 WNOWAIT, 0x100, 1 << 28);
    *status = 0x7777;
    void *into = pointer_or(status, 0), *usage = chance(2) ? NULL : pointer(scratch + 256);
    /* Whether any of several has ended is not known, unless all that could end are waited for. */
    if (id != child)
        printf("wait4(%d, ", id);
    else
        printf("wait4(child %d, ", index);
    /* A refused address still takes the child. */
    if (into != status)
        into = NULL;
    printf("%s, %x, %s)", kind_of(into), options, kind_of(usage));
    if (usage != NULL && kind_of(usage)[0] == 'b')
        usage = NULL;
    long pid = CALL(wait4, id, into, options, usage);
    if (pid > 0) {
        success(pid);
        show_pid(pid);
        if (into)
            printf(" status %x", *status);
        if (into == NULL || !WIFSTOPPED(*status) && !WIFCONTINUED(*status)) {
            siginfo_t info;
            int saved = waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT);
            if (saved != 0)
                forget(pid);
        }
    } else
        result(pid);
}

static void wait_id(void) {
    siginfo_t *info = (void *)scratch;
    memset(info, 0x77, sizeof *info);
    int index;
    pid_t child = some_child(&index);
    int kind = chance(5) || !child ? PICK(P_ALL, P_PGID, P_PIDFD, 4, -1, P_PID) : P_PID;
    long id = kind == P_PID ? child : PICK(0, -1, 1, 4000000);
    if (kind == P_PGID && chance(2))
        id = getpgrp();
    int options = (chance(10) ? 0 : WNOHANG) | PICK(WEXITED, WEXITED, WSTOPPED, WCONTINUED, WEXITED | WSTOPPED | WCONTINUED,
                                                   WEXITED | WNOWAIT, WSTOPPED | WNOWAIT, 0, 0x100, WNOWAIT, __WALL);
    if (options & (WEXITED | WSTOPPED | WCONTINUED))
        options |= WNOHANG;
    printf("waitid(%d, %s, %x)", kind, id == child && id ? "child" : id > 1 && id < 4000000 ? "group" : id ? "odd" : "0", options);
    long got = result(CALL(waitid, kind, id, info, options, NULL));
    if (got == 0) {
        printf(" signo %d", info->si_signo);
        if (info->si_signo == SIGCHLD) {
            printf(" code %d status %d", info->si_code, info->si_status);
            show_pid(info->si_pid);
            siginfo_t again;
            pid_t pid = info->si_pid;
            if (waitid(P_PID, pid, &again, WEXITED | WNOHANG | WNOWAIT) != 0)
                forget(pid);
        }
    }
}

static pid_t someone(char *name) {
    int index;
    pid_t child = some_child(&index);
    switch (below(9)) {
    case 0: return strcpy(name, "-1"), -1;
    case 1: return strcpy(name, "nobody"), 4000000;
    case 2:
    case 3: return strcpy(name, "self"), getpid();
    case 4: return strcpy(name, "0"), 0;
    case 5: return strcpy(name, "INT_MIN"), (int)0x80000000;
    default:
        if (child)
            return sprintf(name, "child %d", index), child;
        return strcpy(name, "0"), 0;
    }
}

static void groups(void) {
    char a[20], b[20];
    pid_t first = someone(a), second = someone(b);
    switch (below(6)) {
    case 0:
    case 1:
        printf("setpgid(%s, %s)", a, b);
        success(CALL(setpgid, first, second));
        break;
    case 2:
        printf("setsid()");
        success(CALL(setsid));
        break;
    case 3:
        printf("getsid(%s)", a);
        show_pid(success(CALL(getsid, first)));
        break;
    default: {
        printf("getpgid(%s)", a);
        long group = CALL(getpgid, first);
        success(group);
        show_pid(group);
    }
    }
}

static void attributes(void) {
    uint64_t *word = (void *)scratch;
    char *name = scratch + 64;
    *word = 0;
    memset(name, 0, 32);
    switch (below(16)) {
    case 0: {
        int number = PICK(0, 1, 9, 64, 65, -1);
        printf("PR_SET_PDEATHSIG %d", number);
        result(CALL(prctl, PR_SET_PDEATHSIG, number, 0, 0, 0));
        break;
    }
    case 1: {
        void *into = pointer(word);
        printf("PR_GET_PDEATHSIG %s", kind_of(into));
        result(CALL(prctl, PR_GET_PDEATHSIG, into, 0, 0, 0));
        printf(" %d", (int)*word);
        break;
    }
    case 2: {
        int value = PICK(0, 1, 2, 3, -1);
        printf("PR_SET_DUMPABLE %d", value);
        result(CALL(prctl, PR_SET_DUMPABLE, value, 0, 0, 0));
        printf(" then %d", (int)CALL(prctl, PR_GET_DUMPABLE, 0, 0, 0, 0));
        break;
    }
    case 3: {
        strcpy(name, below(2) ? "a" : "twenty characters....");
        void *from = pointer(name);
        printf("PR_SET_NAME %s", kind_of(from));
        result(CALL(prctl, PR_SET_NAME, from, 0, 0, 0));
        CALL(prctl, PR_GET_NAME, scratch + 256, 0, 0, 0);
        printf(" then %.16s", scratch + 256);
        break;
    }
    case 4: {
        long value = PICK(0, 1, 5, -1);
        printf("PR_SET_CHILD_SUBREAPER %ld", value);
        result(CALL(prctl, PR_SET_CHILD_SUBREAPER, value, 0, 0, 0));
        result(CALL(prctl, PR_GET_CHILD_SUBREAPER, word, 0, 0, 0));
        printf(" %d", (int)*word);
        break;
    }
    case 5: {
        long value = PICK(0, 1, 1, 2), extra = chance(4);
        printf("PR_SET_NO_NEW_PRIVS %ld %ld", value, extra);
        result(CALL(prctl, PR_SET_NO_NEW_PRIVS, value, extra, 0, 0));
        result(CALL(prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, extra));
        break;
    }
    case 6: {
        long value = PICK(0, 1, 100000, 1ll << 40);
        printf("PR_SET_TIMERSLACK %ld", value);
        result(CALL(prctl, PR_SET_TIMERSLACK, value, 0, 0, 0));
        result(CALL(prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0));
        break;
    }
    case 7: {
        long value = PICK(0, 1, 2, -1);
        printf("PR_SET_KEEPCAPS %ld", value);
        result(CALL(prctl, PR_SET_KEEPCAPS, value, 0, 0, 0));
        result(CALL(prctl, PR_GET_KEEPCAPS, 0, 0, 0, 0));
        break;
    }
    case 8: {
        long value = PICK(0, 1, 40, 41, 64, 1ll << 32, -1);
        printf("PR_CAPBSET_READ %ld", value);
        success(CALL(prctl, PR_CAPBSET_READ, value, 0, 0, 0));
        break;
    }
    case 9: {
        long value = PICK(999, -1, 0, 17, 60);
        printf("prctl(%ld)", value);
        result(CALL(prctl, value, 0, 0, 0, 0));
        break;
    }
    case 10: {
        long persona = PICK(0xffffffff, 0x40000, 0, 8, 0x123);
        printf("personality(%lx)", persona);
        result(CALL(personality, persona));
        CALL(personality, 0);
        break;
    }
    case 11: {
        void *into = pointer_or(scratch, 0);
        int who = PICK(0, -1, 1, 2, -2);
        printf("getrusage(%d, %s)", who, kind_of(into));
        result(CALL(getrusage, who, into));
        break;
    }
    case 12: {
        void *into = pointer(scratch);
        printf("times(%s)", kind_of(into));
        success(CALL(times, into));
        break;
    }
    case 13: {
        char who[20];
        pid_t tid = someone(who);
        void *head = pointer_or(word, 0), *len = pointer_or(word + 1, 0);
        if (!strncmp(who, "child", 5))
            tid = 0;
        printf("get_robust_list(%s, %s, %s)", tid ? who : "0", kind_of(head), kind_of(len));
        result(CALL(get_robust_list, tid, head, len));
        break;
    }
    case 14: {
        int command = PICK(-1, 3, 0x10000, 5);
        printf("membarrier(%x, 0)", command);
        result(CALL(membarrier, command, 0, 0));
        printf(" with flags");
        result(CALL(membarrier, 0, 1, 0));
        break;
    }
    default: {
        void *cpu = pointer(word), *node = pointer(word + 1);
        printf("getcpu(%s, %s)", kind_of(cpu), kind_of(node));
        result(CALL(getcpu, cpu, node, NULL));
    }
    }
}

static void limits(void) {
    struct rlimit *new = (void *)scratch, *old = (void *)(scratch + 64);
    *old = (struct rlimit){1, 1};
    char who[20];
    pid_t pid = someone(who);
    int resource = PICK(RLIMIT_CORE, RLIMIT_RSS, RLIMIT_MEMLOCK, RLIMIT_LOCKS, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_NICE,
                        RLIMIT_RTPRIO, RLIMIT_RTTIME, 16, -1);
    *new = (struct rlimit){PICK(0, 1, 10, 20, 50, 100, 200, -1), PICK(20, 50, 100, 200, 201, -1)};
    if (chance(2))
        *new = (struct rlimit){below(100), 100 + below(101)};
    unsigned long soft = new->rlim_cur, hard = new->rlim_max;
    void *in = pointer(chance(2) ? new : NULL), *out = pointer(old);
    if (chance(4)) {
        out = pointer_or(old, 0);
        printf("getrlimit(%d, %s)", resource, kind_of(out));
        success(CALL(getrlimit, resource, out));
    } else {
        printf("prlimit64(%s, %d, %s %ld %ld, %s)", who, resource, kind_of(in), soft, hard, kind_of(out));
        success(CALL(prlimit64, pid, resource, in, out));
    }
    if (out == old)
        printf(" %ld %ld", (long)old->rlim_cur, (long)old->rlim_max);
}

static void scheduling(void) {
    char who[20];
    pid_t tid = someone(who);
    if (!strncmp(who, "child", 5))
        tid = 0, strcpy(who, "0");
    int *word = (void *)scratch;
    *word = PICK(0, 0, 1, 99, 100, -1);
    int priority = *word;
    switch (below(12)) {
    case 0: {
        int policy = PICK(0, 1, 2, 3, 4, 5, 9, -1, 0x40000000, 0x40000003);
        void *in = pointer(word);
        printf("sched_setscheduler(%s, %x, %s %d)", who, policy, kind_of(in), priority);
        result(CALL(sched_setscheduler, tid, policy, in));
        break;
    }
    case 1:
        printf("sched_getscheduler(%s)", who);
        result(CALL(sched_getscheduler, tid));
        break;
    case 2: {
        void *in = pointer(word);
        printf("sched_setparam(%s, %s %d)", who, kind_of(in), priority);
        result(CALL(sched_setparam, tid, in));
        break;
    }
    case 3: {
        void *out = pointer(word);
        printf("sched_getparam(%s, %s)", who, kind_of(out));
        if (result(CALL(sched_getparam, tid, out)) == 0)
            printf(" %d", *word);
        break;
    }
    case 4: {
        int policy = PICK(0, 1, 2, 3, 4, 5, 6, 9, -1, 0x40000000);
        printf("sched_get_priority_max(%d)", policy);
        result(CALL(sched_get_priority_max, policy));
        result(CALL(sched_get_priority_min, policy));
        break;
    }
    case 5: {
        void *out = pointer_or(scratch, 0);
        printf("sched_rr_get_interval(%s, %s)", who, kind_of(out));
        success(CALL(sched_rr_get_interval, tid, out));
        break;
    }
    case 6: {
        unsigned len = PICK(0, 1, 4, 7, 8, 9, 12, 16, 128, 1024, 8192, -8);
        void *out = pointer_or(scratch, 0);
        printf("sched_getaffinity(%s, %u, %s)", who, len, kind_of(out));
        success(CALL(sched_getaffinity, tid, len, out));
        break;
    }
    case 7: {
        unsigned len = PICK(0, 1, 4, 8, 9, 128, 1024, 8192);
        memset(scratch, 0, 8192);
        switch (below(4)) {
        case 0: break;
        case 1: memset(scratch, 255, 8192); break;
        case 2: scratch[300] = 1; break;
        default: scratch[0] = 1;
        }
        void *in = pointer_or(scratch, 0);
        printf("sched_setaffinity(%s, %u %d %d, %s)", who, len, scratch[0], scratch[300], kind_of(in));
        result(CALL(sched_setaffinity, tid, len, in));
        break;
    }
    case 8: {
        int which = PICK(0, 0, 0, 1, 2, 3, -1);
        if (which)
            tid = 0;
        printf("getpriority(%d, %s)", which, tid ? who : "0");
        success(CALL(getpriority, which, which == 2 ? 4000000 : tid));
        break;
    }
    case 9: {
        int nice = PICK(-25, -1, 0, 1, 5, 19, 30);
        if (chance(4))
            nice = 0;
        printf("setpriority(0, %s, %d)", who, nice);
        result(CALL(setpriority, 0, tid, nice));
        printf(" then");
        result(CALL(getpriority, 0, 0));
        break;
    }
    case 10: {
        struct {
            uint32_t size, policy;
            uint64_t flags;
            int32_t nice;
            uint32_t priority;
            uint64_t rest[12];
        } *attr = (void *)scratch;
        memset(attr, 0, 4096);
        unsigned size = PICK(48, 48, 56, 47, 0, 64, 4096, 4097), flags = chance(8);
        void *out = pointer(attr);
        printf("sched_getattr(%s, %s, %u, %u)", who, kind_of(out), size, flags);
        if (result(CALL(sched_getattr, tid, out, size, flags)) == 0)
            printf(" policy %u flags %lx nice %d priority %u", attr->policy, (long)attr->flags, attr->nice, attr->priority);
        break;
    }
    default: {
        struct {
            uint32_t size, policy;
            uint64_t flags;
            int32_t nice;
            uint32_t priority;
            uint64_t rest[12];
        } *attr = (void *)scratch;
        memset(attr, 0, 4096);
        attr->size = PICK(48, 48, 48, 56, 47, 0, 64, 200);
        attr->policy = PICK(0, 0, 3, 5, 1, 2, 4, 9, -1);
        attr->flags = chance(4) ? PICK(1, 2, 0x10, 0x80) : 0;
        attr->nice = PICK(0, 1, 5, 19, 20, -1);
        attr->priority = PICK(0, 0, 1, 99);
        unsigned flags = chance(8);
        void *in = pointer(attr);
        printf("sched_setattr(%s, %s size %u policy %d flags %lx nice %d priority %u, %u)", who, kind_of(in), attr->size,
               attr->policy, (long)attr->flags, attr->nice, attr->priority, flags);
        result(CALL(sched_setattr, tid, in, flags));
    }
    }
}

/* Flags that contradict each other: no child comes of them. */
static void bad_clones(void) {
    uint64_t *args = (void *)scratch;
    memset(args, 0, 256);
    if (chance(3)) {
        unsigned long flags = PICK(CLONE_THREAD, CLONE_SIGHAND, CLONE_THREAD | CLONE_SIGHAND, CLONE_FS | CLONE_NEWNS | SIGCHLD,
                                   CLONE_THREAD | CLONE_VM);
        printf("clone(%lx)", flags);
        result(CALL(clone, flags, 0, 0, 0, 0));
        return;
    }
    args[0] = PICK(0, CLONE_THREAD, CLONE_SIGHAND, CLONE_DETACHED, 1ull << 40, SIGCHLD, CLONE_SIGHAND | 1ull << 32,
                   CLONE_PIDFD | CLONE_DETACHED);
    args[4] = PICK(SIGCHLD, 65, 0, 1ull << 33);
    args[5] = PICK(0, 4096);
    args[6] = args[5] ? 0 : PICK(0, 4096);
    long size = PICK(64, 88, 80, 63, 0, 4097, 96);
    if (size == 96)
        args[11] = 1;
    if (size >= 64 && size < 4097 && size != 96 && (args[0] == 0 || args[0] == SIGCHLD) && args[4] <= 64 && !args[5] && !args[6])
        size = 63;
    void *in = pointer(args);
    printf("clone3(%s flags %lx signal %lx stack %lx %lx, %ld)", kind_of(in), (long)args[0], (long)args[4], (long)args[5],
           (long)args[6], size);
    result(CALL(clone3, in, size));
}

/* A descriptor for a process. */
static void descriptors(void) {
    char who[20];
    pid_t pid = someone(who);
    int flags = chance(4) ? PICK(1, O_NONBLOCK, O_CLOEXEC, -1) : 0;
    printf("pidfd_open(%s, %x)", who, flags);
    long fd = success(CALL(pidfd_open, pid, flags));
    if (fd < 0)
        return;
    int number = PICK(0, SIGWINCH, 65, -1), flag = chance(6);
    if (!strcmp(who, "self")) {
        printf(" send(%d, %d)", number, flag);
        result(CALL(pidfd_send_signal, fd, number, NULL, flag));
    }
    siginfo_t info = {0};
    printf(" waitid");
    result(CALL(waitid, P_PIDFD, fd, &info, WEXITED | WNOHANG | WNOWAIT, NULL));
    printf(" code %d", info.si_code);
    if (info.si_code != 0) {
        /* What may be asked of who has ended depends on the version of Linux. */
        close(fd);
        return;
    }
    printf(" getfd");
    long copy = success(CALL(pidfd_getfd, fd, chance(3) ? 77 : 1, chance(8)));
    if (copy >= 0)
        close(copy);
    printf(" read");
    result(CALL(read, fd, scratch, 1));
    close(fd);
}

static void step(void) {
    switch (below(16)) {
    case 0:
    case 1: return start();
    case 2:
    case 3: return signal_child();
    case 4: return let_go();
    case 5:
    case 6: return wait_four();
    case 7:
    case 8: return wait_id();
    case 9: return groups();
    case 10: return attributes();
    case 11: return limits();
    case 12: return bad_clones();
    case 13: return descriptors();
    default: return scheduling();
    }
}
