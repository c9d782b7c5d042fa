/* SPDX-License-Identifier: Apache-2.0 */
/* Device nodes in --device-dir whose number is no longer their mapping's. Removing one takes
 * nothing from anybody who has it open. */
#include "common/base.h"
#include "node/reconcile.h"

#include "common/blockdev.h"
#include "common/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where nobody can say, it is: nothing is removed for that. */
static bool is_right(const char *name, dev_t dev)
{
    struct error local = ERROR_INIT;
    char live[256];

    if (blockdev_line(dev, "dm/name", live, sizeof(live), &local) < 0)
        return !blockdev_is_gone(&local);
    return strcmp(live, name) == 0;
}

static int look_at(struct reconcile *r, DIR *dir, const char *name, struct error *err)
{
    char hash[33], tag[9];
    struct stat st;

    if (fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : error_errno(err, errno, "stat device node '%s'", name);
    if (S_ISBLK(st.st_mode) && volume_dm_name_parse(name, hash, tag) == 0 &&
        is_right(name, st.st_rdev))
        return 0;
    struct candidate *c = reconcile_add(r, name, st.st_rdev);
    if (c == NULL)
        return error_memory(err);
    c->has_id = reconcile_id(reconcile_node(r), name, &c->id);
    return 0;
}

int stale_node_find(struct reconcile *r, struct error *err)
{
    const char *path = reconcile_node(r)->device_dir;
    const struct dirent *e;
    DIR *dir = opendir(path);
    int result = 0;

    if (dir == NULL)
        return errno == ENOENT ? 0 : error_errno(err, errno, "open '%s'", path);
    while (result == 0 && (e = readdir(dir)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            result = look_at(r, dir, e->d_name, err);
    }
    (void)closedir(dir);
    return result;
}

static int open_dir(const struct reconcile *r, int *ret, struct error *err)
{
    const char *path = reconcile_node(r)->device_dir;

    *ret = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret < 0 ? error_errno(err, errno, "open '%s'", path) : 0;
}

bool stale_node_judge(struct reconcile *r, struct node_op *op UNUSED, struct candidate *c,
                      struct finding *ret)
{
    AUTO_CLOSE int dir = -1;
    struct error local = ERROR_INIT;
    char hash[33], tag[9], number[DEV_TEXT_SIZE];
    struct stat st;

    if (open_dir(r, &dir, &local) < 0)
        return found(ret, "none", "%s", local.msg);
    if (fstatat(dir, c->what, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    if (!S_ISBLK(st.st_mode) || volume_dm_name_parse(c->what, hash, tag) < 0)
        return found(ret, "none", "it is no device node of a mapping: somebody else put it into %s",
                     reconcile_node(r)->device_dir);
    if (is_right(c->what, st.st_rdev))
        return false;
    if (!c->has_id)
        return found(ret, "none", "no pool that is there now has the tag in its name");
    blockdev_text(st.st_rdev, number);
    return found(ret, "unlink", "its number %s is %s", number,
                 blockdev_present(st.st_rdev) ? "another device's now" : "no device's any more");
}

int stale_node_act(struct reconcile *r, struct node_op *op UNUSED, struct candidate *c,
                   struct error *err)
{
    AUTO_CLOSE int dir = -1;

    if (open_dir(r, &dir, err) < 0)
        return -1;
    if (unlinkat(dir, c->what, 0) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove device node '%s'", c->what);
    return 0;
}
