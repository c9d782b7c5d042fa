/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "backends/file_ledger.h"

#include "backends/file.h"
#include "common/deadline.h"
#include "common/fault.h"
#include "common/json.h"
#include "common/parse.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#define LEDGER_VERSION 1
#define OPEN_TRIES     32
#define LOCK_POLL_MS   5
#define RECOUNT_SECONDS                                                      \
    60 /* a full pool is asked again and again; looking at it all isn't free \
        */
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

void file_ledger_close(struct file_ledger *l)
{
    cleanup_close(&l->fd);
    *l = (struct file_ledger)FILE_LEDGER_INIT;
}

static uint64_t boot_seconds(void)
{
    struct timespec now = { .tv_sec = 0 };

    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec;
}

static int read_boot(char ret[37], struct error *err)
{
    if (fs_read_line(BOOT_ID, ret, 37, err) < 0)
        return -1;
    return uuid_valid(ret) ? 0 : error_set(err, ERR_INTERNAL, "'%s' holds no uuid", BOOT_ID);
}

/* ---- its text ---- */

int file_ledger_decode(const char *text, size_t len, const char *boot, struct file_ledger_text *ret,
                       struct error *err)
{
    AUTO_JSON json_t *obj = NULL;
    struct file_ledger_text t = { .volume = "" };
    uint64_t version = 0;
    char of[37] = "";
    struct json_reader r;

    if (json_parse(text, len, FILE_LEDGER, &obj, err) < 0)
        return error_recode(err, ERR_DATA_LOSS);
    r = json_reader_of(obj, FILE_LEDGER);
    json_get_u64(&r, "v", &version);
    json_get_string(&r, "boot", of, sizeof(of));
    json_get_u64(&r, "promised", &t.promised);
    json_get_u64(&r, "counted", &t.counted);
    json_get_string(&r, "volume", t.volume, sizeof(t.volume));
    json_get_u64(&r, "from", &t.from);
    if (version != LEDGER_VERSION || strcmp(of, boot) != 0)
        json_problem(&r, "it is of another boot or version");
    if ((t.volume[0] != '\0' && !hex_lower_valid(t.volume, 32)) || t.from > t.promised)
        json_problem(&r, "its fields don't fit together");
    if (json_reader_done(&r, err) < 0)
        return error_recode(err, ERR_DATA_LOSS);
    *ret = t;
    return 0;
}

/* Text of a fixed length: each write replaces the whole of the last one, and one that is killed
 * half-way can't be: it lies in one page. */
static int write_ledger(const struct file_ledger *l, const char *volume, uint64_t from,
                        struct error *err)
{
    char text[FILE_LEDGER_SIZE + 1];
    int n = snprintf(text, sizeof(text),
                     "{\"v\":%d,\"boot\":\"%s\",\"promised\":%llu,\"counted\":%llu,"
                     "\"volume\":\"%s\",\"from\":%llu}",
                     LEDGER_VERSION, l->boot, (unsigned long long)l->promised,
                     (unsigned long long)l->counted, volume, (unsigned long long)from);
    ssize_t written;

    if (n < 0 || n >= FILE_LEDGER_SIZE)
        return error_set(err, ERR_INTERNAL, "'%s' would be too long", FILE_LEDGER);
    memset(text + n, ' ', sizeof(text) - (size_t)n);
    text[FILE_LEDGER_SIZE - 1] = '\n';
    written = pwrite(l->fd, text, FILE_LEDGER_SIZE, 0);
    if (written != FILE_LEDGER_SIZE)
        return error_errno(err, written < 0 ? errno : ENOSPC, "write '%s'", FILE_LEDGER);
    return 0;
}

static int read_ledger(int fd, const char *boot, struct file_ledger_text *ret, struct error *err)
{
    char text[FILE_LEDGER_SIZE];
    ssize_t n = pread(fd, text, sizeof(text), 0);

    if (n < 0)
        return error_errno(err, errno, "read '%s'", FILE_LEDGER);
    return file_ledger_decode(text, (size_t)n, boot, ret, err);
}

/* ---- counting ---- */

/* *ret stays 0 when there is no image (or no volume). */
static int image_size(int shard, const char *name, uint64_t *ret, struct error *err)
{
    char path[64];
    struct stat st;

    (void)snprintf(path, sizeof(path), "%.32s/%s", name, FILE_IMAGE);
    *ret = 0;
    if (fstatat(shard, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : error_errno(err, errno, "stat '%s'", path);
    *ret = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    return 0;
}

static int add_images(DIR *d, uint64_t *sum, struct error *err)
{
    const struct dirent *e;
    uint64_t size;

    for (errno = 0; (e = readdir(d)) != NULL; errno = 0) {
        if (!hex_lower_valid(e->d_name, 32))
            continue;
        if (image_size(dirfd(d), e->d_name, &size, err) < 0)
            return -1;
        *sum += size;
    }
    return errno != 0 ? error_errno(err, errno, "read a directory of volumes") : 0;
}

static int open_shard(int root, const char *hash, int *ret_fd, struct error *err)
{
    char path[FILE_PLACE_MAX];

    (void)snprintf(path, sizeof(path), FILE_VOLUMES "/%.2s", hash);
    return file_open_below(root, path, ret_fd, err);
}

static int add_shard(int root, unsigned shard, uint64_t *sum, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    struct error local = ERROR_INIT;
    char hash[3];
    DIR *d;
    int r;

    (void)snprintf(hash, sizeof(hash), "%02x", shard & 0xffu);
    if (open_shard(root, hash, &fd, &local) < 0)
        return local.code == ERR_NOT_FOUND ? 0 : error_set(err, local.code, "%s", local.msg);
    d = fdopendir(fd);
    if (d == NULL)
        return error_errno(err, errno, "read a directory of volumes");
    fd = -1;
    r = add_images(d, sum, err);
    (void)closedir(d);
    return r;
}

static int count_images(struct file_ledger *l, struct error *err)
{
    uint64_t sum = 0;

    for (unsigned shard = 0; shard < 256; shard++) {
        if (add_shard(l->root, shard, &sum, err) < 0)
            return error_prefix(err, "count what the pool has promised");
    }
    l->promised = sum;
    l->counted = boot_seconds();
    if (write_ledger(l, "", 0, err) < 0)
        return -1;
    l->live = true;
    FAULT_POINT("file:ledger:counted");
    return 0;
}

int file_ledger_recount(struct file_ledger *l, bool *ret_changed, struct error *err)
{
    uint64_t before = l->promised;

    *ret_changed = false;
    if (boot_seconds() - l->counted < RECOUNT_SECONDS)
        return 0;
    if (count_images(l, err) < 0)
        return -1;
    *ret_changed = l->promised != before;
    return 0;
}

/* ---- opening ---- */

static int open_file(int root, bool make, int *ret_fd, struct error *err)
{
    struct error local = ERROR_INIT;

    for (int i = 0; i < OPEN_TRIES; i++) {
        if (file_open_regular(root, FILE_LEDGER, O_RDWR, ret_fd, &local) == 0)
            return 0;
        if (local.code != ERR_NOT_FOUND || !make)
            break;
        if (file_make(root, FILE_LEDGER, ret_fd, &local) == 0)
            return 0;
        if (local.code != ERR_EXISTS)
            break;
    }
    return error_set(err, local.code, "%s", local.msg);
}

static int wait_for_lock(int fd, uint64_t limit_ms, struct error *err)
{
    const uint64_t deadline = deadline_in(limit_ms);
    struct error local = ERROR_INIT;

    while (fs_flock(fd, "what the pool has promised", &local) < 0) {
        if (local.code != ERR_ABORTED || deadline_left(deadline) == 0)
            return error_set(err, local.code, "%s", local.msg);
        sleep_ms(LOCK_POLL_MS);
    }
    return 0;
}

/* Somebody may have removed the file (to have it counted again) between open and lock. */
static int open_locked(int root, bool make, int *ret_fd, struct error *err)
{
    struct stat st;

    for (int i = 0; i < OPEN_TRIES; i++) {
        AUTO_CLOSE int fd = -1;

        if (open_file(root, make, &fd, err) < 0 || wait_for_lock(fd, LEDGER_WAIT_MS, err) < 0)
            return -1;
        if (fstat(fd, &st) < 0)
            return error_errno(err, errno, "stat '%s'", FILE_LEDGER);
        if (st.st_nlink == 0)
            continue;
        *ret_fd = TAKE_FD(fd);
        return 0;
    }
    return error_set(err, ERR_ABORTED, "'%s' is removed all the time", FILE_LEDGER);
}

/* A user was killed between begin and end: the image itself says what came of it. */
static int finish_change(struct file_ledger *l, const struct file_ledger_text *t, struct error *err)
{
    AUTO_CLOSE int shard = -1;
    struct error local = ERROR_INIT;
    uint64_t now = 0;

    if (open_shard(l->root, t->volume, &shard, &local) == 0) {
        if (image_size(shard, t->volume, &now, err) < 0)
            return -1;
    } else if (local.code != ERR_NOT_FOUND) {
        return error_set(err, local.code, "%s", local.msg);
    }
    FAULT_POINT("file:ledger:finish");
    return file_ledger_end(l, t->from, now, err);
}

/* One of another boot nobody believes. One that couldn't be read now would be believed later, and
 * lack the change that comes. */
static int do_without(struct file_ledger *l, const struct error *why, struct error *err)
{
    return why->code == ERR_DATA_LOSS ? 0 : file_ledger_void(l, err);
}

static int load(struct file_ledger *l, bool count, struct error *err)
{
    struct error why = ERROR_INIT;
    struct file_ledger_text t;

    if (read_boot(l->boot, err) < 0)
        return -1;
    if (read_ledger(l->fd, l->boot, &t, &why) < 0)
        return count ? count_images(l, err) : do_without(l, &why, err);
    l->live = true;
    l->promised = t.promised;
    l->counted = t.counted;
    return t.volume[0] != '\0' ? finish_change(l, &t, err) : 0;
}

int file_ledger_open(const struct pool *pool, int root, bool count, struct file_ledger *ret,
                     struct error *err)
{
    AUTO_FILE_LEDGER struct file_ledger l = FILE_LEDGER_INIT;
    struct error local = ERROR_INIT;

    l.root = root;
    if (open_locked(root, count, &l.fd, &local) < 0) {
        if (!count && local.code == ERR_NOT_FOUND)
            return 0;
        (void)error_set(err, local.code, "%s", local.msg);
        return error_prefix(err, "pool '%s'", pool->config->name);
    }
    if (load(&l, count, err) < 0)
        return error_prefix(err, "pool '%s'", pool->config->name);
    *ret = l;
    l.fd = -1;
    return 0;
}

int file_ledger_look(int root, uint64_t *ret_promised, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    struct file_ledger_text t;
    char boot[37];

    if (read_boot(boot, err) < 0)
        return -1;
    /* under the lock nobody is half-way through a write */
    if (open_file(root, false, &fd, NULL) < 0 || wait_for_lock(fd, LEDGER_LOOK_MS, NULL) < 0 ||
        read_ledger(fd, boot, &t, NULL) < 0)
        return error_set(err, ERR_UNAVAILABLE, "nobody has counted yet what is promised");
    *ret_promised = t.promised;
    return 0;
}

/* ---- changes ---- */

int file_ledger_begin(struct file_ledger *l, const char *hash, uint64_t from, struct error *err)
{
    if (!l->live)
        return 0;
    FAULT_POINT("file:ledger:begin");
    return write_ledger(l, hash, from, err);
}

int file_ledger_end(struct file_ledger *l, uint64_t from, uint64_t now, struct error *err)
{
    if (!l->live)
        return 0;
    l->promised = l->promised - from + now;
    FAULT_POINT("file:ledger:end");
    return write_ledger(l, "", 0, err);
}

int file_ledger_void(struct file_ledger *l, struct error *err)
{
    l->live = false;
    if (l->fd >= 0 && ftruncate(l->fd, 0) < 0)
        return error_errno(err, errno, "empty '%s'", FILE_LEDGER);
    return 0;
}
