/* pause: sleeps until it is killed. Orlop's pods have no such process; the tests of Kubernetes run it as a container. */
#include <unistd.h>

int main(void) {
    for (;;) pause();
}
