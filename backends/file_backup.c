/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_backup.c: the copy of a volume's header that lies beside its record while the header is
 * changed. It holds keyslots that the change takes away, so it goes with them: overwritten, as far
 * as the file system writes in place, and unlinked.
 */
#include "common/base.h"
#include "backends/file.h"

#include "common/fault.h"

#include <fcntl.h>

static int open_or_make(const struct volume *v, int *ret_fd, struct error *err)
{
    struct error local = ERROR_INIT;
    AUTO_CLOSE int fd = -1;

    if (file_open_regular(v->dir_fd, FILE_HEADER_BACKUP, O_RDWR, &fd, &local) < 0) {
        if (local.code != ERR_NOT_FOUND)
            return error_pass(err, &local);
        if (file_make(v->dir_fd, FILE_HEADER_BACKUP, &fd, err) < 0)
            return -1;
    }
    /* also of one that a killed rotation made */
    if (fs_fsync_dir(v->dir_fd, "the directory", err) < 0)
        return -1;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int file_header_backup(struct volume *v, int *ret_fd, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (open_or_make(v, &fd, err) < 0)
        return file_place_error(v->pool, &v->id, err);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int drop(const struct volume *v, struct error *err)
{
    struct error local = ERROR_INIT;
    AUTO_CLOSE int fd = -1;
    struct stat st;

    if (file_open_regular(v->dir_fd, FILE_HEADER_BACKUP, O_RDWR, &fd, &local) < 0)
        return local.code == ERR_NOT_FOUND ? 0 : error_pass(err, &local);
    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "stat '%s'", FILE_HEADER_BACKUP);
    if (file_zero_data(fd, st.st_size, FILE_HEADER_BACKUP, err) < 0)
        return -1;
    FAULT_POINT("file:backup:zeroed");
    if (unlinkat(v->dir_fd, FILE_HEADER_BACKUP, 0) < 0)
        return error_errno(err, errno, "remove '%s'", FILE_HEADER_BACKUP);
    FAULT_POINT("file:backup:unlinked");
    return fs_fsync_dir(v->dir_fd, "the directory", err);
}

int file_drop_header_backup(struct volume *v, struct error *err)
{
    return drop(v, err) < 0 ? file_place_error(v->pool, &v->id, err) : 0;
}
