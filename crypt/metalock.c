/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/metalock.h"

#include "common/cleanup.h"
#include "common/deadline.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define PAUSE_MS 50u

/* The last holder unlinks the file: what was locked must still be what the name says. */
static bool still_named(const struct metalock *l)
{
    struct stat held, named;

    return fstat(l->fd, &held) == 0 &&
           fstatat(l->dir_fd, l->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

void metalock_release(struct metalock *l)
{
    /* as libcryptsetup: unlinked only by who is alone with it */
    if (l->fd >= 0 && flock(l->fd, LOCK_EX | LOCK_NB) == 0 && still_named(l))
        (void)unlinkat(l->dir_fd, l->name, 0);
    cleanup_close(&l->fd);
    cleanup_close(&l->dir_fd);
}

/* 1: held, 0: somebody else has it, or had it a moment ago. */
static int try_take(struct metalock *l, struct error *err)
{
    AUTO_CLOSE int fd = openat(l->dir_fd, l->name, O_CREAT | O_NOFOLLOW | O_RDWR | O_CLOEXEC, 0700);

    if (fd < 0)
        return error_errno(err, errno, "open the metadata lock '%s'", l->name);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK || errno == EINTR
                   ? 0
                   : error_errno(err, errno, "take the metadata lock '%s'", l->name);
    l->fd = fd;
    if (!still_named(l)) {
        l->fd = -1;
        return 0;
    }
    (void)TAKE_FD(fd);
    return 1;
}

int metalock_take(const char *dir, dev_t dev, uint64_t deadline, struct metalock *ret,
                  struct error *err)
{
    AUTO_METALOCK struct metalock l = METALOCK_INIT;
    int r;

    (void)snprintf(l.name, sizeof(l.name), "L_%u:%u", major(dev), minor(dev));
    l.dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (l.dir_fd < 0)
        return error_errno(err, errno, "open '%s'", dir);
    while ((r = try_take(&l, err)) == 0) {
        if (deadline_left(deadline) < PAUSE_MS)
            return error_set(
                err, ERR_ABORTED,
                "another program holds the LUKS2 metadata lock of device %u:%u (%s/%s)", major(dev),
                minor(dev), dir, l.name);
        sleep_ms(PAUSE_MS);
    }
    if (r < 0)
        return -1;
    *ret = l;
    l = (struct metalock)METALOCK_INIT;
    return 0;
}
