/* POSIX message queues. */
#include "check.h"
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char name[64];

static void attributes(const char *what, mqd_t queue) {
    struct mq_attr attr;
    if (mq_getattr(queue, &attr) == -1)
        printf("%s: %s\n", what, errno_name(errno));
    else
        printf("%s: %s%ld of %ld, %ld bytes\n", what, attr.mq_flags & O_NONBLOCK ? "nonblocking, " : "", attr.mq_curmsgs,
               attr.mq_maxmsg, attr.mq_msgsize);
}

static void receive(const char *what, mqd_t queue) {
    char text[64] = "";
    unsigned priority = 0;
    long len = mq_receive(queue, text, sizeof text, &priority);
    if (len < 0)
        printf("%s: %s\n", what, errno_name(errno));
    else
        printf("%s: \"%.*s\" of priority %u\n", what, (int)len, text, priority);
}

static void look(const char *what, mqd_t queue) {
    struct pollfd one = {.fd = queue, .events = POLLIN | POLLOUT};
    poll(&one, 1, 0);
    printf("%s:%s%s\n", what, one.revents & POLLIN ? " IN" : "", one.revents & POLLOUT ? " OUT" : "");
}

static volatile int told;

static void tell(union sigval value) { told = value.sival_int; }

static void wait_until_told(const char *what, int value) {
    for (int i = 0; i < 5000 && told != value; i++)
        usleep(1000);
    holds(what, told == value);
}

/* A thread that the C library makes when a message comes. */
static void by_thread(mqd_t queue) {
    char text[64];
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = tell, .sigev_value.sival_int = 1};
    show("mq_notify by thread", mq_notify(queue, &event));
    show("mq_notify again", mq_notify(queue, &event));
    mq_send(queue, "wake", 4, 0);
    wait_until_told("a thread ran", 1);
    mq_receive(queue, text, sizeof text, NULL);
    event.sigev_value.sival_int = 2;
    show("mq_notify by thread", mq_notify(queue, &event));
    show("and taken back", mq_notify(queue, NULL));
    mq_send(queue, "wake", 4, 0);
    mq_receive(queue, text, sizeof text, NULL);
    event.sigev_value.sival_int = 3;
    show("mq_notify by thread", mq_notify(queue, &event));
    /* Closing any descriptor takes it back. */
    close(dup(queue));
    event.sigev_value.sival_int = 4;
    show("mq_notify by thread", mq_notify(queue, &event));
    mq_send(queue, "wake", 4, 0);
    wait_until_told("a thread ran", 4);
    mq_receive(queue, text, sizeof text, NULL);
    event.sigev_notify = SIGEV_NONE;
    show("mq_notify by nothing", mq_notify(queue, &event));
    show("mq_notify again", mq_notify(queue, &event));
    mq_send(queue, "wake", 4, 0);
    show("mq_notify after it came", mq_notify(queue, &event));
    mq_receive(queue, text, sizeof text, NULL);
    show("and taken back", mq_notify(queue, NULL));
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    snprintf(name, sizeof name, "/occlum-%d", getpid());
    show("not there", mq_open(name, O_RDWR));
    struct mq_attr wanted = {.mq_maxmsg = 3, .mq_msgsize = 64}, bad = {.mq_maxmsg = 0, .mq_msgsize = 64};
    show("no messages", mq_open(name, O_CREAT | O_RDWR, 0600, &bad));
    mqd_t queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &wanted);
    works("mq_open", queue);
    show("exclusive", mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &wanted));
    holds("closed by exec", fcntl(queue, F_GETFD) == FD_CLOEXEC);
    attributes("empty", queue);
    look("empty", queue);
    show("low", mq_send(queue, "low", 3, 1));
    show("high", mq_send(queue, "high", 4, 9));
    show("high again", mq_send(queue, "again", 5, 9));
    attributes("full", queue);
    look("full", queue);
    show("too long", mq_send(queue, (char[65]){0}, 65, 0));
    show("a priority too high", mq_send(queue, "x", 1, 32768));
    show("and a time that is nowhere", mq_timedsend(queue, "x", 1, 32768, (void *)8));
    struct timespec past = {1, 0}, wrong = {1, 1000000000};
    show("a time that is over", mq_timedsend(queue, "x", 1, 0, &past));
    show("not a time", mq_timedsend(queue, "x", 1, 0, &wrong));
    struct mq_attr nonblocking = {.mq_flags = O_NONBLOCK};
    show("mq_setattr", mq_setattr(queue, &nonblocking, NULL));
    show("no room", mq_send(queue, "x", 1, 0));
    char small[8];
    show("a buffer too small", mq_receive(queue, small, sizeof small, NULL));
    receive("first", queue);
    receive("second", queue);
    receive("third", queue);
    receive("none", queue);
    nonblocking.mq_flags = 0;
    mq_setattr(queue, &nonblocking, NULL);
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 20000000;
    if (soon.tv_nsec >= 1000000000)
        soon.tv_sec++, soon.tv_nsec -= 1000000000;
    char text[64];
    show("wait for none", mq_timedreceive(queue, text, sizeof text, NULL, &soon));

    mqd_t reader = mq_open(name, O_RDONLY);
    show("send to a reader", mq_send(reader, "x", 1, 0));
    mq_close(reader);

    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 100; i++) {
            snprintf(text, sizeof text, "message %d", i);
            if (mq_send(queue, text, strlen(text) + 1, 0) == -1)
                _exit(1);
        }
        _exit(0);
    }
    int in_order = 1;
    for (int i = 0; i < 100; i++) {
        char expected[64];
        snprintf(expected, sizeof expected, "message %d", i);
        in_order &= mq_receive(queue, text, sizeof text, NULL) > 0 && strcmp(text, expected) == 0;
    }
    holds("a hundred in order", in_order);
    int status;
    waitpid(child, &status, 0);
    printf("the sender ended with %d\n", WEXITSTATUS(status));

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42};
    show("mq_notify", mq_notify(queue, &event));
    show("mq_notify again", mq_notify(queue, &event));
    mq_send(queue, "wake", 4, 0);
    siginfo_t info;
    show("signal", sigwaitinfo(&set, &info) == SIGUSR1);
    holds("SI_MESGQ", info.si_code == SI_MESGQ && info.si_value.sival_int == 42 && info.si_pid == getpid());
    mq_send(queue, "more", 4, 0);
    show("no second signal", sigtimedwait(&set, &info, &(struct timespec){0, 10000000}));
    show("mq_notify after it came", mq_notify(queue, &event));
    show("and taken back", mq_notify(queue, NULL));

    mq_receive(queue, text, sizeof text, NULL);
    mq_receive(queue, text, sizeof text, NULL);
    by_thread(queue);
    mq_send(queue, "more", 4, 0);

    show("mq_unlink", mq_unlink(name));
    show("not there", mq_open(name, O_RDWR));
    receive("still usable", queue);
    show("not there to unlink", mq_unlink(name));
    show("not a queue", mq_send(1, "x", 1, 0));
    show("mq_close", mq_close(queue));
    show("mq_close again", mq_close(queue));
    return 0;
}
