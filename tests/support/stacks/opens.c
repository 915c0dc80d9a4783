/* Opens a connection in each way (or in one, as its argument says), once it is told to, and prints of each a line of JSON: the socket's inode, the line that opened it, and where the
   functions of this program that are on the stack go on, by backtrace(3), as the file's symbols have it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FRAMES 64
/* A call that is the last of its function would take the place of it. */
#define LAST __asm__ volatile("")

extern char __executable_start, etext;

static struct sockaddr_in place;
static int listener;

static int of_program(struct dl_phdr_info *info, size_t size, void *bias) {
    (void)size;
    *(uintptr_t *)bias = info->dlpi_addr;
    return 1; /* The first is the program. */
}

static void __attribute__((noipa)) say(const char *way, int fd, int line) {
    void *frames[FRAMES];
    int count = backtrace(frames, FRAMES);
    struct stat stat;
    uintptr_t bias = 0;
    const char *comma = "";
    if (fd < 0 || fstat(fd, &stat)) {
        perror(way);
        exit(1);
    }
    dl_iterate_phdr(of_program, &bias);
    flockfile(stdout);
    printf("{\"way\":\"%s\",\"inode\":%llu,\"line\":%d,\"callers\":[", way, (unsigned long long)stat.st_ino, line);
    /* The first is this function, the second is who calls it and opened the socket: by another instruction. */
    for (int frame = 2; frame < count; frame++) {
        if ((char *)frames[frame] >= &__executable_start && (char *)frames[frame] < &etext) {
            printf("%s%llu", comma, (unsigned long long)((uintptr_t)frames[frame] - bias));
            comma = ",";
        }
    }
    printf("]}\n");
    fflush(stdout);
    funlockfile(stdout);
}

static void __attribute__((noipa)) guilty_connect(const char *way) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int failed = connect(fd, (struct sockaddr *)&place, sizeof place), line = __LINE__;
    say(way, failed ? -1 : fd, line);
    LAST;
}

static void __attribute__((noipa)) guilty_accept(const char *way) {
    /* Registers that a function must give back are in use, and the stack is: there is something to unwind. */
    volatile char room[300];
    room[0] = way[0];
    int fd = accept(listener, NULL, NULL), line = __LINE__;
    say(room[0] ? way : "", fd, line);
    LAST;
}

static void __attribute__((noipa)) aligned_accept4(const char *way) {
    /* A frame of its own alignment is found by an expression, or by another register than the two usual ones. */
    volatile char room[256] __attribute__((aligned(64)));
    room[0] = way[0];
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), line = __LINE__;
    say(room[0] ? way : "", fd, line);
    LAST;
}

static void __attribute__((noipa)) deep(const char *way, int depth) {
    volatile char room[64];
    room[0] = way[0];
    if (depth == 0)
        guilty_accept(way);
    else
        deep(way, depth - 1);
    if (!room[0])
        exit(1);
}

static void __attribute__((noipa)) handler(int signal) {
    guilty_accept("accept_in_a_handler");
    if (signal != SIGUSR1)
        exit(1);
}

static void *in_a_thread(void *nothing) {
    guilty_connect("connect_in_a_thread");
    guilty_accept("accept_in_a_thread");
    return nothing;
}

#ifdef __x86_64__
/* Code that is no file's, as a compiler at run time makes it, which calls what it is given; and the map of it for perf(1). */
static void by_made_code(void (*call)(const char *), const char *way) {
    static const unsigned char code[] = {
        0x48, 0x89, 0xf8,       /* mov %rdi,%rax */
        0x48, 0x89, 0xf7,       /* mov %rsi,%rdi */
        0x48, 0x83, 0xec, 0x08, /* sub $8,%rsp */
        0xff, 0xd0,             /* call *%rax */
        0x48, 0x83, 0xc4, 0x08, /* add $8,%rsp */
        0xc3,                   /* ret */
    };
    void *place = mmap(NULL, sizeof code, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void (*made)(void (*)(const char *), const char *);
    char name[64];
    FILE *map;
    if (place == MAP_FAILED)
        exit(1);
    memcpy(place, code, sizeof code);
    memcpy(&made, &place, sizeof made);
    snprintf(name, sizeof name, "/tmp/perf-%d.map", (int)getpid());
    map = fopen(name, "w");
    if (!map)
        exit(1);
    fprintf(map, "%llx %zx made while it ran\n", (unsigned long long)(uintptr_t)place, sizeof code);
    fclose(map);
    made(call, way);
}
#endif

int main(int count, char **arguments) {
    const char *how = count > 1 ? arguments[1] : "";
    pthread_t thread;
    socklen_t size = sizeof place;
    if (getchar() == EOF)
        return 1;
    place.sin_family = AF_INET;
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&place, sizeof place) || listen(listener, 16) ||
        getsockname(listener, (struct sockaddr *)&place, &size)) {
        perror("listen");
        return 1;
    }
    guilty_connect("connect");
#ifdef __x86_64__
    if (!strcmp(how, "made_code")) {
        by_made_code(guilty_accept, "accept");
        puts("{}");
        fflush(stdout);
        return getchar() != EOF;
    }
#endif
    if (!strcmp(how, "handler")) {
        signal(SIGUSR1, handler);
        raise(SIGUSR1);
        puts("{}");
        fflush(stdout);
        return getchar() != EOF;
    }
    if (!strcmp(how, "too_deep")) {
        deep("deep", 1000);
        puts("{}");
        fflush(stdout);
        return getchar() != EOF;
    }
    guilty_accept("accept");
    guilty_connect("connect_before_accept4");
    aligned_accept4("accept4");
    guilty_connect("connect_before_deep");
    deep("deep", 20);
    if (pthread_create(&thread, NULL, in_a_thread, NULL))
        return 1;
    pthread_join(thread, NULL);
    puts("{}");
    fflush(stdout);
    /* The sockets stay open until nobody wants them any more. */
    while (getchar() != EOF)
        ;
    return 0;
}
