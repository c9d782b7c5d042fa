/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume's place and its lock. The lock file is made right after the place and removed right
 * before it, so "no lock" means "nothing else in there either". Removing takes the lock file away
 * while it is held: whoever locks a file must then look whether that file is still the one in the
 * place.
 */
#include "common/base.h"
#include "backends/file.h"

#include "backends/file_ledger.h"
#include "common/fault.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define OPEN_TRIES 32

void file_place_name(const struct volume_id *id, char ret[FILE_PLACE_MAX])
{
    (void)snprintf(ret, FILE_PLACE_MAX, FILE_VOLUMES "/%.2s/%s", id->hash, id->hash);
}

int file_place_error(const struct pool *pool, const struct volume_id *id, struct error *err)
{
    char place[FILE_PLACE_MAX];

    file_place_name(id, place);
    return error_prefix(err, "pool '%s', '%s/%s'", pool->config->name, pool->config->path, place);
}

int file_open_below(int root, const char *path, int *ret_fd, struct error *err)
{
    struct open_how how = { .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
    long fd = syscall(SYS_openat2, root, path, &how, sizeof(how));

    if (fd < 0)
        return error_errno(err, errno, "open directory '%s'", path);
    *ret_fd = (int)fd;
    return 0;
}

int file_open_regular(int dirfd, const char *name, int flags, int *ret_fd, struct error *err)
{
    AUTO_CLOSE int fd = openat(dirfd, name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 && errno != ELOOP && errno != ENXIO)
        return error_errno(err, errno, "open '%s'", name);
    if (fd >= 0 && fstat(fd, &st) < 0)
        return error_errno(err, errno, "stat '%s'", name);
    if (fd < 0 || !S_ISREG(st.st_mode) || st.st_nlink > 1)
        return error_set(err, ERR_DATA_LOSS, "'%s' is not a plain file of its own", name);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* What root makes belongs to the pool's owner, else the unprivileged controller could not remove
 * it. */
static int give_to_owner(int fd, int of, const char *name, struct error *err)
{
    struct stat st;

    if (geteuid() != 0)
        return 0;
    if (fstat(of, &st) < 0)
        return error_errno(err, errno, "stat the directory of '%s'", name);
    if (fchown(fd, st.st_uid, st.st_gid) < 0)
        return error_errno(err, errno, "change the owner of '%s'", name);
    return 0;
}

int file_make(int dirfd, const char *name, int *ret_fd, struct error *err)
{
    AUTO_CLOSE int fd =
        openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0 && errno == EEXIST)
        return error_set(err, ERR_EXISTS, "'%s' is there already", name);
    if (fd < 0)
        return error_errno(err, errno, "make '%s'", name);
    if (give_to_owner(fd, dirfd, name, err) < 0)
        return -1;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* ---- making a place ---- */

static int make_directory(int root, const char *path, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (mkdirat(root, path, 0700) < 0)
        return errno == EEXIST ? 0 : error_errno(err, errno, "make directory '%s'", path);
    if (geteuid() != 0)
        return 0;
    return file_open_below(root, path, &fd, err) < 0 || give_to_owner(fd, root, path, err) < 0 ? -1
                                                                                               : 0;
}

/* "volumes/0a/0a1b…" -> "volumes/0a" */
static void shard_name(const char *place, char ret[FILE_PLACE_MAX])
{
    (void)snprintf(ret, FILE_PLACE_MAX, "%.*s", (int)sizeof(FILE_VOLUMES) + 2, place);
}

static int make_place(int root, const char *place, struct error *err)
{
    char path[FILE_PLACE_MAX];

    shard_name(place, path);
    if (make_directory(root, FILE_VOLUMES, err) < 0 || make_directory(root, path, err) < 0 ||
        make_directory(root, place, err) < 0)
        return -1;
    FAULT_POINT("file:place:made");
    return 0;
}

/* Before the first thing is made in the place: whoever made it may have been killed. */
static int settle_place(int root, const char *place, struct error *err)
{
    AUTO_CLOSE int shard = -1, volumes = -1;
    char path[FILE_PLACE_MAX];

    shard_name(place, path);
    if (file_open_below(root, FILE_VOLUMES, &volumes, err) < 0 ||
        file_open_below(root, path, &shard, err) < 0)
        return -1;
    return fs_fsync_dir(shard, path, err) < 0 || fs_fsync_dir(volumes, FILE_VOLUMES, err) < 0 ||
                   fs_fsync_dir(root, "the pool's directory", err) < 0
               ? -1
               : 0;
}

/* ---- the lock ---- */

enum step { STEP_DONE, STEP_AGAIN, STEP_FAILED };

/* A place without a lock file is one that is being made or removed, or was when somebody was
 * killed. */
static enum step open_without_lock(int root, const char *place, int dir, bool create, int *ret_lock,
                                   struct error *err)
{
    struct error local = ERROR_INIT;

    if (!create && unlinkat(root, place, AT_REMOVEDIR) == 0) {
        (void)error_set(err, ERR_NOT_FOUND, "there is no such volume");
        return STEP_FAILED;
    }
    if (!create && errno == ENOENT)
        return STEP_AGAIN;
    if (!create && errno != ENOTEMPTY && errno != EEXIST) {
        (void)error_errno(err, errno, "remove the empty directory");
        return STEP_FAILED;
    }
    if (settle_place(root, place, err) < 0)
        return STEP_FAILED;
    if (file_make(dir, FILE_LOCK, ret_lock, &local) == 0)
        return STEP_DONE;
    if (local.code == ERR_EXISTS || local.code == ERR_NOT_FOUND)
        return STEP_AGAIN;
    (void)error_pass(err, &local);
    return STEP_FAILED;
}

static enum step open_lock(int root, const char *place, int dir, bool create, int *ret_lock,
                           struct error *err)
{
    struct error local = ERROR_INIT;

    if (file_open_regular(dir, FILE_LOCK, O_RDWR, ret_lock, &local) == 0)
        return STEP_DONE;
    if (local.code == ERR_NOT_FOUND)
        return open_without_lock(root, place, dir, create, ret_lock, err);
    (void)error_pass(err, &local);
    return STEP_FAILED;
}

static enum step still_there(int dir, int lock, struct error *err)
{
    struct stat held, there;

    if (fstat(lock, &held) < 0) {
        (void)error_errno(err, errno, "stat the held lock");
        return STEP_FAILED;
    }
    if (fstatat(dir, FILE_LOCK, &there, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno == ENOENT)
            return STEP_AGAIN;
        (void)error_errno(err, errno, "stat '%s'", FILE_LOCK);
        return STEP_FAILED;
    }
    return held.st_dev == there.st_dev && held.st_ino == there.st_ino ? STEP_DONE : STEP_AGAIN;
}

static enum step try_open(int root, const char *place, bool create, struct volume *ret,
                          struct error *err)
{
    AUTO_CLOSE int dir = -1, lock = -1;
    struct error local = ERROR_INIT;
    enum step step;

    if (file_open_below(root, place, &dir, &local) < 0) {
        if (local.code != ERR_NOT_FOUND) {
            (void)error_pass(err, &local);
            return STEP_FAILED;
        }
        if (!create) {
            (void)error_set(err, ERR_NOT_FOUND, "there is no such volume");
            return STEP_FAILED;
        }
        return make_place(root, place, err) < 0 ? STEP_FAILED : STEP_AGAIN;
    }
    step = open_lock(root, place, dir, create, &lock, err);
    if (step != STEP_DONE)
        return step;
    FAULT_POINT("file:open:lock");
    if (fs_flock(lock, "the volume's lock", err) < 0)
        return STEP_FAILED;
    step = still_there(dir, lock, err);
    if (step != STEP_DONE)
        return step;
    ret->dir_fd = TAKE_FD(dir);
    ret->lock_fd = TAKE_FD(lock);
    return STEP_DONE;
}

int file_open(struct pool *pool, const struct volume_id *id, bool create, struct volume *ret,
              struct error *err)
{
    AUTO_CLOSE int root = -1;
    struct error local = ERROR_INIT;
    enum step step = STEP_AGAIN;
    char place[FILE_PLACE_MAX];

    if (file_root_open(pool, &root, err) < 0)
        return -1;
    file_place_name(id, place);
    (void)error_set(&local, ERR_ABORTED, "it is being made and removed all the time");
    for (int i = 0; i < OPEN_TRIES && step == STEP_AGAIN; i++)
        step = try_open(root, place, create, ret, &local);
    if (step == STEP_DONE) {
        FAULT_POINT("file:open:locked");
        return 0;
    }
    (void)file_place_error(pool, id, &local);
    return error_pass(err, &local);
}

/* ---- removing ---- */

static int remove_file(int dir, const char *name, struct error *err)
{
    if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove '%s'", name);
    return 0;
}

/* A place that isn't empty after the lock went is somebody's new volume: in our directory with a
 * lock file of its own, or in another directory of that name. */
static bool is_taken(const struct volume *v, int root, const char *place)
{
    struct stat ours, there;

    if (fstatat(v->dir_fd, FILE_LOCK, &there, AT_SYMLINK_NOFOLLOW) == 0)
        return true;
    return fstat(v->dir_fd, &ours) == 0 && fstatat(root, place, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           (ours.st_dev != there.st_dev || ours.st_ino != there.st_ino);
}

/* Else a power cut would bring the place back, with a record that nobody asks to remove again. */
static int settle_removal(int root, const char *place, struct error *err)
{
    AUTO_CLOSE int shard = -1;
    char path[FILE_PLACE_MAX];

    shard_name(place, path);
    return file_open_below(root, path, &shard, err) < 0 ? -1 : fs_fsync_dir(shard, path, err);
}

static int remove_place(const struct volume *v, int root, struct error *err)
{
    char place[FILE_PLACE_MAX];

    file_place_name(&v->id, place);
    if (unlinkat(root, place, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return settle_removal(root, place, err);
    if (errno != ENOTEMPTY && errno != EEXIST)
        return error_errno(err, errno, "remove the directory");
    if (is_taken(v, root, place))
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "the directory holds files that are not Coffer's; remove them by hand");
}

static int zero(int fd, off_t from, off_t to, const char *name, struct error *err)
{
    static const char zeros[65536];

    while (from < to) {
        size_t len = (size_t)(to - from) < sizeof(zeros) ? (size_t)(to - from) : sizeof(zeros);
        ssize_t n = pwrite(fd, zeros, len, from);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_errno(err, errno, "overwrite '%s'", name);
        from += n;
    }
    return 0;
}

int file_zero_data(int fd, off_t end, const char *name, struct error *err)
{
    off_t from = 0;

    while ((from = lseek(fd, from, SEEK_DATA)) >= 0 && from < end) {
        off_t to = lseek(fd, from, SEEK_HOLE);

        if (to < 0)
            return error_errno(err, errno, "look for the end of what was written to '%s'", name);
        if (zero(fd, from, to < end ? to : end, name, err) < 0)
            return -1;
        from = to;
    }
    if (from < 0 && errno != ENXIO)
        return error_errno(err, errno, "look for what was written to '%s'", name);
    return fdatasync(fd) < 0 ? error_errno(err, errno, "flush '%s'", name) : 0;
}

int file_scrub(struct volume *v, uint64_t bytes, struct error *err)
{
    struct error local = ERROR_INIT;
    AUTO_CLOSE int fd = -1;

    if (file_open_regular(v->dir_fd, FILE_IMAGE, O_WRONLY, &fd, &local) == 0) {
        (void)!file_zero_data(fd, (off_t)bytes, FILE_IMAGE, &local);
    }
    if (local.code == ERR_OK || local.code == ERR_NOT_FOUND)
        return file_drop_header_backup(v, err); /* of a rotation that nobody finished */
    (void)error_pass(err, &local);
    return file_place_error(v->pool, &v->id, err);
}

/* The ledger's word for it is best effort: a full file system must not keep anybody from making
 * room. What couldn't be written down is counted by the next who needs it. */
static int unlink_booked(const struct volume *v, struct file_ledger *l, uint64_t size,
                         struct error *err)
{
    if (file_ledger_begin(l, v->id.hash, size, NULL) < 0 && file_ledger_void(l, err) < 0)
        return -1;
    if (remove_file(v->dir_fd, FILE_IMAGE, err) < 0)
        return -1; /* the next user of the ledger finds the image as it is */
    FAULT_POINT("file:remove:unlinked");
    return file_ledger_end(l, size, 0, NULL) < 0 ? file_ledger_void(l, err) : 0;
}

static int remove_image(const struct volume *v, int root, struct error *err)
{
    AUTO_FILE_LEDGER struct file_ledger l = FILE_LEDGER_INIT;
    struct stat st;

    if (fstatat(v->dir_fd, FILE_IMAGE, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : error_errno(err, errno, "stat '%s'", FILE_IMAGE);
    if (file_ledger_open(v->pool, root, false, &l, err) < 0)
        return -1;
    return unlink_booked(v, &l, S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0, err);
}

/* The record goes after the image and is the last word on it: an image without a record is never
 * ours to explain (read_record calls it DATA_LOSS), so the order is made durable. */
static int remove_content(const struct volume *v, int root, struct error *err)
{
    if (remove_image(v, root, err) < 0 || fs_fsync_dir(v->dir_fd, "the directory", err) < 0)
        return -1;
    FAULT_POINT("file:remove:image");
    if (remove_file(v->dir_fd, FILE_HEADER_BACKUP, err) < 0 ||
        remove_file(v->dir_fd, FILE_RECORD_TMP, err) < 0 ||
        remove_file(v->dir_fd, FILE_RECORD, err) < 0)
        return -1;
    FAULT_POINT("file:remove:record");
    if (remove_file(v->dir_fd, FILE_LOCK, err) < 0)
        return -1;
    FAULT_POINT("file:remove:lock");
    return remove_place(v, root, err);
}

int file_remove(struct volume *v, struct error *err)
{
    AUTO_CLOSE int root = -1;

    if (file_root_open(v->pool, &root, err) < 0)
        return -1;
    if (remove_content(v, root, err) < 0)
        return file_place_error(v->pool, &v->id, err);
    file_spare_keep(root); /* now that there is space */
    FAULT_POINT("file:remove:place");
    return 0;
}

int file_settle_absent(struct pool *pool, const struct volume_id *id, struct error *err)
{
    AUTO_CLOSE int root = -1;
    struct error local = ERROR_INIT;
    char place[FILE_PLACE_MAX];

    if (file_root_open(pool, &root, err) < 0)
        return -1;
    file_place_name(id, place);
    if (settle_removal(root, place, &local) == 0 || local.code == ERR_NOT_FOUND)
        return 0;
    (void)file_place_error(pool, id, &local);
    return error_pass(err, &local);
}
