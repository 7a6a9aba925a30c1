/* nonewprivs: set-user-id root in its image; says whether that had effect. The tests of Kubernetes read the line. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
    printf("Effective uid: %d\n", (int)geteuid());
    return 0;
}
