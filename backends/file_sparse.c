/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sparse pools: an image is as long as its volume and has the space that was written to. Two things
 * bound what is promised: the overcommit ratio over all images' sizes (the ledger's sum), and what
 * the file system really has left. An image only ever grows here; nothing punches holes but a
 * discard that comes down through the loop device.
 */
#include "common/base.h"
#include "backends/file.h"
#include "backends/file_ledger.h"

#include "common/fault.h"

#include <sys/statvfs.h>

#define RESERVE_MIN MIB(64)
#define RESERVE_MAX GIB(1)

int file_space(int fd, struct file_space *ret, struct error *err)
{
    struct statvfs st;

    if (fstatvfs(fd, &st) < 0)
        return error_errno(err, errno, "statvfs of the pool");
    ret->total = (uint64_t)st.f_blocks * st.f_frsize / MIB(1) * MIB(1);
    ret->free = (uint64_t)st.f_bavail * st.f_frsize / MIB(1) * MIB(1);
    ret->used = (uint64_t)(st.f_blocks - st.f_bfree) * st.f_frsize;
    ret->read_only = (st.f_flag & ST_RDONLY) != 0;
    return 0;
}

uint64_t file_sparse_reserve(uint64_t total)
{
    uint64_t percent = total / 100;

    if (percent < RESERVE_MIN)
        return RESERVE_MIN;
    return percent > RESERVE_MAX ? RESERVE_MAX : percent;
}

static uint64_t limit_of(const struct pool_config *config, uint64_t total)
{
    return (uint64_t)((long double)total * config->overcommit);
}

uint64_t file_sparse_room(const struct pool_config *config, const struct file_space *space,
                          uint64_t promised)
{
    uint64_t limit = limit_of(config, space->total);

    if (space->free < file_sparse_reserve(space->total) || promised >= limit)
        return 0;
    return (limit - promised) / MIB(1) * MIB(1);
}

int file_sparse_capacity(const struct pool *pool, int root, bool count, struct pool_capacity *ret,
                         struct error *err)
{
    AUTO_FILE_LEDGER struct file_ledger l = FILE_LEDGER_INIT;
    struct file_space space;
    uint64_t promised = 0;

    if (file_space(root, &space, err) < 0)
        return -1;
    if (count && (space.read_only || space.free < file_sparse_reserve(space.total))) {
        (void)!file_ledger_look(root, &promised, NULL); /* a ledger couldn't be made, perhaps */
    } else if (count) {
        if (file_ledger_open(pool, root, true, &l, err) < 0)
            return -1;
        promised = l.promised;
    } else if (file_ledger_look(root, &promised, err) < 0) {
        return -1;
    }
    ret->promised = promised;
    ret->available = file_sparse_room(pool->config, &space, promised);
    return 0;
}

/* ---- allocating ---- */

static unsigned long long mib(uint64_t bytes)
{
    return (unsigned long long)(bytes / MIB(1));
}

static int check_free(const struct pool *pool, const struct file_space *space, struct error *err)
{
    uint64_t reserve = file_sparse_reserve(space->total);

    if (space->free >= reserve)
        return 0;
    return error_set(err, ERR_EXHAUSTED,
                     "pool '%s' has %llu MiB left on its file system; below %llu MiB it makes no "
                     "new promises",
                     pool->config->name, mib(space->free), mib(reserve));
}

/* Before it refuses, the ledger looks whether images went away without it. */
static int check_promise(const struct pool *pool, const struct file_space *space, uint64_t more,
                         struct file_ledger *l, struct error *err)
{
    uint64_t limit = limit_of(pool->config, space->total);
    bool again = true;

    while (l->promised > limit || more > limit - l->promised) {
        if (again && file_ledger_recount(l, &again, err) < 0)
            return -1;
        if (again) {
            again = false;
            continue;
        }
        return error_set(err, ERR_EXHAUSTED,
                         "pool '%s' is full: it has promised %llu MiB and may promise %llu MiB "
                         "(%llu MiB, overcommit %.2f); %llu MiB more are needed",
                         pool->config->name, mib(l->promised), mib(limit), mib(space->total),
                         pool->config->overcommit, mib(more + MIB(1) - 1));
    }
    return 0;
}

static int grow(const struct volume *v, int fd, uint64_t from, uint64_t bytes,
                struct file_ledger *l, struct error *err)
{
    struct error failed = ERROR_INIT;
    uint64_t now = bytes;

    if (file_ledger_begin(l, v->id.hash, from, err) < 0)
        return -1;
    FAULT_POINT("file:sparse:booked");
    if (ftruncate(fd, (off_t)bytes) < 0) {
        (void)file_reserve_failed(v, errno, bytes, from, &failed);
        now = from;
    }
    FAULT_POINT("file:sparse:grown");
    if (file_ledger_end(l, from, now, err) < 0)
        return -1;
    return now == bytes ? 0 : error_set(err, failed.code, "%s", failed.msg);
}

int file_sparse_allocate(const struct volume *v, int fd, uint64_t from, uint64_t bytes,
                         struct error *err)
{
    AUTO_FILE_LEDGER struct file_ledger l = FILE_LEDGER_INIT;
    AUTO_CLOSE int root = -1;
    struct file_space space;

    if (file_root_open(v->pool, &root, err) < 0 || file_space(root, &space, err) < 0 ||
        check_free(v->pool, &space, err) < 0 ||
        file_ledger_open(v->pool, root, true, &l, err) < 0 ||
        check_promise(v->pool, &space, bytes - from, &l, err) < 0)
        return -1;
    return grow(v, fd, from, bytes, &l, err);
}
