/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "backends/file.h"

#include "backends/file_ledger.h"
#include "common/fault.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* ---- the record ---- */

static int check_id(const struct volume_id *id, const struct record *r, struct error *err)
{
    char text[VOLUME_ID_MAX + 1];
    struct record_claim claim = { .id = text };

    volume_id_format(id, text);
    return record_matches(r, &claim, err);
}

/* No record is only "no volume" when there is no image either. */
static int no_record(int dir, struct error *err)
{
    struct stat st;

    if (fstatat(dir, FILE_IMAGE, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return error_set(err, ERR_DATA_LOSS, "there is an image, but its " FILE_RECORD " is gone");
    if (errno != ENOENT)
        return error_errno(err, errno, "look for '%s'", FILE_IMAGE);
    return error_set(err, ERR_NOT_FOUND, "there is no record yet");
}

int file_record_at(int dir, const struct volume_id *id, struct record *ret, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(RECORD_MAX);
    struct error local = ERROR_INIT;
    struct record r;

    if (fs_read_at(dir, FILE_RECORD, RECORD_MAX, &text, &local) < 0) {
        if (local.code == ERR_NOT_FOUND)
            return no_record(dir, err);
        return error_pass(err, &local);
    }
    if (record_decode(strbuf_text(&text), text.len, &r, err) < 0 || check_id(id, &r, err) < 0)
        return -1;
    *ret = r;
    return 0;
}

/* A writer that was killed between rename and fsync leaves a record that a power cut can take back:
 * what would be done on its word (data written to a volume that is `ready`) must not be lost to the
 * one before it (`formatting`). So it is made durable before it is believed. */
int file_read_record(struct volume *v, struct record *ret, struct error *err)
{
    struct record r;

    if (file_record_at(v->dir_fd, &v->id, &r, err) < 0 ||
        fs_fsync_dir(v->dir_fd, "the directory", err) < 0)
        return file_place_error(v->pool, &v->id, err);
    *ret = r;
    return 0;
}

int file_peek_record(struct pool *pool, const struct volume_id *id, struct record *ret,
                     struct error *err)
{
    AUTO_CLOSE int root = -1, dir = -1;
    char place[FILE_PLACE_MAX];

    if (file_root_open(pool, &root, err) < 0)
        return -1;
    file_place_name(id, place);
    if (file_open_below(root, place, &dir, err) < 0 || file_record_at(dir, id, ret, err) < 0)
        return file_place_error(pool, id, err);
    return 0;
}

/* For the whole pool at once: an fsync per volume costs a flush of the disk each. */
int file_settle(struct pool *pool, struct error *err)
{
    AUTO_CLOSE int root = -1;

    if (file_root_open(pool, &root, err) < 0)
        return -1;
    if (syncfs(root) < 0)
        return error_errno(err, errno, "flush the file system of pool '%s'", pool->config->name);
    return 0;
}

/* A damaged record may be longer than any good one. */
#define TEXT_MAX 65536u

int file_peek_text(struct pool *pool, const struct volume_id *id, struct strbuf *ret,
                   struct error *err)
{
    AUTO_CLOSE int root = -1, dir = -1;
    char place[FILE_PLACE_MAX];

    if (file_root_open(pool, &root, err) < 0)
        return -1;
    file_place_name(id, place);
    if (file_open_below(root, place, &dir, err) < 0 ||
        fs_read_at(dir, FILE_RECORD, TEXT_MAX, ret, err) < 0)
        return file_place_error(pool, id, err);
    return 0;
}

static int check_generation(struct volume *v, uint64_t gen, struct error *err)
{
    struct error local = ERROR_INIT;
    struct record now;

    if (file_record_at(v->dir_fd, &v->id, &now, &local) < 0) {
        if (local.code == ERR_NOT_FOUND && gen == 0)
            return 0;
        return error_pass(err, &local);
    }
    if (now.gen == gen)
        return 0;
    return error_set(err, ERR_ABORTED,
                     "the record is at generation %llu, not %llu: somebody else changed it",
                     (unsigned long long)now.gen, (unsigned long long)gen);
}

static bool is_full(int sys_errno)
{
    return sys_errno == ENOSPC || sys_errno == EDQUOT;
}

static int use_spare(const struct volume *v, const struct strbuf *text)
{
    AUTO_CLOSE int root = -1;

    return file_root_open(v->pool, &root, NULL) < 0 ? -1
                                                    : file_spare_use(root, v->dir_fd, text, NULL);
}

static int replace_record(const struct volume *v, const struct record *next, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(RECORD_MAX);
    struct error failed = ERROR_INIT;
    struct fs_owner owner;
    struct stat st;

    if (check_id(&v->id, next, err) < 0 || record_encode(next, &text, err) < 0)
        return -1;
    if (fstat(v->dir_fd, &st) < 0)
        return error_errno(err, errno, "stat the directory");
    owner = (struct fs_owner){ .uid = st.st_uid, .gid = st.st_gid };
    if (fs_write_atomic_at(v->dir_fd, FILE_RECORD, strbuf_text(&text), text.len, 0600, &owner,
                           &failed) == 0)
        return 0;
    if (next->state == RECORD_ERASED && is_full(failed.sys_errno) && use_spare(v, &text) == 0)
        return 0;
    if (err != NULL)
        *err = failed;
    return -1;
}

int file_replace_record(struct volume *v, const struct record *r, struct error *err)
{
    return replace_record(v, r, err) < 0 ? file_place_error(v->pool, &v->id, err) : 0;
}

int file_write_record(struct volume *v, struct record *r, struct error *err)
{
    struct record next = *r;

    next.gen = r->gen + 1;
    if (check_generation(v, r->gen, err) < 0 || replace_record(v, &next, err) < 0)
        return file_place_error(v->pool, &v->id, err);
    r->gen = next.gen;
    return 0;
}

/* ---- the bytes ---- */

static int open_image(const struct volume *v, int flags, int *ret_fd, struct stat *ret_st,
                      struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (file_open_regular(v->dir_fd, FILE_IMAGE, flags, &fd, err) < 0)
        return -1;
    if (fstat(fd, ret_st) < 0)
        return error_errno(err, errno, "stat '%s'", FILE_IMAGE);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* Absent isn't "no such volume": whoever asks has read a record. */
int file_image_open(const struct volume *v, int flags, int *ret_fd, struct stat *ret_st,
                    struct error *err)
{
    if (open_image(v, flags, ret_fd, ret_st, err) == 0)
        return 0;
    return err != NULL && err->code == ERR_NOT_FOUND ? error_recode(err, ERR_DATA_LOSS) : -1;
}

/* Only a volume that is being made may get an image: of any other it is lost, and a blank one in
 * its place would hide that. */
static int may_make_image(const struct volume *v, struct error *err)
{
    struct error local = ERROR_INIT;
    struct record r;

    if (file_record_at(v->dir_fd, &v->id, &r, &local) < 0)
        return local.code == ERR_NOT_FOUND ? 0 : error_pass(err, &local);
    if (r.state == RECORD_MINTING)
        return 0;
    return error_set(err, ERR_DATA_LOSS, "the record says '%s', but the image is gone",
                     record_state_name(r.state));
}

static int open_or_make_image(const struct volume *v, int *ret_fd, struct stat *ret_st,
                              struct error *err)
{
    struct error local = ERROR_INIT;
    AUTO_CLOSE int made = -1;

    if (open_image(v, O_RDWR, ret_fd, ret_st, &local) == 0)
        return 0;
    if (local.code != ERR_NOT_FOUND)
        return error_pass(err, &local);
    if (may_make_image(v, err) < 0)
        return -1;
    if (file_make(v->dir_fd, FILE_IMAGE, &made, err) < 0)
        return -1;
    FAULT_POINT("file:allocate:made");
    return open_image(v, O_RDWR, ret_fd, ret_st, err);
}

static int say_full(const struct volume *v, uint64_t wanted, uint64_t available, struct error *err)
{
    return error_set(err, ERR_EXHAUSTED,
                     "pool '%s' is full: %llu MiB more are needed, %llu MiB are free",
                     v->pool->config->name, (unsigned long long)((wanted + MIB(1) - 1) / MIB(1)),
                     (unsigned long long)(available / MIB(1)));
}

static uint64_t reserved_bytes(const struct stat *st)
{
    return (uint64_t)st->st_blocks * 512;
}

/* fallocate takes what it can get before it says ENOSPC: asking first keeps a hopeless request from
 * filling the file system for everybody. fallocate alone decides in the end. */
static int check_space(const struct volume *v, int fd, const struct stat *st, uint64_t bytes,
                       struct error *err)
{
    uint64_t have = reserved_bytes(st), available;
    struct statvfs fs;

    if (fstatvfs(fd, &fs) < 0)
        return error_errno(err, errno, "statvfs '%s'", FILE_IMAGE);
    available = (uint64_t)fs.f_bavail * fs.f_frsize;
    return bytes > have && bytes - have > available ? say_full(v, bytes - have, available, err) : 0;
}

int file_reserve_failed(const struct volume *v, int sys_errno, uint64_t bytes, uint64_t before,
                        struct error *err)
{
    if (is_full(sys_errno))
        return say_full(v, bytes - before, 0, err);
    if (sys_errno == EFBIG)
        return error_set(err, ERR_OUT_OF_RANGE,
                         "the file system of pool '%s' takes no file of %llu bytes",
                         v->pool->config->name, (unsigned long long)bytes);
    if (sys_errno == EOPNOTSUPP)
        return error_set(
            err, ERR_PRECONDITION,
            "the file system of pool '%s' can't reserve space (fallocate): use ext4, xfs or btrfs",
            v->pool->config->name);
    return error_errno(err, sys_errno, "reserve %llu bytes for '%s'", (unsigned long long)bytes,
                       FILE_IMAGE);
}

static int reserve(const struct volume *v, int fd, const struct stat *before, uint64_t bytes,
                   struct error *err)
{
    int r, failed;

    do {
        r = fallocate(fd, 0, 0, (off_t)bytes);
    } while (r < 0 && errno == EINTR);
    if (r == 0)
        return 0;
    failed = errno;
    /* What fallocate got before it failed lies behind the old end: give it back. */
    if (ftruncate(fd, before->st_size) < 0)
        return error_errno(err, errno, "give back what '%s' had got", FILE_IMAGE);
    return file_reserve_failed(v, failed, bytes, (uint64_t)before->st_size, err);
}

static uint64_t size_now(int fd, uint64_t otherwise)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? (uint64_t)st.st_size : otherwise;
}

/* A pool that once was sparse has a ledger; it stays right. */
static int reserve_booked(const struct volume *v, int fd, const struct stat *before, uint64_t bytes,
                          struct error *err)
{
    const uint64_t from = (uint64_t)before->st_size;
    AUTO_FILE_LEDGER struct file_ledger l = FILE_LEDGER_INIT;
    AUTO_CLOSE int root = -1;
    struct error failed = ERROR_INIT;
    int r;

    if (file_root_open(v->pool, &root, err) < 0 ||
        file_ledger_open(v->pool, root, false, &l, err) < 0 ||
        file_ledger_begin(&l, v->id.hash, from, err) < 0)
        return -1;
    r = reserve(v, fd, before, bytes, &failed);
    if (file_ledger_end(&l, from, size_now(fd, from), err) < 0)
        return -1;
    return r < 0 ? error_set(err, failed.code, "%s", failed.msg) : 0;
}

static int allocate_full(const struct volume *v, int fd, const struct stat *before, uint64_t bytes,
                         struct error *err)
{
    if (check_space(v, fd, before, bytes, err) < 0)
        return -1;
    FAULT_POINT("file:allocate:reserve");
    if (reserve_booked(v, fd, before, bytes, err) < 0)
        return -1;
    FAULT_POINT("file:allocate:reserved");
    return 0;
}

/* Also when there is nothing to do: whoever did it may have been killed before it was durable. */
static int flush_image(const struct volume *v, int fd, struct error *err)
{
    if (fsync(fd) == 0)
        return 0;
    (void)error_errno(err, errno, "fsync '%s'", FILE_IMAGE);
    return file_place_error(v->pool, &v->id, err);
}

static void keep_spare(const struct pool *pool)
{
    AUTO_CLOSE int root = -1;

    if (file_root_open(pool, &root, NULL) == 0)
        file_spare_keep(root);
}

int file_allocate(struct volume *v, uint64_t device_bytes, struct error *err)
{
    const bool sparse = pool_is_sparse(v->pool->config);
    AUTO_CLOSE int fd = -1;
    struct stat st;
    bool there;
    int r = 0;

    keep_spare(v->pool);
    if (open_or_make_image(v, &fd, &st, err) < 0)
        return file_place_error(v->pool, &v->id, err);
    there = (uint64_t)st.st_size >= device_bytes;
    if (device_bytes < (uint64_t)st.st_size)
        device_bytes = (uint64_t)st.st_size; /* no image ever shrinks */
    if (sparse && !there)
        r = file_sparse_allocate(v, fd, (uint64_t)st.st_size, device_bytes, err);
    else if (!sparse && (!there || reserved_bytes(&st) < device_bytes))
        r = allocate_full(v, fd, &st, device_bytes, err);
    return r < 0 ? -1 : flush_image(v, fd, err);
}

int file_allocated(struct volume *v, uint64_t *ret_bytes, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    struct stat st;

    if (open_image(v, O_RDONLY, &fd, &st, err) < 0)
        return file_place_error(v->pool, &v->id, err);
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}
