/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/mount_point.h"

#include "common/cleanup.h"
#include "common/strbuf.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/stat.h>
#include <sys/stat.h>

int mount_point_at(const char *path, bool *ret, struct error *err)
{
    struct statx st;
    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &st) < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return error_errno(err, errno, "look at '%s'", path);
        *ret = false;
        return 0;
    }
    if ((st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) == 0)
        return error_set(err, ERR_UNIMPLEMENTED,
                         "this kernel doesn't say what is mounted (statx, since Linux 5.8)");
    *ret = (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
    return 0;
}

/* realpath(3) wants all of it to exist: take the last part off and put it back. */
static int path_of_missing(const char *text, char *ret, size_t size, struct error *err)
{
    AUTO_FREE char *copy = strdup(text);
    if (copy == NULL)
        return error_memory(err);
    for (size_t len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--)
        copy[len - 1] = '\0';
    char *slash = strrchr(copy, '/');
    const char *last = slash != NULL ? slash + 1 : copy;
    if (last[0] == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
        return error_set(err, ERR_NOT_FOUND, "'%s': No such file or directory", text);
    AUTO_FREE char *name = strdup(last);
    if (slash != NULL)
        slash[slash == copy ? 1 : 0] = '\0';
    AUTO_FREE char *folder = realpath(slash != NULL ? copy : ".", NULL);
    if (folder == NULL)
        return error_errno(err, errno, "the folder of '%s'", text);
    int n = snprintf(ret, size, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder,
                     name != NULL ? name : "");
    if (name == NULL || n < 0 || (size_t)n >= size)
        return error_set(err, ERR_INVALID, "the path '%.200s' is too long", text);
    return 0;
}

int mount_point_path(const char *text, char *ret, size_t size, struct error *err)
{
    AUTO_FREE char *whole = realpath(text, NULL);
    if (whole == NULL)
        return errno == ENOENT ? path_of_missing(text, ret, size, err)
                               : error_errno(err, errno, "'%.200s'", text);
    if (strcmp(whole, "/") == 0)
        return error_set(err, ERR_INVALID, "the root directory can't be a mount point of a volume");
    if (str_copy(ret, size, whole) < 0)
        return error_set(err, ERR_INVALID, "the path '%.200s' is too long", text);
    return 0;
}
