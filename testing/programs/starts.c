/* Starts itself, one after the other: `starts COUNT SELF`. Without arguments it ends. */
#include "check.h"
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

int main(int count, char **arguments) {
    if (count < 3)
        return 0;
    int good = 0, rounds = atoi(arguments[1]);
    for (int i = 0; i < rounds; i++) {
        char *its[] = {arguments[2], NULL};
        pid_t pid;
        int status = -1;
        if (posix_spawn(&pid, arguments[2], NULL, NULL, its, environ) == 0)
            waitpid(pid, &status, 0);
        good += status == 0;
    }
    show("ended well", good);
    return 0;
}
