/* What an epoll instance has found, in the order of what is watched: the random_*.c programs print it. */
#include <sys/epoll.h>

static int compare_events(const void *a, const void *b) {
    const struct epoll_event *x = a, *y = b;
    return x->data.u64 != y->data.u64 ? x->data.u64 < y->data.u64 ? -1 : 1 : x->events < y->events ? -1 : x->events > y->events;
}

static void show_events(int instance) {
    struct epoll_event *events = (void *)scratch;
    long found = result(CALL(epoll_wait, instance, events, 64, 0));
    if (found > 0)
        qsort(events, found, sizeof *events, compare_events);
    for (long i = 0; i < found; i++)
        printf(" %d:%x", (int)events[i].data.u64, events[i].events);
}
