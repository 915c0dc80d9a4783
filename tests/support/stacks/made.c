// Accepts a connection of its own from code that it makes while it runs, and prints the inode number of the accepted socket.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__x86_64__)
// mov $43, %eax (accept); syscall; ret
static const unsigned char code[] = {0xb8, 43, 0, 0, 0, 0x0f, 0x05, 0xc3};
#else
// mov x8, #202 (accept); svc #0; ret
static const unsigned int code[] = {0xd2801948, 0xd4000001, 0xd65f03c0};
#endif

int main(void) {
    // The map names it there.
    void *page = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memcpy(page, code, sizeof code);
    __builtin___clear_cache(page, (char *)page + sizeof code);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&address, length) || listen(listener, 1) || getsockname(listener, (void *)&address, &length) ||
        connect(client, (void *)&address, length)) {
        perror("made");
        return 1;
    }
    int (*accepts)(int, void *, void *) = (int (*)(int, void *, void *))page;
    struct stat accepted;
    if (fstat(accepts(listener, 0, 0), &accepted)) {
        perror("made");
        return 1;
    }
    printf("%lu\n", (unsigned long)accepted.st_ino);
    fflush(stdout);
    pause();
    return 0;
}
