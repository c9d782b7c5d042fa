/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/filesystem.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_FD 3

static void log_line(void *ctx, const char *line)
{
    if (line[0] != '\0')
        log_info("a file system tool wrote", KV("tool", (const char *)ctx), KV("line", line));
}

/* The last line of standard output that holds anything; plain text, since it goes into an error. */
void filesystem_keep_output(struct proc_result *r)
{
    const char *text = strbuf_text(&r->output);

    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        size_t n = len < sizeof(r->last_line) ? len : sizeof(r->last_line) - 1;

        for (size_t i = 0; i < n; i++)
            r->last_line[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
        if (n > 0)
            r->last_line[n] = '\0';
        text += len + (text[len] == '\n' ? 1 : 0);
    }
}

int filesystem_run(const char *const *argv, const char *package, int lock_fd, uint64_t limit_ms,
                   struct proc_result *r, struct error *err)
{
    static const char *const env[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL };
    const struct proc_fd fds[] = { { .from = lock_fd, .to = LOCK_FD } };
    const struct proc_spec spec = { .argv = argv,
                                    .env = env,
                                    .fds = fds,
                                    .n_fds = ARRAY_SIZE(fds),
                                    .max_output = KIB(64),
                                    .outlives_us = true,
                                    .limit_ms = limit_ms,
                                    .on_line = log_line,
                                    .ctx = (void *)(uintptr_t)argv[0] };

    if (access(argv[0], X_OK) < 0)
        return error_set(err, ERR_PRECONDITION, "'%s' can't be run: install %s", argv[0], package);
    if (proc_run(&spec, r, err) < 0)
        return -1;
    if (r->last_line[0] == '\0')
        filesystem_keep_output(r);
    return 0;
}

int filesystem_run_ok(const char *const *argv, const char *package, int lock_fd, uint64_t limit_ms,
                      struct error *err)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = -1 };

    if (filesystem_run(argv, package, lock_fd, limit_ms, &r, err) < 0)
        return -1;
    if (r.exit_code != 0)
        return error_set(err, ERR_INTERNAL, "%s failed (exit %d, signal %d): %s",
                         strrchr(argv[0], '/') + 1, r.exit_code, r.signal, r.last_line);
    return 0;
}

int filesystem_read(int fd, void *buf, size_t len, uint64_t offset, struct error *err)
{
    ssize_t n = pread(fd, buf, len, (off_t)offset);

    if (n != (ssize_t)len)
        return error_errno(err, n < 0 ? errno : EIO, "read the superblock");
    return 0;
}

/* Not BLKGETSIZE64: this works for an image file as well. */
static int device_bytes(const struct fs_device *d, uint64_t *ret, struct error *err)
{
    off_t end = lseek(d->fd, 0, SEEK_END);

    if (end < 0)
        return error_errno(err, errno, "size of '%s'", d->path);
    *ret = (uint64_t)end;
    return 0;
}

int filesystem_fits(const struct fs_device *d, uint64_t bytes, struct error *err)
{
    uint64_t have = 0;

    if (device_bytes(d, &have, err) < 0)
        return -1;
    if (bytes <= have)
        return 0;
    return error_set(err, ERR_DATA_LOSS, "the file system is %llu bytes, its device only %llu",
                     (unsigned long long)bytes, (unsigned long long)have);
}

int filesystem_plain_device(int mount_fd, dev_t *ret, struct error *err)
{
    struct stat st;

    if (fstat(mount_fd, &st) < 0)
        return error_errno(err, errno, "stat the mount");
    *ret = st.st_dev;
    return 0;
}

int filesystem_verify(const struct filesystem *fs, int mount_fd, dev_t dev, struct error *err)
{
    dev_t found = 0;
    /* what fsmount gives is a mere path */
    AUTO_CLOSE int fd = openat(mount_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return error_errno(err, errno, "open the mount");
    if (fs->device(fd, &found, err) < 0)
        return -1;
    if (found != dev)
        return error_set(err, ERR_DATA_LOSS, "what was mounted lies on another device");
    return 0;
}

int filesystem_grow(const struct filesystem *fs, const struct fs_device *d, dev_t dev,
                    const char *path, bool *ret_grown, struct error *err)
{
    AUTO_CLOSE int mount_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    uint64_t have = 0, want = 0;

    if (mount_fd < 0)
        return error_errno(err, errno, "open '%s'", path);
    if (filesystem_verify(fs, mount_fd, dev, err) < 0 || fs->size(d, mount_fd, &have, err) < 0 ||
        filesystem_fits(d, have, err) < 0 || device_bytes(d, &want, err) < 0)
        return -1;
    if (want - have < MIB(1)) /* less than our rounding unit is the file system's own business */
        return 0;
    if (fs->grow(d, mount_fd, want, err) < 0)
        return -1;
    *ret_grown = true;
    return 0;
}

/* EUCLEAN is every file system's "corrupted", EBADMSG its "wrong checksum"; EINVAL is what a
 * superblock gets that makes no sense, EIO what btrfs says of any block whose checksum is wrong. */
bool filesystem_is_damage(int sys_errno)
{
    return sys_errno == EUCLEAN || sys_errno == EBADMSG || sys_errno == EINVAL || sys_errno == EIO;
}

int filesystem_advice(const struct filesystem *fs, const char *id, const char *source,
                      struct error *err)
{
    char cause[304];

    if (fs->look == NULL || err == NULL)
        return -1;
    (void)snprintf(cause, sizeof(cause), "%.300s", err->msg);
    return error_set(err, err->code,
                     "%s. Type on this node: cofferctl volume unlock-key %s --reason repair | "
                     "cryptsetup open '%s' repair && %s /dev/mapper/repair; cryptsetup close "
                     "repair%s%s",
                     cause, id, source, fs->look, fs->advice[0] != '\0' ? ". " : "", fs->advice);
}

static const struct filesystem filesystem_none = { .name = "none" };

static const struct filesystem *const filesystems[] = {
    &filesystem_ext4,
    &filesystem_xfs,
    &filesystem_btrfs,
    &filesystem_none,
};

const struct filesystem *filesystem_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(filesystems); i++)
        if (strcmp(filesystems[i]->name, name) == 0)
            return filesystems[i];
    return NULL;
}
