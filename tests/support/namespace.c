/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/support/namespace.h"

#include "common/cleanup.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define DEPTH_MAX 128 /* of a chroot */

static int make_private(void)
{
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

/* From a working directory that lies outside the root, ".." leads to the namespace's own root. */
static int make_private_from_outside(void)
{
    for (int i = 0; i < DEPTH_MAX; i++)
        if (chdir("..") < 0)
            return -1;
    return chroot(".") < 0 ? -1 : make_private();
}

/* A chroot's "/" is no mount, so nothing can be said of it. A second chroot lets us out; then back
 * in again. */
static int make_private_in_chroot(void)
{
    AUTO_CLOSE int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSE int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (root < 0 || here < 0 || fchdir(root) < 0 || chroot("/dev") < 0 ||
        make_private_from_outside() < 0)
        return -1;
    return fchdir(root) < 0 || chroot(".") < 0 || fchdir(here) < 0 ? -1 : 0;
}

int namespace_enter(void)
{
    if (unshare(CLONE_NEWNS) < 0)
        return -1;
    if (make_private() == 0)
        return 0;
    return errno == EINVAL ? make_private_in_chroot() : -1;
}

int namespace_enter_tmpfs(const char *path, const char *options)
{
    return namespace_enter() < 0 || mount("tmpfs", path, "tmpfs", 0, options) < 0
               ? -1
               : setenv("TMPDIR", path, 1);
}

bool namespace_possible(void)
{
    static int answer = -1;
    int status = 0;

    if (answer < 0) {
        pid_t child = fork();

        if (child == 0)
            _exit(namespace_enter() < 0 ? 1 : 0);
        answer = child > 0 && waitpid(child, &status, 0) == child && status == 0;
    }
    return answer == 1;
}
