/* Many processes: a thousand at once, then ten thousand one after the other, and nothing stays behind. After each step it says so
   and waits for a line, so that whoever started it can look at what the host sees. With an argument it is one of the many. */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* What the system says of processes, descriptors and committed memory. */
static int processes(void) {
    DIR *folder = opendir("/proc");
    int count = 0;
    for (struct dirent *entry; (entry = readdir(folder));)
        count += entry->d_name[0] >= '0' && entry->d_name[0] <= '9';
    closedir(folder);
    return count;
}

static int descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void step(const char *what) {
    char line[16];
    printf("%s\n", what);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        exit(1);
}

static pid_t start(const char *program, char *argument, posix_spawn_file_actions_t *actions) {
    char *arguments[] = {(char *)program, argument, NULL};
    pid_t pid;
    int error = posix_spawn(&pid, program, actions, NULL, arguments, environ);
    if (error) {
        printf("posix_spawn: %s\n", errno_name(error));
        return -1;
    }
    return pid;
}

static int reap(void) {
    int status, good = 0;
    while (wait(&status) > 0)
        good += status == 0;
    return good;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        /* One of the many: ends when its standard input does. */
        char byte;
        return argc == 2 && read(0, &byte, 1) != 0;
    }
    const char *self = argv[1];
    int alive = atoi(argv[2]), in_a_row = atoi(argv[3]), wait_for[2];
    int before = processes(), open_before = descriptors();
    for (int i = 0; i < 50; i++)
        start(self, NULL, NULL), reap();
    step("warm");

    posix_spawn_file_actions_t actions;
    if (pipe2(wait_for, O_CLOEXEC))
        return 1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, wait_for[0], 0);
    int started = 0;
    for (int i = 0; i < alive; i++)
        started += start(self, "wait", &actions) > 0;
    show("started", started);
    holds("all are there", processes() >= started);
    step("alive");
    close(wait_for[1]);
    show("ended well", reap());
    close(wait_for[0]);
    show("processes left", processes() - before);
    show("descriptors left", descriptors() - open_before);
    step("gone");

    int good = 0;
    for (int i = 0; i < in_a_row; i++)
        if (start(self, NULL, NULL) > 0)
            good += reap();
    show("in a row", good);
    show("processes left", processes() - before);
    show("descriptors left", descriptors() - open_before);
    step("done");
    return 0;
}
