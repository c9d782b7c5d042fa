/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spare: one small file per pool whose blocks are already there. On a file system without a
 * free block not even the record that says `erased` could be written, so nothing could be deleted
 * to make room. Then the spare is moved into the volume's place and becomes that record: a rename
 * and an overwrite take no new block.
 */
#include "common/base.h"
#include "backends/file.h"

#include "common/fault.h"

#include <fcntl.h>
#include <sys/stat.h>

static bool is_whole(const struct stat *st)
{
    return (uint64_t)st->st_blocks * 512 >= RECORD_MAX;
}

void file_spare_keep(int root)
{
    AUTO_CLOSE int fd = -1;
    struct stat st;

    if (fstatat(root, FILE_SPARE, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_whole(&st))
        return;
    if (file_open_regular(root, FILE_SPARE, O_RDWR, &fd, NULL) < 0 &&
        file_make(root, FILE_SPARE, &fd, NULL) < 0)
        return;
    FAULT_POINT("file:spare:made");
    (void)!fallocate(fd, 0, 0, RECORD_MAX);
}

static int overwrite(int fd, const struct strbuf *text, struct error *err)
{
    ssize_t n = pwrite(fd, strbuf_text(text), text->len, 0);

    if (n != (ssize_t)text->len)
        return error_errno(err, n < 0 ? errno : ENOSPC, "write into the pool's spare file");
    if (ftruncate(fd, (off_t)text->len) < 0 || fsync(fd) < 0)
        return error_errno(err, errno, "flush the pool's spare file");
    FAULT_POINT("file:spare:written");
    return 0;
}

int file_spare_use(int root, int dir, const struct strbuf *text, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    struct stat st;

    if (file_open_regular(root, FILE_SPARE, O_RDWR, &fd, err) < 0)
        return -1;
    if (fstat(fd, &st) < 0 || !is_whole(&st))
        return error_set(err, ERR_EXHAUSTED, "the pool's spare file has no space of its own");
    if (renameat(root, FILE_SPARE, dir, FILE_RECORD_TMP) < 0)
        return error_errno(err, errno, "take the pool's spare file");
    FAULT_POINT("file:spare:taken");
    if (overwrite(fd, text, err) < 0)
        return -1;
    if (renameat(dir, FILE_RECORD_TMP, dir, FILE_RECORD) < 0)
        return error_errno(err, errno, "rename to '%s'", FILE_RECORD);
    return fs_fsync_dir(dir, "the directory", err);
}
