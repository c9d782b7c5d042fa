/* SPDX-License-Identifier: Apache-2.0 */
/* What administrators ask of a file pool: where a volume is, which loops show it, what the pool's
 * file system can do. */
#include "common/base.h"
#include "backends/file.h"

#include "common/parse.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static int stat_image(int root, const struct volume_id *id, struct stat *ret)
{
    char place[FILE_PLACE_MAX], path[FILE_PLACE_MAX + 16];

    file_place_name(id, place);
    (void)snprintf(path, sizeof(path), "%s/" FILE_IMAGE, place);
    if (fstatat(root, path, ret, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(ret->st_mode))
        return -1;
    return 0;
}

static struct attachment attachment_of(const struct file_loop *l)
{
    struct attachment a = { .dev = l->dev, .ours = file_loop_usable(l) };

    memcpy(a.path, l->path, sizeof(a.path));
    return a;
}

/* ---- locate ---- */

struct gather {
    const struct stat *image;
    struct volume_where *where;
};

static int add_attachment(void *ctx, const struct file_loop *l, struct error *err UNUSED)
{
    struct gather *g = ctx;

    if (!file_loop_shows(l, g->image))
        return 0;
    if (g->where->n_attachments < WHERE_ATTACHMENTS_MAX)
        g->where->attachments[g->where->n_attachments] = attachment_of(l);
    g->where->n_attachments++;
    return 0;
}

static void look_for_loops(struct volume_where *where, const struct stat *image)
{
    struct gather g = { .image = image, .where = where };
    struct error local = ERROR_INIT;

    if (file_each_loop(add_attachment, &g, &local) < 0)
        (void)snprintf(where->problem, sizeof(where->problem), "%.255s", local.msg);
}

int file_locate(struct pool *pool, const struct volume_id *id, struct volume_where *ret,
                struct error *err)
{
    AUTO_CLOSE int root = -1, dir = -1;
    char place[FILE_PLACE_MAX];
    struct stat image;

    if (file_root_open(pool, &root, err) < 0)
        return -1;
    file_place_name(id, place);
    if (file_open_below(root, place, &dir, err) < 0)
        return file_place_error(pool, id, err);
    memset(ret, 0, sizeof(*ret));
    (void)snprintf(ret->place, sizeof(ret->place), "%s/%s", pool->config->path, place);
    (void)snprintf(ret->data, sizeof(ret->data), "%s/" FILE_IMAGE, ret->place);
    if (stat_image(root, id, &image) < 0)
        return 0;
    ret->has_data = true;
    ret->size = (uint64_t)image.st_size;
    ret->allocated = (uint64_t)image.st_blocks * 512;
    look_for_loops(ret, &image);
    return 0;
}

/* ---- all attachments of a pool ---- */

struct each {
    struct pool *pool;
    int root;
    bool (*cb)(void *ctx, const struct volume_id *id, const struct attachment *a);
    void *ctx;
};

/* "…/volumes/3f/3f0c…/image", perhaps with " (deleted)" behind it: a hint, which is checked. */
static bool hash_in_path(const char *path, char ret[33])
{
    const char *at = strstr(path, "/" FILE_VOLUMES "/");

    for (const char *next = at; next != NULL; next = strstr(next + 1, "/" FILE_VOLUMES "/"))
        at = next;
    if (at == NULL || strlen(at) < sizeof("/" FILE_VOLUMES "/xx/") - 1 + 32)
        return false;
    memcpy(ret, at + sizeof("/" FILE_VOLUMES "/xx/") - 1, 32);
    ret[32] = '\0';
    return hex_lower_valid(ret, 32);
}

static bool hash_hint(const struct file_loop *l, char ret[33])
{
    const char *name = (const char *)l->info.lo_file_name;
    char path[64], file[4096];

    if (strncmp(name, "coffer-", 7) == 0 && strnlen(name, LO_NAME_SIZE) == 7 + 32) {
        memcpy(ret, name + 7, 32);
        ret[32] = '\0';
        return hex_lower_valid(ret, 32);
    }
    (void)snprintf(path, sizeof(path), "/sys/block/loop%u/loop/backing_file", l->number);
    return fs_read_line(path, file, sizeof(file), NULL) == 0 && hash_in_path(file, ret);
}

static int give_attachment(void *ctx, const struct file_loop *l, struct error *err UNUSED)
{
    struct each *e = ctx;
    struct volume_id id = { .pool = "" };
    struct stat image;

    if (!hash_hint(l, id.hash))
        return 0;
    memcpy(id.pool, e->pool->config->name, sizeof(id.pool));
    memcpy(id.pool_tag, e->pool->tag, sizeof(id.pool_tag));
    if (stat_image(e->root, &id, &image) < 0 || !file_loop_shows(l, &image))
        return 0;
    const struct attachment a = attachment_of(l);
    return e->cb(e->ctx, &id, &a) ? 0 : 1;
}

int file_each_attachment(struct pool *pool,
                         bool (*cb)(void *ctx, const struct volume_id *id,
                                    const struct attachment *a),
                         void *ctx, struct error *err)
{
    AUTO_CLOSE int root = -1;
    struct each e = { .pool = pool, .cb = cb, .ctx = ctx };

    if (file_root_open(pool, &root, err) < 0)
        return -1;
    e.root = root;
    return file_each_loop(give_attachment, &e, err) < 0 ? -1 : 0;
}

/* ---- detach ---- */

struct wanted {
    const struct stat *image;
    dev_t dev;
    struct file_loop loop;
};

static int find_wanted(void *ctx, const struct file_loop *l, struct error *err UNUSED)
{
    struct wanted *w = ctx;

    if (l->dev != w->dev || !file_loop_shows(l, w->image))
        return 0;
    w->loop = *l;
    return 1;
}

/* O_EXCL refuses what a mount or a mapping holds. Somebody who opens it after us keeps it: the
 * kernel then detaches it with its last user. */
static int clear(const struct wanted *w, struct error *err)
{
    AUTO_CLOSE int fd = open(w->loop.path, O_RDONLY | O_EXCL | O_NOFOLLOW | O_CLOEXEC);
    struct file_loop now = w->loop;
    struct stat st;

    if (fd < 0)
        return error_errno(err, errno, "open %s for detaching it", w->loop.path);
    if (fstat(fd, &st) < 0 || !S_ISBLK(st.st_mode) || st.st_rdev != w->dev ||
        ioctl(fd, LOOP_GET_STATUS64, &now.info) < 0 || !file_loop_shows(&now, w->image))
        return error_set(err, ERR_ABORTED, "%s has changed meanwhile", w->loop.path);
    if (ioctl(fd, LOOP_CLR_FD, 0) < 0 && errno != ENXIO)
        return error_errno(err, errno, "detach %s", w->loop.path);
    return 0;
}

int file_detach(struct volume *v, dev_t dev, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    struct stat image;
    struct wanted w = { .image = &image, .dev = dev };
    int r;

    if (file_image_open(v, O_RDONLY, &fd, &image, err) < 0)
        return file_place_error(v->pool, &v->id, err);
    r = file_each_loop(find_wanted, &w, err);
    if (r <= 0)
        return r;
    if (!file_loop_usable(&w.loop))
        return error_set(err, ERR_PRECONDITION, "%s was not attached by Coffer", w.loop.path);
    return clear(&w, err);
}

/* ---- who has a lock open ---- */

struct lock_search {
    struct pool *pool;
    bool (*cb)(void *ctx, const struct volume_id *id, const char *pid);
    void *ctx;
};

/* "<pool's path>/volumes/3f/3f0c…/lock" */
static bool volume_of_lock(const struct pool *pool, const char *file, struct volume_id *ret)
{
    struct volume_id id = { .pool = "" };
    char wanted[4096 + FILE_PLACE_MAX + 16], place[FILE_PLACE_MAX];

    if (!hash_in_path(file, id.hash))
        return false;
    file_place_name(&id, place);
    (void)snprintf(wanted, sizeof(wanted), "%s/%s/" FILE_LOCK, pool->config->path, place);
    if (strcmp(file, wanted) != 0)
        return false;
    memcpy(id.pool, pool->config->name, sizeof(id.pool));
    memcpy(id.pool_tag, pool->tag, sizeof(id.pool_tag));
    *ret = id;
    return true;
}

/* false: the caller wants no more. */
static bool look_at_process(const struct lock_search *s, const char *pid)
{
    char path[64], link[320], file[4400];
    const struct dirent *e;
    struct volume_id id;
    bool more = true;

    (void)snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return true;
    while (more && (e = readdir(dir)) != NULL) {
        (void)snprintf(link, sizeof(link), "%s/%.255s", path, e->d_name);
        ssize_t n = readlink(link, file, sizeof(file) - 1);
        file[n < 0 ? 0 : n] = '\0';
        if (n > 0 && volume_of_lock(s->pool, file, &id))
            more = s->cb(s->ctx, &id, pid);
    }
    (void)closedir(dir);
    return more;
}

int file_each_lock_holder(struct pool *pool,
                          bool (*cb)(void *ctx, const struct volume_id *id, const char *pid),
                          void *ctx, struct error *err)
{
    const struct lock_search s = { .pool = pool, .cb = cb, .ctx = ctx };
    const struct dirent *e;
    bool more = true;
    DIR *dir = opendir("/proc");

    if (dir == NULL)
        return error_errno(err, errno, "read directory '/proc'");
    while (more && (e = readdir(dir)) != NULL)
        more = e->d_name[0] < '1' || e->d_name[0] > '9' || look_at_process(&s, e->d_name);
    (void)closedir(dir);
    return 0;
}

/* ---- probe ---- */

static void look_at_fs(int root, struct pool_probe *ret)
{
    static const struct {
        uint32_t magic;
        const char *name;
    } known[] = {
        { EXT4_SUPER_MAGIC, "ext4" },
        { XFS_SUPER_MAGIC, "xfs" },
        { BTRFS_SUPER_MAGIC, "btrfs" },
        { TMPFS_MAGIC, "tmpfs" },
        { NFS_SUPER_MAGIC, "nfs" },
        { OVERLAYFS_SUPER_MAGIC, "overlay" },
        { F2FS_SUPER_MAGIC, "f2fs" },
        { V9FS_MAGIC, "9p" },
        { FUSE_SUPER_MAGIC, "fuse" },
        { 0x2fc12fc1, "zfs" },
        { (uint32_t)SMB2_SUPER_MAGIC, "smb2" },
    };
    struct statfs st;

    if (fstatfs(root, &st) < 0) {
        (void)snprintf(ret->fs, sizeof(ret->fs), "?");
        return;
    }
    ret->total = (uint64_t)st.f_blocks * (uint64_t)st.f_frsize;
    ret->free = (uint64_t)st.f_bavail * (uint64_t)st.f_frsize;
    (void)snprintf(ret->fs, sizeof(ret->fs), "0x%lx", (unsigned long)st.f_type);
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (known[i].magic == (uint32_t)st.f_type)
            (void)snprintf(ret->fs, sizeof(ret->fs), "%s", known[i].name);
    }
}

/* A file without a name: a kill leaves nothing. */
int file_probe(struct pool *pool, struct pool_probe *ret, struct error *err)
{
    AUTO_CLOSE int root = -1, plain = -1, direct = -1;
    struct pool_probe p = { .tried = false };

    if (file_root_open(pool, &root, err) < 0)
        return -1;
    look_at_fs(root, &p);
    plain = openat(root, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (plain < 0) {
        (void)snprintf(p.problem, sizeof(p.problem), "make a file without a name in it: %s",
                       strerror(errno));
        *ret = p;
        return 0;
    }
    direct = openat(root, ".", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
    p.tried = true;
    p.direct_io = direct >= 0;
    p.reserves_space = fallocate(plain, 0, 0, (off_t)MIB(1)) == 0 || errno != EOPNOTSUPP;
    *ret = p;
    return 0;
}
