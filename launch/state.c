/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/state.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/fs.h"
#include "common/parse.h"
#include "common/strbuf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define LOCK_TRIES    100
#define UIDS_LOCK     "uids.lock"
#define UIDS_LOCK_MS  10000
#define LOCK_PAUSE_MS 5

/* ---- the folder ---- */

/* 1: locked and still the folder of that name; 0: it was removed meanwhile. */
static int lock_folder(int base_fd, const char *id, int *ret_fd, struct error *err)
{
    struct stat mine, there;

    if (mkdirat(base_fd, id, 0700) < 0 && errno != EEXIST)
        return error_errno(err, errno, "make the folder of VM '%s'", id);
    AUTO_CLOSE int fd = openat(base_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return error_errno(err, errno, "open the folder of VM '%s'", id);
    if (fs_flock(fd, "VM", err) < 0)
        return error_prefix(err, "VM '%s'", id);
    if (fstat(fd, &mine) < 0)
        return error_errno(err, errno, "look at the folder of VM '%s'", id);
    if (fstatat(base_fd, id, &there, AT_SYMLINK_NOFOLLOW) < 0 || there.st_ino != mine.st_ino)
        return 0;
    *ret_fd = TAKE_FD(fd);
    return 1;
}

int state_open(const char *base, const char *id, struct state *ret, struct error *err)
{
    AUTO_CLOSE int base_fd = -1;
    int dir_fd = -1, r = 0;

    if (fs_open_dir(base, &base_fd, err) < 0)
        return -1;
    for (int i = 0; i < LOCK_TRIES && r == 0; i++)
        r = lock_folder(base_fd, id, &dir_fd, err);
    if (r < 0)
        return -1;
    if (r == 0)
        return error_set(err, ERR_ABORTED, "VM '%s' is stopped again and again", id);
    struct state s = { .base_fd = TAKE_FD(base_fd), .dir_fd = dir_fd };
    memcpy(s.id, id, VM_ID_LEN + 1);
    *ret = s;
    return 0;
}

void state_close(struct state *s)
{
    cleanup_close(&s->dir_fd);
    cleanup_close(&s->base_fd);
    *s = (struct state)STATE_INIT;
}

int state_remove(const struct state *s, struct error *err)
{
    static const char *const names[] = { "stopping", "status", "uid", "uid.tmp" };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (unlinkat(s->dir_fd, names[i], 0) < 0 && errno != ENOENT)
            return error_errno(err, errno, "remove '%s' of VM '%s'", names[i], s->id);
    }
    if (unlinkat(s->base_fd, s->id, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove the folder of VM '%s'", s->id);
    return 0;
}

int state_status_fd(const struct state *s, int *ret_fd, struct error *err)
{
    int fd = openat(s->dir_fd, "status",
                    O_WRONLY | O_APPEND | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, errno, "open the status of VM '%s'", s->id);
    *ret_fd = fd;
    return 0;
}

int state_set_stopping(const struct state *s, bool stopping, struct error *err)
{
    if (!stopping) {
        if (unlinkat(s->dir_fd, "stopping", 0) < 0 && errno != ENOENT)
            return error_errno(err, errno, "remove 'stopping' of VM '%s'", s->id);
        return 0;
    }
    AUTO_CLOSE int fd =
        openat(s->dir_fd, "stopping", O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, errno, "note that VM '%s' is stopped", s->id);
    return 0;
}

int state_stopping(const struct state *s, bool *ret, struct error *err)
{
    int r = faccessat(s->dir_fd, "stopping", F_OK, AT_SYMLINK_NOFOLLOW);

    if (r < 0 && errno != ENOENT)
        return error_errno(err, errno, "look whether VM '%s' is being stopped", s->id);
    *ret = r == 0;
    return 0;
}

/* ---- reading ---- */

static int read_file(int base_fd, const char *id, const char *file, struct strbuf *text,
                     struct error *err)
{
    char path[VM_ID_LEN + 16];

    (void)snprintf(path, sizeof(path), "%s/%s", id, file);
    return fs_read_at(base_fd, path, text->max, text, err);
}

int state_read_uid(int base_fd, const char *id, uid_t *ret, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(16);
    uint64_t v;

    if (read_file(base_fd, id, "uid", &text, err) < 0)
        return -1;
    if (parse_u64(strbuf_text(&text), &v) < 0 || v >= UINT32_MAX)
        return error_set(err, ERR_DATA_LOSS, "the noted user of VM '%s' is no number", id);
    *ret = (uid_t)v;
    return 0;
}

int state_read_status(int base_fd, const char *id, char ret[STATUS_MAX + 1], struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(STATUS_MAX);

    if (read_file(base_fd, id, "status", &text, err) < 0)
        return -1;
    return str_copy(ret, STATUS_MAX + 1, strbuf_text(&text));
}

static int each_entry(DIR *dir, int base_fd, state_cb *cb, void *ctx, struct error *err)
{
    const struct dirent *e;

    while (errno = 0, (e = readdir(dir)) != NULL) {
        if (hex_lower_valid(e->d_name, VM_ID_LEN) && cb(ctx, base_fd, e->d_name, err) < 0)
            return -1;
    }
    return errno == 0 ? 0 : error_errno(err, errno, "read the folder of VMs");
}

int state_each(int base_fd, state_cb *cb, void *ctx, struct error *err)
{
    int fd = openat(base_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    if (dir == NULL) {
        (void)error_errno(err, errno, "open the folder of VMs");
        cleanup_close(&fd);
        return -1;
    }
    int r = each_entry(dir, base_fd, cb, ctx, err);
    (void)closedir(dir);
    return r;
}

/* ---- users ---- */

struct uid_search {
    uid_t candidate;
    bool taken;
};

static int look_at_uid(void *ctx, int base_fd, const char *id, struct error *err)
{
    struct uid_search *search = ctx;
    struct error e = ERROR_INIT;
    uid_t uid = 0;

    if (state_read_uid(base_fd, id, &uid, &e) < 0)
        return e.code == ERR_NOT_FOUND ? 0 : error_pass(err, &e);
    search->taken = search->taken || uid == search->candidate;
    return 0;
}

/* Where the search begins follows from the id, so that a user is seldom used again. */
static uint32_t first_offset(const char *id, uint32_t count)
{
    char text[9];
    unsigned long v;

    memcpy(text, id, 8);
    text[8] = '\0';
    v = strtoul(text, NULL, 16);
    return (uint32_t)(v % count);
}

static int find_free_uid(const struct state *s, const struct launch_config *c, uid_t *ret,
                         struct error *err)
{
    uint32_t offset = first_offset(s->id, c->uid_count);

    for (uint32_t i = 0; i < c->uid_count; i++) {
        struct uid_search search = { .candidate = c->uid_first +
                                                  (uid_t)((offset + (uint64_t)i) % c->uid_count) };
        if (state_each(s->base_fd, look_at_uid, &search, err) < 0)
            return -1;
        if (search.taken)
            continue;
        *ret = search.candidate;
        return 0;
    }
    return error_set(err, ERR_EXHAUSTED, "all %u users for VMs are taken", c->uid_count);
}

/* Held for moments only. */
static int lock_uids(int base_fd, int *ret_fd, struct error *err)
{
    uint64_t deadline = deadline_in(UIDS_LOCK_MS);
    AUTO_CLOSE int fd = openat(base_fd, UIDS_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_errno(err, errno, "open '" UIDS_LOCK "'");
    for (;;) {
        struct error e = ERROR_INIT;
        if (fs_flock(fd, UIDS_LOCK, &e) == 0)
            break;
        if (e.code != ERR_ABORTED || deadline_left(deadline) == 0)
            return error_pass(err, &e);
        sleep_ms(LOCK_PAUSE_MS);
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int state_take_uid(const struct state *s, const struct launch_config *c, uid_t *ret,
                   struct error *err)
{
    AUTO_CLOSE int lock = -1;
    struct error e = ERROR_INIT;
    char text[16];
    uid_t uid = 0;

    int r = state_read_uid(s->base_fd, s->id, &uid, &e);
    if (r < 0 && e.code != ERR_NOT_FOUND && e.code != ERR_DATA_LOSS)
        return error_pass(err, &e);
    if (r == 0 && uid >= c->uid_first && uid - c->uid_first < c->uid_count) {
        *ret = uid;
        return 0;
    }
    if (lock_uids(s->base_fd, &lock, err) < 0 || find_free_uid(s, c, &uid, err) < 0)
        return -1;
    int len = snprintf(text, sizeof(text), "%u", uid);
    if (fs_write_atomic_at(s->dir_fd, "uid", text, (size_t)len, 0600, NULL, err) < 0)
        return -1;
    *ret = uid;
    return 0;
}
