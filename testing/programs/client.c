/* Connects to a socket file, asks and reads the answer: `client PATH`. */
#include "check.h"
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char answer[100];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(name.sun_path, argv[argc - 1], sizeof name.sun_path - 1);
    if (works("connect", connect(fd, (struct sockaddr *)&name, sizeof name)))
        return 1;
    show("write", write(fd, "question", 8));
    show("read", read(fd, answer, sizeof answer));
    return 0;
}
