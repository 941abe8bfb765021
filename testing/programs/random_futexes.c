/* Random calls about futexes, with one other thread that waits where it is told to. */
#include "random.h"
#include <linux/futex.h>
#include <pthread.h>
#include <time.h>

#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13
#endif

#define WORDS 6
/* Words that are compared, and locks. */
static uint32_t words[WORDS], locks[WORDS];
static int tid;

/* The other thread: what it is to do, and what came of it. */
static struct {
    pthread_t thread;
    volatile int tid;
    int is_started;
    int operation;
    uint32_t *word, *second;
    uint32_t bits;
    volatile int done;
    long result;
    int error;
} helper;

static void setup(void) {
    tid = CALL(gettid);
}

static void finish(void) {}

static void *help(void *argument) {
    (void)argument;
    helper.tid = syscall(SYS_gettid);
    helper.result = syscall(SYS_futex, helper.word, helper.operation, *helper.word, NULL, helper.second, helper.bits);
    helper.error = errno;
    if (helper.result == 0 && helper.operation == FUTEX_LOCK_PI)
        syscall(SYS_futex, helper.word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    if (helper.result == 0 && helper.operation == FUTEX_WAIT_REQUEUE_PI)
        syscall(SYS_futex, helper.second, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
    __atomic_store_n(&helper.done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void print_word(const char *name, uint32_t value) {
    printf(" %s %s%s%s", name, value & FUTEX_WAITERS ? "waiters|" : "", value & FUTEX_OWNER_DIED ? "died|" : "",
           (value & FUTEX_TID_MASK) == (uint32_t)tid ? "self"
           : helper.is_started && (value & FUTEX_TID_MASK) == (uint32_t)helper.tid ? "helper"
           : (value & FUTEX_TID_MASK) == 0 ? "0" : "other");
}

static struct timespec *timeout(const char **name) {
    static struct timespec time;
    switch (below(9)) {
    case 0: return *name = "bad", (void *)8;
    case 1: return *name = "negative", time = (struct timespec){-1, 0}, &time;
    case 2: return *name = "too many ns", time = (struct timespec){0, 1000000000}, &time;
    default: return *name = "short", time = (struct timespec){0, 1000}, &time;
    }
}

static uint32_t *some_word(const char **name) {
    static char text[20];
    int index = below(WORDS);
    switch (below(16)) {
    case 0: return *name = "null", NULL;
    case 1: return *name = "odd", (uint32_t *)((char *)words + 2);
    case 2: return *name = "closed", (uint32_t *)closed;
    case 3: return *name = "kernel", (uint32_t *)0xffff800000000000;
    default: return sprintf(text, "word %d", index), *name = text, words + index;
    }
}

static void calls(void) {
    static char second_name[20];
    const char *name, *other, *when;
    uint32_t *word = some_word(&name);
    char first_name[20];
    strcpy(first_name, name);
    uint32_t *second = some_word(&other);
    struct timespec *time = timeout(&when);
    strcpy(second_name, other);
    int flags = PICK(0, FUTEX_PRIVATE_FLAG, FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME, FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    uint32_t value = chance(3) ? 5 : 0, bits = PICK(0, 1, -1, -1);
    switch (below(9)) {
    case 0:
        printf("wait(%s, %x, %u, %s)", first_name, flags, value, when);
        result(CALL(futex, word, FUTEX_WAIT | flags, value, time));
        break;
    case 1:
        printf("wait_bitset(%s, %x, %u, %s, %x)", first_name, flags, value, when, bits);
        result(CALL(futex, word, FUTEX_WAIT_BITSET | flags, value, time, NULL, bits));
        break;
    case 2: {
        int count = PICK(0, 1, 5, -1);
        printf("wake(%s, %x, %d)", first_name, flags, count);
        result(CALL(futex, word, FUTEX_WAKE | flags, count));
        break;
    }
    case 3:
        printf("wake_bitset(%s, %x, 1, %x)", first_name, flags, bits);
        result(CALL(futex, word, FUTEX_WAKE_BITSET | flags, 1, NULL, NULL, bits));
        break;
    case 4: {
        int wake = PICK(0, 1, -1), move = PICK(0, 1, -1);
        int operation = PICK(FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_CMP_REQUEUE_PI);
        printf("requeue %d(%s, %x, %d, %d, %s, %u)", operation, first_name, flags, wake, move, second_name, value);
        result(CALL(futex, word, operation | flags, wake, (long)move, second, value));
        break;
    }
    case 5: {
        uint32_t code = (uint32_t)PICK(FUTEX_OP(FUTEX_OP_SET, 0, FUTEX_OP_CMP_EQ, 0), FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_GT, 1),
                                       FUTEX_OP(5, 0, 0, 0), FUTEX_OP(FUTEX_OP_OR, 0, 7, 0), 0xf0000000);
        printf("wake_op(%s, %x, %s, %x)", first_name, flags, second_name, code);
        result(CALL(futex, word, FUTEX_WAKE_OP | flags, 1, 1, second, code));
        words[0] = words[1] = words[2] = words[3] = words[4] = words[5] = 0;
        break;
    }
    case 6: {
        int operation = PICK(2, 14, 100, 127);
        printf("operation %d(%s, %x)", operation, first_name, flags);
        result(CALL(futex, word, operation | flags, 0, NULL, NULL, 0));
        break;
    }
    case 7: {
        struct {
            uint64_t value, address;
            uint32_t flags, reserved;
        } *rows = (void *)scratch;
        int count = PICK(0, 1, 2, 2, 128, 129), clock = PICK(CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_MONOTONIC, 7);
        for (int i = 0; i < 130; i++)
            rows[i].value = 0, rows[i].address = (uint64_t)(words + i % WORDS), rows[i].flags = 2, rows[i].reserved = 0;
        rows[0].address = (uint64_t)word;
        rows[1].flags = PICK(2, 2, 2, 130, 0, 1, 3);
        rows[1].reserved = chance(9);
        rows[0].value = chance(4) ? 5 : chance(9) ? 1ull << 32 : 0;
        int odd = chance(9);
        void *at = pointer(rows);
        printf("waitv(%s: %s %lx, flags %u reserved %u, %d, %d, %s, %d)", kind_of(at), first_name, (long)rows[0].value,
               rows[1].flags, rows[1].reserved, count, odd, when, clock);
        result(CALL(futex_waitv, at, count, odd, time, clock));
        break;
    }
    default: {
        unsigned shape = PICK(2, 130, 2, 0, 3, 256);
        uint64_t mask = PICK(-1ll & 0xffffffff, 1, 0, 1ll << 32), wanted = chance(3) ? 5 : 0;
        int clock = PICK(CLOCK_MONOTONIC, CLOCK_REALTIME, 7);
        if (chance(2)) {
            printf("futex_wake(%s, %lx, 1, %u)", first_name, (long)mask, shape);
            result(syscall(454, word, mask, 1, shape));
        } else {
            printf("futex_wait(%s, %lu, %lx, %u, %s, %d)", first_name, (long)wanted, (long)mask, shape, when, clock);
            result(syscall(455, word, wanted, mask, shape, time, clock));
        }
    }
    }
}

/* Locks that nobody else wants. */
static void lock_calls(void) {
    const char *name, *when, *state;
    struct timespec *time = timeout(&when);
    int index = below(WORDS);
    uint32_t *lock = some_word(&name);
    if (lock >= words && lock < words + WORDS)
        lock = locks + (lock - words);
    int is_good = lock >= locks && lock < locks + WORDS && (uint64_t)lock % 4 == 0;
    switch (is_good ? below(8) : 9) {
    case 0: *lock = 0, state = "0"; break;
    case 1: *lock = tid, state = "self"; break;
    case 2: *lock = FUTEX_OWNER_DIED, state = "died"; break;
    case 3: *lock = 4000000, state = "nobody"; break;
    case 4: *lock = tid | FUTEX_WAITERS, state = "self|waiters"; break;
    default: state = "as it is";
    }
    int flags = PICK(0, FUTEX_PRIVATE_FLAG, FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME);
    int operation = PICK(FUTEX_LOCK_PI, FUTEX_UNLOCK_PI, FUTEX_TRYLOCK_PI, FUTEX_LOCK_PI2);
    printf("lock operation %d(%s %s, %x, %s)", operation, name, state, flags, when);
    result(CALL(futex, lock, operation | flags, 0, time));
    if (is_good)
        print_word("then", *lock);
}


static void start_helper(int operation, uint32_t *word, uint32_t *second, uint32_t bits) {
    helper.operation = operation, helper.word = word, helper.second = second, helper.bits = bits;
    helper.done = 0, helper.tid = 0, helper.is_started = 1;
    pthread_create(&helper.thread, NULL, help, NULL);
}

static void finish_helper(void) {
    pthread_join(helper.thread, NULL);
    helper.is_started = 0;
    printf(" helper");
    errno = helper.error;
    result(helper.result);
}

/* What another thread waits for, moved and woken. A requeue of nothing but the waiter tells that it waits. */
static void with_waiter(void) {
    uint32_t *from = words + below(3), *to = words + 3 + below(3);
    uint32_t bits = chance(2) ? 6 : ~0u;
    printf("a waiter with bits %x", bits);
    start_helper(FUTEX_WAIT_BITSET, from, NULL, bits);
    while (CALL(futex, from, FUTEX_CMP_REQUEUE, 0, 1, to, *from) != 1)
        usleep(200);
    printf(" wake of the old word");
    result(CALL(futex, from, FUTEX_WAKE, 1));
    printf(" wake by other bits");
    result(CALL(futex, to, FUTEX_WAKE_BITSET, 1, NULL, NULL, 1));
    if (!chance(3) || bits == 6) {
        printf(" wake");
        result(CALL(futex, to, FUTEX_WAKE, 1));
    }
    if (bits != 6 && CALL(futex, to, FUTEX_WAKE, 1) > 0)
        printf(" still there");
    finish_helper();
}

/* A lock that another thread waits for is handed over. */
static void with_locker(void) {
    uint32_t *lock = locks + below(WORDS);
    *lock = tid;
    printf("a locker");
    start_helper(FUTEX_LOCK_PI, lock, NULL, 0);
    while (!(__atomic_load_n(lock, __ATOMIC_SEQ_CST) & FUTEX_WAITERS))
        usleep(200);
    printf(" wake");
    result(CALL(futex, lock, FUTEX_WAKE, 1));
    printf(" trylock");
    result(CALL(futex, lock, FUTEX_TRYLOCK_PI, 0));
    printf(" unlock");
    result(CALL(futex, lock, FUTEX_UNLOCK_PI, 0));
    finish_helper();
    print_word("then", *lock);
}

static void with_requeue_to_lock(void) {
    uint32_t *from = words + below(WORDS), *lock = locks + below(WORDS);
    int is_free = chance(2);
    *lock = is_free ? 0 : tid;
    printf("a waiter for %s lock", is_free ? "a free" : "my");
    start_helper(FUTEX_WAIT_REQUEUE_PI, from, lock, 0);
    long moved;
    while ((moved = CALL(futex, from, FUTEX_CMP_REQUEUE_PI, 1, 0, lock, *from)) == 0)
        usleep(200);
    printf(" moved");
    result(moved);
    if (!is_free) {
        print_word("then", *lock);
        printf(" unlock");
        result(CALL(futex, lock, FUTEX_UNLOCK_PI, 0));
    }
    finish_helper();
    print_word("then", *lock);
}

/* Several threads that wait for one word: how many are woken and moved. */
#define MOST_WAITERS 4
static struct {
    pthread_t thread;
    uint32_t *word;
    long result;
} waiters[MOST_WAITERS];

static void *wait_for_word(void *argument) {
    int index = (int)(intptr_t)argument;
    waiters[index].result = syscall(SYS_futex, waiters[index].word, FUTEX_WAIT, *waiters[index].word, NULL, NULL, 0);
    return NULL;
}

/* What vectors wait for. */
static void *wait_for_vector(void *argument) {
    int index = (int)(intptr_t)argument;
    struct {
        uint64_t value, address;
        uint32_t flags, reserved;
    } rows[3] = {{0, (uint64_t)(locks), 2, 0}, {*waiters[index].word, (uint64_t)waiters[index].word, 2, 0}, {0, (uint64_t)(locks + 1), 2, 0}};
    waiters[index].result = syscall(SYS_futex_waitv, rows, 3, 0, NULL, CLOCK_MONOTONIC);
    return NULL;
}

static void with_waiters(void) {
    int count = 1 + below(MOST_WAITERS), is_vector = chance(4);
    uint32_t *from = words, *to = words + 1, *last = words + 2;
    memset(words, 0, sizeof words);
    locks[0] = locks[1] = 0;
    printf("%d %s", count, is_vector ? "vectors" : "waiters");
    for (int i = 0; i < count; i++) {
        waiters[i].word = from;
        pthread_create(&waiters[i].thread, NULL, is_vector ? wait_for_vector : wait_for_word, (void *)(intptr_t)i);
    }
    if (is_vector) {
        /* These are not moved. */
        for (int woken = 0; woken < count;) {
            long now = CALL(futex, from, FUTEX_WAKE, count);
            woken += now > 0 ? now : 0;
            usleep(100);
        }
        to = from;
    } else {
        for (int moved = 0; moved < count; usleep(100)) {
            long now = CALL(futex, from, FUTEX_CMP_REQUEUE, 0, (long)count, to, 0);
            moved += now > 0 ? now : 0;
        }
        int wake = below(3), move = below(4);
        switch (below(3)) {
        case 0:
            printf(" requeue %d %d", wake, move);
            result(CALL(futex, to, FUTEX_REQUEUE, wake, (long)move, last, 0));
            break;
        case 1:
            printf(" cmp_requeue %d %d", wake, move);
            result(CALL(futex, to, FUTEX_CMP_REQUEUE, wake, (long)move, last, chance(3) ? 5 : 0));
            break;
        default: {
            /* The second word is changed, and those who wait for it are woken if what it was compares so. */
            int compare = below(6), operation = below(5), by = below(3);
            *to = below(3);
            printf(" wake_op %d of %u by %d if %d", operation, *to, by, compare);
            result(CALL(futex, last, FUTEX_WAKE_OP, 1, (long)wake, to, FUTEX_OP(operation, by, compare, 1)));
            printf(" then %u", *to);
        }
        }
        printf(" left");
        result(CALL(futex, to, FUTEX_WAKE, MOST_WAITERS));
        result(CALL(futex, last, FUTEX_WAKE, MOST_WAITERS));
    }
    for (int i = 0; i < count; i++) {
        pthread_join(waiters[i].thread, NULL);
        printf(" %ld", waiters[i].result);
    }
    memset(words, 0, sizeof words);
}

static void *dies(void *argument) {
    syscall(SYS_futex, argument, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    while (!(__atomic_load_n((uint32_t *)argument, __ATOMIC_SEQ_CST) & FUTEX_WAITERS))
        usleep(200);
    return NULL;
}

/* The owner of a lock ends with it. */
static void with_death(void) {
    uint32_t *lock = locks + below(WORDS);
    *lock = 0;
    printf("an owner that ends");
    pthread_t thread;
    pthread_create(&thread, NULL, dies, lock);
    while (!__atomic_load_n(lock, __ATOMIC_SEQ_CST))
        usleep(200);
    printf(" lock");
    result(CALL(futex, lock, FUTEX_LOCK_PI, 0, NULL));
    pthread_join(thread, NULL);
    print_word("then", *lock);
    printf(" unlock");
    result(CALL(futex, lock, FUTEX_UNLOCK_PI, 0));
    print_word("then", *lock);
}

static void step(void) {
    switch (below(20)) {
    case 0: return with_waiter();
    case 1: return with_locker();
    case 2: return with_requeue_to_lock();
    case 3: return with_death();
    case 4: return with_waiters();
    case 5:
    case 6:
    case 7:
    case 8: return lock_calls();
    default: return calls();
    }
}
