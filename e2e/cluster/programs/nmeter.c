/* nmeter: of busybox's program of that name only what the tests of Kubernetes use, `nmeter -d0 %3t`: the time with milliseconds. */
#include <stdio.h>
#include <time.h>

int main(void) {
    struct timespec now;
    struct tm parts;
    char text[16];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(text, sizeof text, "%H:%M:%S", &parts);
    printf("%s.%03ld\n", text, now.tv_nsec / 1000000);
    return 0;
}
