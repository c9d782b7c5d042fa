/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/filesystem.h"

#include "common/log.h"
#include "common/proc.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* of each kind of child; a journal replay is short, a full check of a big volume isn't */
#define MAKE_LIMIT_MS  600000u
#define CHECK_LIMIT_MS 1800000u
#define GROW_LIMIT_MS  600000u

#define LOCK_FD 3

static void log_line(void *ctx, const char *line)
{
    if (line[0] != '\0')
        log_info("a file system tool wrote", KV("tool", (const char *)ctx), KV("line", line));
}

/* The last line of standard output that holds anything; plain text, since it goes into an error. */
static void keep_last_output(struct proc_result *r)
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

static int run_tool(const char *const *argv, int lock_fd, uint64_t limit_ms, struct proc_result *r,
                    struct error *err)
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

    if (proc_run(&spec, r, err) < 0)
        return -1;
    if (r->last_line[0] == '\0')
        keep_last_output(r);
    return 0;
}

/* metadata_csum_seed lets a clone get a uuid of its own later; no discard: the image is reserved
 * space; lazy_itable_init=0 would write every table now, and the volume is all zeros behind
 * dm-crypt's noise. */
static int ext4_make(const char *device, int lock_fd, struct error *err)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = -1 };
    const char *const argv[] = { "/sbin/mkfs.ext4",    "-q", "-F",        "-m",   "0", "-O",
                                 "metadata_csum_seed", "-E", "nodiscard", device, NULL };

    if (run_tool(argv, lock_fd, MAKE_LIMIT_MS, &r, err) < 0)
        return -1;
    if (r.exit_code != 0)
        return error_set(err, ERR_INTERNAL, "mkfs.ext4 failed (exit %d, signal %d): %s",
                         r.exit_code, r.signal, r.last_line);
    return 0;
}

static int ext4_check(const char *device, int lock_fd, struct error *err)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = -1 };
    const char *const argv[] = { "/sbin/e2fsck", "-p", device, NULL };

    if (run_tool(argv, lock_fd, CHECK_LIMIT_MS, &r, err) < 0)
        return -1;
    if (r.exit_code >= 0 && r.exit_code <= 3) /* e2fsck(8): clean, or corrected */
        return 0;
    /* 4: errors are left, and standard output names them. More, or a signal: it couldn't do its
     * work, which says nothing of the data. */
    bool damaged = r.exit_code >= 4 && r.exit_code < 8;
    if (damaged)
        keep_last_output(&r);
    return error_set(err, damaged ? ERR_DATA_LOSS : ERR_INTERNAL,
                     "e2fsck -p won't repair the file system by itself (exit %d, signal %d): %s",
                     r.exit_code, r.signal, r.last_line);
}

static uint32_t le32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Size in bytes by the superblock: linux/Documentation/filesystems/ext4, "Super Block". */
static int ext4_size(int fd, uint64_t *ret, struct error *err)
{
    unsigned char sb[1024];
    ssize_t n = pread(fd, sb, sizeof(sb), 1024);

    if (n != (ssize_t)sizeof(sb))
        return error_errno(err, n < 0 ? errno : EIO, "read the ext4 superblock");
    uint32_t shift = le32(sb + 24);
    if (sb[56] != 0x53 || sb[57] != 0xef || shift > 6)
        return error_set(err, ERR_DATA_LOSS, "there is no ext4 file system on the volume");
    *ret = ((uint64_t)le32(sb + 0x150) << 32 | le32(sb + 4)) * (1024ull << shift);
    return 0;
}

static int ext4_grow(const char *device, int device_fd, int lock_fd, bool *ret_grown,
                     struct error *err)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = -1 };
    const char *const argv[] = { "/sbin/resize2fs", device, NULL };
    uint64_t have = 0, want = 0;

    if (ext4_size(device_fd, &have, err) < 0)
        return -1;
    if (ioctl(device_fd, BLKGETSIZE64, &want) < 0)
        return error_errno(err, errno, "size of '%s'", device);
    if (want < have)
        return error_set(err, ERR_DATA_LOSS, "the file system is %llu bytes, its device only %llu",
                         (unsigned long long)have, (unsigned long long)want);
    if (want - have <
        MIB(1)) /* a rest smaller than our rounding unit is the file system's own business */
        return 0;
    if (run_tool(argv, lock_fd, GROW_LIMIT_MS, &r, err) < 0)
        return -1;
    if (r.exit_code != 0)
        return error_set(err, ERR_INTERNAL, "resize2fs failed (exit %d, signal %d): %s",
                         r.exit_code, r.signal, r.last_line);
    *ret_grown = true;
    return 0;
}

static const struct filesystem filesystems[] = {
    { "ext4", "ext4", ext4_make, ext4_check, ext4_grow },
    { "none", NULL, NULL, NULL, NULL },
};

const struct filesystem *filesystem_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(filesystems); i++)
        if (strcmp(filesystems[i].name, name) == 0)
            return &filesystems[i];
    return NULL;
}
