/* pause: sleeps until it is told to end. Orlop's pods have no such process; the tests of Kubernetes run it as a container, where,
   being process 1, it would not hear a SIGTERM that it has no handler for. */
#include <signal.h>
#include <unistd.h>

static void end(int signal) {
    (void)signal;
    _exit(0);
}

int main(void) {
    signal(SIGTERM, end);
    signal(SIGINT, end);
    for (;;) pause();
}
