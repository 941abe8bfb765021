/* Says which loopback ports it reaches, or what it does with those that it has.
     reach connect PORT...   connects to each, sends a byte and waits for it to come back
     reach serve ADDRESS:PORT...   sends back what it gets, until the end of standard input */
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static int connect_to(int port) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char byte = '.';
    if (connect(fd, (struct sockaddr *)&name, sizeof name))
        return -1;
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
        return -1;
    return close(fd);
}

static int listener(char *address) {
    char *port = strchr(address, ':');
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(atoi(port + 1))};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    *port = 0;
    inet_pton(AF_INET, address, &name.sin_addr);
    if (bind(fd, (struct sockaddr *)&name, sizeof name) || listen(fd, 8))
        perror(address);
    return fd;
}

int main(int argc, char **argv) {
    struct pollfd all[16] = {{.fd = 0, .events = POLLIN}};
    if (argc > 2 && !strcmp(argv[1], "connect")) {
        for (int i = 2; i < argc; i++)
            works("connect", connect_to(atoi(argv[i])));
        return 0;
    }
    for (int i = 2; i < argc && i < 16; i++)
        all[i - 1] = (struct pollfd){listener(argv[i]), POLLIN, 0};
    printf("serving\n");
    fflush(stdout);
    for (;;) {
        char byte;
        poll(all, argc - 1, -1);
        if (all[0].revents && read(0, &byte, 1) == 0)
            return 0;
        for (int i = 1; i < argc - 1; i++) {
            if (!all[i].revents)
                continue;
            int fd = accept(all[i].fd, NULL, NULL);
            if (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) != 1)
                perror("write");
            close(fd);
        }
    }
}
