/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/host_store.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define VOLUMES       "volumes"
#define STAGING       "staging"
#define SUFFIX        ".json"
#define FILE_NAME_MAX (HOST_VOLUME_NAME_MAX + 8)
#define LOCK_PAUSE_MS 50u

/* ---- folders ---- */

static int folder(const char *root, const char *name, char ret[HOST_PATH_MAX], struct error *err)
{
    int n = snprintf(ret, HOST_PATH_MAX, "%s/%s", root, name);
    if (n < 0 || n >= HOST_PATH_MAX)
        return error_set(err, ERR_INVALID, "--state-dir '%.100s...' is too long", root);
    return 0;
}

int host_store_open(const char *path, struct host_store *ret, struct error *err)
{
    struct host_store s = HOST_STORE_INIT;
    char name[HOST_PATH_MAX];
    if (path[0] != '/')
        return error_set(err, ERR_INVALID, "--state-dir '%s' must be an absolute path", path);
    if (fs_mkdir_p(path, 0755, err) < 0)
        return -1;
    AUTO_FREE char *root = realpath(path, NULL);
    if (root == NULL)
        return error_errno(err, errno, "--state-dir '%s'", path);
    if (str_copy(s.root, sizeof(s.root), root) < 0)
        return error_set(err, ERR_INVALID, "--state-dir '%.100s...' is too long", path);
    if (folder(root, STAGING, name, err) < 0 || fs_mkdir_p(name, 0700, err) < 0 ||
        folder(root, VOLUMES, name, err) < 0 || fs_mkdir_p(name, 0700, err) < 0 ||
        fs_open_dir(name, &s.dir_fd, err) < 0)
        return -1;
    *ret = s;
    return 0;
}

void host_store_close(struct host_store *s)
{
    cleanup_close(&s->dir_fd);
    s->dir_fd = -1;
}

int host_store_staging(const struct host_store *s, const char *id, char ret[HOST_PATH_MAX],
                       struct error *err)
{
    char name[sizeof(STAGING) + VOLUME_ID_MAX + 2];
    (void)snprintf(name, sizeof(name), STAGING "/%s", id);
    return folder(s->root, name, ret, err);
}

/* ---- locks ---- */

static void lock_name(const char *name, char ret[FILE_NAME_MAX])
{
    (void)snprintf(ret, FILE_NAME_MAX, "%.63s.lock", name);
}

/* The holder may have removed the file while we waited for it: then ours is the lock of nothing. */
static bool is_still_there(const struct host_store *s, const char *file, int fd)
{
    struct stat ours, there;
    return fstat(fd, &ours) == 0 && fstatat(s->dir_fd, file, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

static int lock_once(const struct host_store *s, const char *file, int *ret_fd, struct error *err)
{
    AUTO_CLOSE int fd =
        openat(s->dir_fd, file, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, (mode_t)0600);
    if (fd < 0)
        return error_errno(err, errno, "open '%s/" VOLUMES "/%s'", s->root, file);
    if (fs_flock(fd, file, err) < 0)
        return -1;
    if (!is_still_there(s, file, fd))
        return error_set(err, ERR_ABORTED, "'%s' was removed", file);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int host_lock_take(const struct host_store *s, const char *name, uint64_t deadline,
                   struct host_lock *ret, struct error *err)
{
    struct host_lock l = { .store = s, .fd = -1 };
    char file[FILE_NAME_MAX];
    if (str_copy(l.name, sizeof(l.name), name) < 0)
        return error_set(err, ERR_INVALID, "the name '%.100s' is too long", name);
    lock_name(name, file);
    while (lock_once(s, file, &l.fd, err) < 0) {
        if (err->code != ERR_ABORTED)
            return -1;
        if (deadline_left(deadline) == 0)
            return error_set(err, ERR_ABORTED, "another cofferctl is working on volume '%s'", name);
        sleep_ms(LOCK_PAUSE_MS);
    }
    *ret = l;
    return 0;
}

static void file_name(const char *name, char ret[FILE_NAME_MAX])
{
    (void)snprintf(ret, FILE_NAME_MAX, "%.63s" SUFFIX, name);
}

void host_lock_release(struct host_lock *l)
{
    char file[FILE_NAME_MAX];
    struct stat st;
    if (l->fd < 0)
        return;
    file_name(l->name, file);
    if (fstatat(l->store->dir_fd, file, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT) {
        lock_name(l->name, file);
        (void)unlinkat(l->store->dir_fd, file, 0);
    }
    cleanup_close(&l->fd);
    l->fd = -1;
}

/* ---- one volume ---- */

int host_store_load(const struct host_store *s, const char *name, struct host_volume *ret,
                    struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(HOST_VOLUME_MAX);
    AUTO_HOST_VOLUME struct host_volume v = HOST_VOLUME_INIT;
    char file[FILE_NAME_MAX];
    file_name(name, file);
    if (fs_read_at(s->dir_fd, file, HOST_VOLUME_MAX, &text, err) < 0)
        return err->code == ERR_NOT_FOUND
                   ? error_set(err, ERR_NOT_FOUND, "there is no volume '%s' on this host", name)
                   : -1;
    if (host_volume_decode(strbuf_text(&text), text.len, &v, err) < 0)
        return error_prefix(err, "'%s/" VOLUMES "/%s'", s->root, file);
    if (strcmp(v.name, name) != 0)
        return error_set(err, ERR_DATA_LOSS, "'%s/" VOLUMES "/%s' is volume '%s'", s->root, file,
                         v.name);
    *ret = v;
    v.context = NULL;
    return 0;
}

int host_store_save(const struct host_store *s, const struct host_volume *v, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(HOST_VOLUME_MAX);
    char file[FILE_NAME_MAX];
    file_name(v->name, file);
    if (host_volume_encode(v, &text, err) < 0)
        return -1;
    return fs_write_atomic_at(s->dir_fd, file, strbuf_text(&text), text.len, 0600, NULL, err);
}

int host_store_remove(const struct host_store *s, const char *name, struct error *err)
{
    char file[FILE_NAME_MAX];
    file_name(name, file);
    if (unlinkat(s->dir_fd, file, 0) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove '%s/" VOLUMES "/%s'", s->root, file);
    return fs_fsync_dir(s->dir_fd, VOLUMES, err);
}

/* ---- looking for one ---- */

typedef bool match_fn(const struct host_volume *v, const char *what);

static bool has_id(const struct host_volume *v, const char *id)
{
    return strcmp(v->id, id) == 0;
}

static bool has_path(const struct host_volume *v, const char *path)
{
    return host_volume_find_target(v, path) < v->n_targets;
}

/* "NAME.json" -> NAME; false for every other file. */
static bool name_of_file(const char *file, char ret[HOST_VOLUME_NAME_MAX + 1])
{
    size_t len = strlen(file), suffix = strlen(SUFFIX);
    if (len <= suffix || len - suffix > HOST_VOLUME_NAME_MAX ||
        strcmp(file + len - suffix, SUFFIX) != 0)
        return false;
    memcpy(ret, file, len - suffix);
    ret[len - suffix] = '\0';
    return true;
}

/* 1: it is this one. 0: it isn't, or it was just deleted. -1: it can't be read. */
static int try_one(const struct host_store *s, const char *name, match_fn *match, const char *what,
                   struct error *err)
{
    AUTO_HOST_VOLUME struct host_volume v = HOST_VOLUME_INIT;
    struct error local = ERROR_INIT;
    if (host_store_load(s, name, &v, &local) == 0)
        return match(&v, what) ? 1 : 0;
    if (local.code == ERR_NOT_FOUND)
        return 0;
    *err = local;
    return -1;
}

static void close_directory(DIR **d)
{
    if (*d != NULL)
        (void)closedir(*d);
}

static int search(const struct host_store *s, match_fn *match, const char *what,
                  char ret[HOST_VOLUME_NAME_MAX + 1], struct error *err)
{
    char name[HOST_VOLUME_NAME_MAX + 1];
    bool unreadable = false;
    AUTO_CLOSE int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    __attribute__((cleanup(close_directory))) DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (d == NULL)
        return error_errno(err, errno, "read '%s/" VOLUMES "'", s->root);
    fd = -1;
    const struct dirent *e;
    while (errno = 0, (e = readdir(d)) != NULL) {
        if (!name_of_file(e->d_name, name))
            continue;
        int r = try_one(s, name, match, what, err);
        unreadable = unreadable || r < 0;
        if (r <= 0)
            continue;
        memcpy(ret, name, sizeof(name));
        return 0;
    }
    if (errno != 0)
        return error_errno(err, errno, "read '%s/" VOLUMES "'", s->root);
    return unreadable ? -1 : error_set(err, ERR_NOT_FOUND, "nothing fits '%.200s'", what);
}

int host_store_find_id(const struct host_store *s, const char *id,
                       char ret[HOST_VOLUME_NAME_MAX + 1], struct error *err)
{
    struct error local = ERROR_INIT;
    if (search(s, has_id, id, ret, &local) == 0)
        return 0;
    if (local.code == ERR_NOT_FOUND)
        return error_set(err, ERR_NOT_FOUND,
                         "volume '%s' was not created by cofferctl on this host", id);
    *err = local;
    return -1;
}

int host_store_find_path(const struct host_store *s, const char *path,
                         char ret[HOST_VOLUME_NAME_MAX + 1], struct error *err)
{
    struct error local = ERROR_INIT;
    if (search(s, has_path, path, ret, &local) == 0)
        return 0;
    if (local.code == ERR_NOT_FOUND)
        return error_set(err, ERR_NOT_FOUND, "cofferctl mounted no volume at '%s'", path);
    *err = local;
    return -1;
}

int host_store_find(const struct host_store *s, const char *text,
                    char ret[HOST_VOLUME_NAME_MAX + 1], struct error *err)
{
    struct error ignored = ERROR_INIT;
    struct volume_id id;
    if (volume_id_parse(text, &id, &ignored) == 0)
        return host_store_find_id(s, text, ret, err);
    if (host_volume_name_check(text, err) < 0)
        return -1;
    return str_copy(ret, HOST_VOLUME_NAME_MAX + 1, text);
}
