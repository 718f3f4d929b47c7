/* Word statistics and Collatz chains over HTTP/1.1: one thread for each keep-alive connection. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HEAD = 16 << 10, MAX_BODY = 1 << 20, MAX_DEPTH = 64, MAX_CONNECTIONS = 256 };
enum { BROKER_S = 5, MAX_NAME = 256 };
enum { MAX_LIMIT = 1000000, TOP_WORDS = 5, IDLE_S = 60, LINGER_S = 1, LINGER_BYTES = 4 << 20, DRAIN_S = 2 };

typedef enum { OK, BAD_REQUEST, NOT_FOUND, NOT_ALLOWED, NO_LENGTH, TOO_LARGE, HEAD_TOO_LARGE, FAILED, ACCEPTED,
               NO_BROKER, STATUSES } Status;
static const struct { int code; const char *reason, *outcome; } STATUS[STATUSES] = {
    {200, "OK", "SUCCESS"}, {400, "Bad Request", "CLIENT_ERROR"}, {404, "Not Found", "CLIENT_ERROR"},
    {405, "Method Not Allowed", "CLIENT_ERROR"}, {411, "Length Required", "CLIENT_ERROR"},
    {413, "Content Too Large", "CLIENT_ERROR"}, {431, "Request Header Fields Too Large", "CLIENT_ERROR"},
    {500, "Internal Server Error", "SERVER_ERROR"}, {202, "Accepted", "SUCCESS"},
    {503, "Service Unavailable", "SERVER_ERROR"}};

typedef enum { HEALTHZ, METRICS, WORD_STATS, COLLATZ, ENQUEUE, UNKNOWN, ROUTES } Route;
static const struct { const char *path, *method; } ROUTE[ROUTES] = {
    {"/healthz", "GET"}, {"/metrics", "GET"}, {"/invoke/word-stats", "POST"}, {"/invoke/collatz", "POST"},
    {"/invoke/word-stats-async", "POST"}, {"UNKNOWN", ""}};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the four below */
static pthread_cond_t all_closed = PTHREAD_COND_INITIALIZER;
static struct { unsigned long count; double seconds; } served[ROUTES][STATUSES];
static int connections[MAX_CONNECTIONS]; /* open sockets; 0 is a free slot */
static int open_connections;
static atomic_bool stopping;
static double started_at_s;

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* JSON: strings are decoded in place. Outside ASCII a code point only separates words, so one byte stands for it. */
typedef struct { char *at, *end; } Json;
typedef struct { enum { OTHER, STRING, INTEGER, OBJECT } kind; char *text; size_t length; long number; } Value;

static bool take(Json *json, char wanted) {
    while (json->at < json->end && memchr(" \t\r\n", *json->at, 4)) json->at++;
    if (json->at == json->end || *json->at != wanted) return false;
    json->at++;
    return true;
}

static bool parse_escape(Json *json, unsigned char *decoded) {
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    if (json->at == json->end) return false;
    char name = *json->at++;
    if (name == 'u') {
        char digits[5] = {0};
        memcpy(digits, json->at, json->end - json->at < 4 ? (size_t)(json->end - json->at) : 4);
        if (strspn(digits, "0123456789abcdefABCDEF") != 4) return false;
        unsigned long code = strtoul(digits, NULL, 16);
        *decoded = code < 0x80 ? (unsigned char)code : 0x80;
        json->at += 4;
        return true;
    }
    const char *found = memchr(names, name, sizeof names - 1);
    if (found) *decoded = (unsigned char)bytes[found - names];
    return found != NULL;
}

static bool parse_string(Json *json, Value *value) { /* its opening quote is taken */
    char *write = json->at;
    *value = (Value){.kind = STRING, .text = write};
    while (json->at < json->end && *json->at != '"') {
        unsigned char byte = (unsigned char)*json->at++;
        if (byte < 0x20 || (byte == '\\' && !parse_escape(json, &byte))) return false;
        *write++ = (char)byte;
    }
    value->length = (size_t)(write - value->text);
    return json->at < json->end && *json->at++ == '"';
}

static size_t take_digits(Json *json, long *number) { /* a number of any length stops growing past the greatest limit */
    char *first = json->at;
    for (*number = 0; json->at < json->end && isdigit((unsigned char)*json->at); json->at++)
        if (*number <= MAX_LIMIT) *number = *number * 10 + (*json->at - '0');
    return (size_t)(json->at - first);
}

static bool parse_number(Json *json, Value *value) {
    long ignored;
    bool negative = json->at < json->end && *json->at == '-';
    char *first = json->at += negative;
    size_t digits = take_digits(json, &value->number);
    if (digits == 0 || (digits > 1 && *first == '0')) return false;
    if (negative) value->number = -value->number;
    value->kind = INTEGER;
    if (json->at < json->end && *json->at == '.') {
        json->at++;
        value->kind = OTHER;
        if (!take_digits(json, &ignored)) return false;
    }
    if (json->at < json->end && (*json->at == 'e' || *json->at == 'E')) {
        json->at++;
        value->kind = OTHER;
        if (json->at < json->end && (*json->at == '+' || *json->at == '-')) json->at++;
        if (!take_digits(json, &ignored)) return false;
    }
    return true;
}

/* Parses any value; when it is an object, its member called `name` (or the last of them) goes into *member. */
static bool parse_value(Json *json, int depth, const char *name, Value *value, Value *member) {
    *value = (Value){.kind = OTHER};
    if (take(json, '"')) return parse_string(json, value);
    bool is_object = take(json, '{');
    if (is_object || take(json, '[')) {
        char close = is_object ? '}' : ']';
        if (is_object) value->kind = OBJECT;
        if (depth == MAX_DEPTH) return false;
        if (take(json, close)) return true;
        do {
            Value key = {0}, item, nested;
            if (is_object && !(take(json, '"') && parse_string(json, &key) && take(json, ':'))) return false;
            if (!parse_value(json, depth + 1, name, &item, &nested)) return false;
            if (is_object && key.length == strlen(name) && !memcmp(key.text, name, key.length)) *member = item;
        } while (take(json, ','));
        return take(json, close);
    }
    for (const char *const *word = (const char *const[]){"true", "false", "null", NULL}; *word; word++) {
        size_t length = strlen(*word);
        if ((size_t)(json->end - json->at) < length || memcmp(json->at, *word, length)) continue;
        json->at += length;
        return true;
    }
    return parse_number(json, value);
}

static bool parse_member(char *body, size_t length, const char *name, Value *member) {
    Json json = {body, body + length};
    Value whole;
    *member = (Value){.kind = OTHER};
    if (!parse_value(&json, 0, name, &whole, member) || whole.kind != OBJECT) return false;
    return !take(&json, '\0') && json.at == json.end; /* take() skips trailing white space; NUL is not JSON */
}

/* The two functions. */
typedef struct { const char *text; size_t length; } Word;

static int compare_words(const void *left, const void *right) {
    const Word *a = left, *b = right;
    int order = memcmp(a->text, b->text, a->length < b->length ? a->length : b->length);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static Status word_stats(char *body, size_t length, FILE *out) {
    struct { Word word; size_t count; } top[TOP_WORDS] = {0};
    Word longest = {"", 0}, *words;
    size_t total = 0, unique = 0;
    Value text;
    if (!parse_member(body, length, "text", &text) || text.kind != STRING) {
        fputs("{\"error\":\"the body must be a JSON object with a string text\"}", out);
        return BAD_REQUEST;
    }
    if (!(words = malloc((text.length / 2 + 1) * sizeof *words))) return FAILED;
    for (size_t at = 0; at < text.length; at++) {
        size_t first = at;
        for (; at < text.length && isalnum((unsigned char)text.text[at]); at++)
            text.text[at] = (char)tolower((unsigned char)text.text[at]);
        if (at > first) words[total++] = (Word){text.text + first, at - first};
    }
    qsort(words, total, sizeof *words, compare_words);
    for (size_t first = 0, next; first < total; first = next, unique++) { /* in order: a tie keeps the earlier word */
        for (next = first + 1; next < total && !compare_words(&words[first], &words[next]);) next++;
        if (words[first].length > longest.length) longest = words[first];
        size_t place = TOP_WORDS;
        while (place > 0 && top[place - 1].count < next - first) place--;
        if (place == TOP_WORDS) continue;
        memmove(&top[place + 1], &top[place], (TOP_WORDS - 1 - place) * sizeof *top);
        top[place].word = words[first];
        top[place].count = next - first;
    }
    fprintf(out, "{\"words\":%zu,\"unique\":%zu,", total, unique);
    fprintf(out, "\"longest\":\"%.*s\",\"top\":[", (int)longest.length, longest.text);
    for (size_t i = 0; i < TOP_WORDS && top[i].count; i++)
        fprintf(out, "%s[\"%.*s\",%zu]", i ? "," : "", (int)top[i].word.length, top[i].word.text, top[i].count);
    fputs("]}", out);
    free(words);
    return OK;
}

static Status collatz(char *body, size_t length, FILE *out) {
    Value limit;
    long best_start = 1, best_length = 1;
    bool found = parse_member(body, length, "limit", &limit) && limit.kind == INTEGER;
    if (!found || limit.number < 2 || limit.number > MAX_LIMIT) {
        fprintf(out, "{\"error\":\"the body must be a JSON object with an integer limit from 2 to %d\"}", MAX_LIMIT);
        return BAD_REQUEST;
    }
    for (long start = 2; start < limit.number; start++) {
        long chain = 1;
        for (uint64_t n = (uint64_t)start; n != 1; chain++) n = n % 2 ? 3 * n + 1 : n / 2;
        if (chain > best_length) best_start = start, best_length = chain;
    }
    fprintf(out, "{\"limit\":%ld,\"start\":%ld,\"length\":%ld}", limit.number, best_start, best_length);
    return OK;
}

static void write_metrics(FILE *out) {
    long ignored, pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm && fscanf(statm, "%ld %ld", &ignored, &pages) != 2) pages = 0;
    if (statm) fclose(statm);
    fputs("# TYPE process_resident_memory_bytes gauge\n", out);
    fprintf(out, "process_resident_memory_bytes %ld\n", pages * sysconf(_SC_PAGESIZE));
    fputs("# TYPE process_uptime_seconds gauge\n", out);
    fprintf(out, "process_uptime_seconds %.3f\n", now_s() - started_at_s);
    fputs("# TYPE http_server_requests_seconds summary\n", out);
    pthread_mutex_lock(&lock);
    for (int route = 0; route < ROUTES; route++)
        for (int status = 0; status < STATUSES; status++) {
            if (!served[route][status].count) continue;
            char labels[160];
            snprintf(labels, sizeof labels, "{outcome=\"%s\",status=\"%d\",uri=\"%s\"}",
                     STATUS[status].outcome, STATUS[status].code, ROUTE[route].path);
            fprintf(out, "http_server_requests_seconds_count%s %lu\n", labels, served[route][status].count);
            fprintf(out, "http_server_requests_seconds_sum%s %.9f\n", labels, served[route][status].seconds);
        }
    pthread_mutex_unlock(&lock);
}

/* Asking somebody else over HTTP: the broker, and this service for its own health check. */
static bool send_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t sent = send(fd, bytes, length, 0);
        if (sent <= 0) return false;
        bytes += sent;
        length -= (size_t)sent;
    }
    return true;
}

static int dial(const char *host, const char *port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    struct timeval patience = {.tv_sec = BROKER_S};
    if (getaddrinfo(host, port, &hints, &found)) return -1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen)) close(fd), fd = -1;
    freeaddrinfo(found);
    return fd;
}

static bool answers(int fd, const char *request, size_t length, const char *wanted) { /* 200, and `wanted` in it */
    char answer[4096];
    size_t have = 0;
    ssize_t got = 1;
    if (!send_all(fd, request, length)) return false;
    for (; got > 0 && have < sizeof answer - 1; have += got > 0 ? (size_t)got : 0)
        got = recv(fd, answer + have, sizeof answer - 1 - have, 0);
    answer[have] = '\0';
    return !strncmp(answer, "HTTP/1.1 200 ", 13) && strstr(answer, wanted);
}

/* The queue: a task is published by the broker's management API, so that plain HTTP is enough. */
static void write_base64(FILE *out, const char *text, size_t length) {
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t at = 0; at < length; at += 3) {
        uint32_t bits = 0;
        for (size_t i = 0; i < 3; i++) bits = bits << 8 | (at + i < length ? (unsigned char)text[at + i] : 0);
        for (size_t i = 0; i < 4; i++) fputc(at + i > length ? '=' : DIGITS[bits >> (18 - 6 * i) & 63], out);
    }
}

static bool publish(const char *body, size_t length) {
    const char *api = getenv("STAGING_BROKER_API"), *user = getenv("STAGING_BROKER_USER");
    const char *password = getenv("STAGING_BROKER_PASSWORD"), *queue = getenv("STAGING_BROKER_QUEUE");
    char host[MAX_NAME], port[8], login[2 * MAX_NAME];
    if (!api || !user || !password || !queue || sscanf(api, "http://%255[^:/]:%7[0-9]", host, port) != 2) return false;
    char *message = NULL, *request = NULL;
    size_t message_length = 0, request_length = 0;
    FILE *out = open_memstream(&message, &message_length);
    fprintf(out, "{\"properties\":{\"delivery_mode\":2},\"routing_key\":\"%s\",\"payload_encoding\":\"base64\","
                 "\"payload\":\"", queue);
    write_base64(out, body, length);
    fputs("\"}", out);
    fclose(out);
    int login_length = snprintf(login, sizeof login, "%s:%s", user, password);
    out = open_memstream(&request, &request_length);
    fprintf(out, "POST /api/exchanges/%%2F/amq.default/publish HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n"
                 "Content-Type: application/json\r\nContent-Length: %zu\r\nAuthorization: Basic ",
            host, message_length);
    write_base64(out, login, (size_t)login_length);
    fprintf(out, "\r\n\r\n%s", message);
    fclose(out);
    int fd = (size_t)login_length < sizeof login ? dial(host, port) : -1;
    bool done = fd >= 0 && answers(fd, request, request_length, "\"routed\":true");
    if (fd >= 0) close(fd);
    free(message);
    free(request);
    return done;
}

static Status enqueue(char *body, size_t length, FILE *out) {
    Value text;
    char *copy = malloc(length + 1); /* what is read is decoded in place, and the broker gets it as it came */
    if (!copy) return FAILED;
    memcpy(copy, body, length);
    bool good = parse_member(copy, length, "text", &text) && text.kind == STRING;
    free(copy);
    if (!good) {
        fputs("{\"error\":\"the body must be a JSON object with a string text\"}", out);
        return BAD_REQUEST;
    }
    if (!getenv("STAGING_BROKER_API")) {
        fputs("{\"error\":\"there is no broker: STAGING_BROKER_API is not set\"}", out);
        return NO_BROKER;
    }
    if (!publish(body, length)) {
        fputs("{\"error\":\"the broker did not take it\"}", out);
        return NO_BROKER;
    }
    fputs("{\"queued\":true}", out);
    return ACCEPTED;
}

/* HTTP. */
typedef struct { Status status; Route route; size_t length; bool close, head_only, expects_continue; } Request;

static void parse_head(char *head, Request *request) {
    char *rest = NULL, *word = NULL, *line = strtok_r(head, "\r\n", &rest), *version = line ? strrchr(line, ' ') : NULL;
    bool has_length = false;
    *request = (Request){.status = BAD_REQUEST, .route = UNKNOWN, .close = true};
    if (!version || (strcmp(version, " HTTP/1.1") && strcmp(version, " HTTP/1.0"))) return;
    *version = '\0';
    const char *method = strtok_r(line, " ", &word), *target = method ? strtok_r(NULL, "? ", &word) : NULL;
    if (!target) return;
    request->status = OK;
    request->close = !strcmp(version + 1, "HTTP/1.0");
    request->head_only = !strcmp(method, "HEAD");
    for (int route = 0; route < UNKNOWN; route++)
        if (!strcmp(target, ROUTE[route].path)) request->route = (Route)route;
    if (request->route == UNKNOWN) request->status = NOT_FOUND;
    else if (strcmp(method, ROUTE[request->route].method)) request->status = NOT_ALLOWED;
    while ((line = strtok_r(NULL, "\r\n", &rest))) {
        char *value = strchr(line, ':');
        if (value) for (*value++ = '\0'; *value == ' ' || *value == '\t';) value++;
        if (!value) request->status = BAD_REQUEST, request->close = true;
        else if (!strcasecmp(line, "Content-Length")) {
            size_t digits = strspn(value, "0123456789"), spaces = strspn(value + digits, " \t");
            size_t length = strtoull(value, NULL, 10);
            if (digits == 0 || value[digits + spaces] || (has_length && length != request->length))
                request->status = BAD_REQUEST, request->close = true;
            has_length = true;
            request->length = length;
        } else if (!strcasecmp(line, "Transfer-Encoding")) request->status = NO_LENGTH, request->close = true;
        else if (!strcasecmp(line, "Connection") && strcasestr(value, "close")) request->close = true;
        else if (!strcasecmp(line, "Expect")) request->expects_continue = !strcasecmp(value, "100-continue");
    }
    if (request->length > MAX_BODY) request->status = TOO_LARGE, request->close = true;
}

static bool respond(int fd, Request *request, char *body, double began_s) {
    char *text = NULL, head[512], allow[64] = "";
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out) return false;
    if (request->status == OK) switch (request->route) {
        case HEALTHZ: fputs("{\"status\":\"UP\"}", out); break;
        case METRICS: write_metrics(out); break;
        case WORD_STATS: request->status = word_stats(body, request->length, out); break;
        case ENQUEUE: request->status = enqueue(body, request->length, out); break;
        default: request->status = collatz(body, request->length, out);
    }
    if (request->status != OK && ftell(out) == 0) fprintf(out, "{\"error\":\"%s\"}", STATUS[request->status].reason);
    fclose(out);
    pthread_mutex_lock(&lock); /* counted before it is sent: whoever holds an answer finds it in the metrics */
    served[request->route][request->status].count++;
    served[request->route][request->status].seconds += now_s() - began_s;
    pthread_mutex_unlock(&lock);
    request->close |= atomic_load(&stopping);
    if (request->status == NOT_ALLOWED) snprintf(allow, sizeof allow, "Allow: %s\r\n", ROUTE[request->route].method);
    int head_length = snprintf(
        head, sizeof head, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s\r\n",
        STATUS[request->status].code, STATUS[request->status].reason,
        request->route == METRICS ? "text/plain; version=0.0.4; charset=utf-8" : "application/json", length, allow,
        request->close ? "Connection: close\r\n" : "");
    bool sent = send_all(fd, head, (size_t)head_length) && (request->head_only || send_all(fd, text, length));
    free(text);
    return sent && !request->close;
}

typedef struct { int fd; size_t used; char bytes[MAX_HEAD + 1]; } Connection;

static bool serve_request(Connection *connection) { /* false ends the connection */
    char *end, *body;
    while (!(end = memmem(connection->bytes, connection->used, "\r\n\r\n", 4))) {
        Request too_large = {.status = HEAD_TOO_LARGE, .route = UNKNOWN, .close = true};
        if (connection->used == MAX_HEAD) return respond(connection->fd, &too_large, NULL, now_s());
        ssize_t got = recv(connection->fd, connection->bytes + connection->used, MAX_HEAD - connection->used, 0);
        if (got <= 0) return false;
        connection->used += (size_t)got;
    }
    double began_s = now_s();
    Request request;
    *end = '\0';
    parse_head(connection->bytes, &request);
    if (request.close && request.status != OK) return respond(connection->fd, &request, NULL, began_s);
    if (request.expects_continue && !send_all(connection->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25)) return false;
    if (!(body = malloc(request.length + 1))) return false;
    char *rest = end + 4, *buffered = connection->bytes + connection->used;
    size_t have = (size_t)(buffered - rest) < request.length ? (size_t)(buffered - rest) : request.length;
    memcpy(body, rest, have);
    connection->used = (size_t)(buffered - rest) - have; /* a pipelined request stays for the next round */
    memmove(connection->bytes, rest + have, connection->used);
    ssize_t got = 1;
    for (; got > 0 && have < request.length; have += got > 0 ? (size_t)got : 0)
        got = recv(connection->fd, body + have, request.length - have, 0);
    bool more = got > 0 && respond(connection->fd, &request, body, began_s);
    free(body);
    return more;
}

static void *serve_connection(void *slot) {
    int *fd = slot;
    Connection connection = {.fd = *fd};
    while (serve_request(&connection)) continue;
    /* Closing with unread input would reset the connection and could destroy the answer: say goodbye, then drain. */
    setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = LINGER_S}, sizeof(struct timeval));
    shutdown(*fd, SHUT_WR);
    ssize_t got = 1;
    for (size_t drained = 0; got > 0 && drained < LINGER_BYTES; drained += (size_t)got)
        got = recv(*fd, connection.bytes, MAX_HEAD, 0);
    pthread_mutex_lock(&lock);
    close(*fd);
    *fd = 0;
    if (--open_connections == 0) pthread_cond_signal(&all_closed);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void start_connection(int fd) {
    pthread_t thread;
    int slot = 0;
    struct timeval idle = {.tv_sec = IDLE_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof idle);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    pthread_mutex_lock(&lock);
    while (slot < MAX_CONNECTIONS && connections[slot]) slot++;
    if (slot < MAX_CONNECTIONS) connections[slot] = fd;
    if (slot == MAX_CONNECTIONS) close(fd);
    else if (pthread_create(&thread, NULL, serve_connection, &connections[slot])) close(fd), connections[slot] = 0;
    else pthread_detach(thread), open_connections++;
    pthread_mutex_unlock(&lock);
}

static int listen_on(const char *host, const char *port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    if (!host || !port || getaddrinfo(host, port, &hints, &found)) return -1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    bool ready = fd >= 0 && !bind(fd, found->ai_addr, found->ai_addrlen) && !listen(fd, SOMAXCONN);
    freeaddrinfo(found);
    return ready ? fd : -1;
}

static void stop_connections(void) { /* each thread finishes the request it has read, then finds its input at an end */
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += DRAIN_S;
    atomic_store(&stopping, true);
    pthread_mutex_lock(&lock);
    for (int slot = 0; slot < MAX_CONNECTIONS; slot++)
        if (connections[slot]) shutdown(connections[slot], SHUT_RD);
    while (open_connections && !pthread_cond_timedwait(&all_closed, &lock, &deadline)) continue;
    pthread_mutex_unlock(&lock);
}

static int check_health(void) { /* for a container that has no other program */
    static const char REQUEST[] = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    int fd = getenv("STAGING_PORT") ? dial("127.0.0.1", getenv("STAGING_PORT")) : -1;
    return fd >= 0 && answers(fd, REQUEST, sizeof REQUEST - 1, "UP") ? 0 : 1;
}

int main(int count, char **arguments) {
    if (count > 1 && !strcmp(arguments[1], "--health")) return check_health();
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stop, NULL); /* threads inherit it: signals arrive only through the descriptor */
    signal(SIGPIPE, SIG_IGN);
    started_at_s = now_s();
    int listener = listen_on(getenv("STAGING_HOST"), getenv("STAGING_PORT"));
    if (listener < 0) {
        fprintf(stderr, "cannot listen on STAGING_HOST and STAGING_PORT: %s\n", strerror(errno));
        return 1;
    }
    int signals = signalfd(-1, &stop, SFD_CLOEXEC);
    struct pollfd ready[] = {{.fd = listener, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    while (poll(ready, 2, -1) >= 0 && !ready[1].revents) {
        int fd = ready[0].revents ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (fd >= 0) start_connection(fd);
    }
    close(listener);
    stop_connections();
    return 0;
}
