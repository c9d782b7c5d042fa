/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/support/tmpdir.h"

#include "common/cleanup.h"

#include <err.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

struct tmpdir tmpdir_make(void)
{
    struct tmpdir t = { .fd = -1 };
    const char *base = getenv("TMPDIR");
    char made[256], *real = NULL;

    if (snprintf(made, sizeof(made), "%s/coffer-test.XXXXXX", base != NULL ? base : "/tmp") >=
        (int)sizeof(made))
        errx(1, "TMPDIR is too long");
    if (mkdtemp(made) == NULL)
        err(1, "make directory %s", made);
    real = realpath(made, NULL);
    if (real == NULL || strlen(real) >= sizeof(t.path))
        err(1, "real path of %s", made);
    (void)snprintf(t.path, sizeof(t.path), "%s", real);
    free(real);
    t.fd = open(t.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t.fd < 0)
        err(1, "open %s", t.path);
    return t;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void tmpdir_remove(struct tmpdir *t)
{
    if (t->fd < 0)
        return;
    (void)close(t->fd);
    t->fd = -1;
    (void)nftw(t->path, remove_one, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

const char *tmpdir_path(const struct tmpdir *t, const char *name)
{
    static _Thread_local char ring[4][PATH_MAX];
    static _Thread_local unsigned int next;
    char *buf = ring[next++ % 4];

    (void)snprintf(buf, PATH_MAX, "%s/%s", t->path, name);
    return buf;
}

void tmpdir_write(const struct tmpdir *t, const char *name, const void *data, size_t len)
{
    AUTO_CLOSE int fd = openat(t->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, data, len) != (ssize_t)len)
        err(1, "write %s/%s", t->path, name);
}

char *tmpdir_read(const struct tmpdir *t, const char *name)
{
    AUTO_CLOSE int fd = openat(t->fd, name, O_RDONLY | O_CLOEXEC);
    size_t len = 0, cap = 65536;
    AUTO_FREE char *text = NULL;
    ssize_t n;

    if (fd < 0)
        return NULL;
    text = calloc(1, cap + 1);
    if (text == NULL)
        err(1, "read %s", name);
    while (len < cap && (n = read(fd, text + len, cap - len)) > 0)
        len += (size_t)n;
    return TAKE_PTR(text);
}
