/* The contract suite's service in a container. What it does is the word in PROBE; probe.py is the same for processes. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1 << 20)
extern char **environ;
static const char *act;

static int is(const char *name) { return strcmp(act, name) == 0; }

static void say(const char *line) {
    puts(line);
    fflush(stdout);
}

static void leave(int number) {
    (void)number;
    (void)!write(1, "bye\n", 4);
    _exit(0);
}

static void eat(size_t bytes) {
    volatile char *food = malloc(bytes);
    for (size_t at = 0; at < bytes; at += 4096) food[at] = 1;
    free((void *)food);
}

static void starve_a_child(void) {
    if (fork() == 0) {
        eat(256 * (size_t)MIB);
        _exit(0);
    }
    wait(NULL);
}

static void serve(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("STAGING_PORT")))};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    char reply[256], request[4096];
    const char *cell = getenv("STAGING_CELL");
    inet_pton(AF_INET, getenv("STAGING_HOST"), &at.sin_addr);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 8)) _exit(9);
    int length = snprintf(reply, sizeof reply, "HTTP/1.0 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(cell), cell);
    say("up");
    for (;;) {
        int caller = accept(listener, NULL, NULL);
        if (caller < 0) continue;
        if (read(caller, request, sizeof request) > 0) (void)!write(caller, reply, length);
        close(caller);
    }
}

int main(void) {
    act = getenv("PROBE");
    signal(SIGTERM, is("deaf") ? SIG_IGN : leave);
    signal(SIGUSR1, leave);
    if (is("crash")) *(volatile int *)0 = 1;
    if (is("exit")) {
        fputs("last words\n", stderr);
        return 3;
    }
    if (is("environment")) {
        for (char **variable = environ; *variable; variable++) say(*variable);
        return 0;
    }
    if (is("talk")) {
        for (int line = 0; line < 300000; line++) printf("%d\n", line);
        return 0;
    }
    if (is("starve")) eat(256 * (size_t)MIB);
    if (is("starve-child") || is("starve-child-exit")) starve_a_child();
    if (is("starve-child-exit")) return 3;
    if (is("hungry")) eat(64 * (size_t)MIB);
    serve();
}
