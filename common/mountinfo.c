/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/mountinfo.h"

#include "common/btrfs.h"
#include "common/fs.h"
#include "common/parse.h"
#include "common/strbuf.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOUNTINFO_MAX MIB(64) /* a node with 10,000 pods has some 10 MiB */

static void entry_release(struct mount_entry *e)
{
    free(e->root);
    free(e->point);
    free(e->fs_type);
    free(e->source);
}

void mount_table_release(struct mount_table *t)
{
    for (size_t i = 0; i < t->n; i++)
        entry_release(&t->items[i]);
    free(t->items);
    *t = (struct mount_table){ .items = NULL, .n = 0 };
}

static bool octal(char c)
{
    return c >= '0' && c <= '7';
}

/* The kernel writes space, tab, newline and backslash as \ooo. */
static char *unescape(const char *text, size_t len)
{
    char *out = malloc(len + 1);
    size_t n = 0;

    if (out == NULL)
        return NULL;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\\' && i + 3 < len && octal(text[i + 1]) && octal(text[i + 2]) &&
            octal(text[i + 3])) {
            out[n++] =
                (char)((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
            i += 3;
        } else {
            out[n++] = text[i];
        }
    }
    out[n] = '\0';
    return out;
}

#define MAX_FIELDS 64

struct field {
    const char *text;
    size_t len;
};

/* One space ends one field: a mount without a source has an empty one. */
static size_t split_fields(const char *line, size_t len, struct field f[MAX_FIELDS])
{
    size_t n = 0, start = 0;

    for (size_t i = 0; i <= len && n < MAX_FIELDS; i++) {
        if (i < len && line[i] != ' ')
            continue;
        f[n++] = (struct field){ .text = line + start, .len = i - start };
        start = i + 1;
    }
    return n;
}

static bool has_option(const struct field *f, const char *option)
{
    size_t want = strlen(option);

    for (size_t i = 0; i < f->len;) {
        size_t end = i;
        while (end < f->len && f->text[end] != ',')
            end++;
        if (end - i == want && memcmp(f->text + i, option, want) == 0)
            return true;
        i = end + 1;
    }
    return false;
}

#define NUMBER_TEXT_MAX 24 /* of a mount id or a device number, with the NUL */

static int copy_number(const struct field *f, char ret[NUMBER_TEXT_MAX])
{
    if (f->len >= NUMBER_TEXT_MAX)
        return -1;
    memcpy(ret, f->text, f->len);
    ret[f->len] = '\0';
    return 0;
}

static int number_of(const struct field *f, uint64_t *ret)
{
    char text[NUMBER_TEXT_MAX];

    return copy_number(f, text) < 0 ? -1 : parse_u64(text, ret);
}

static int dev_of(const struct field *f, dev_t *ret)
{
    char text[NUMBER_TEXT_MAX];

    return copy_number(f, text) < 0 ? -1 : parse_dev(text, ret);
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue" */
static int parse_line(const char *line, size_t len, struct mount_entry *ret)
{
    struct field f[MAX_FIELDS];
    size_t n = split_fields(line, len, f), dash = 6;

    while (dash < n && !(f[dash].len == 1 && f[dash].text[0] == '-'))
        dash++;
    if (dash + 3 >= n || number_of(&f[0], &ret->id) < 0 || number_of(&f[1], &ret->parent) < 0 ||
        dev_of(&f[2], &ret->dev) < 0 || f[3].len == 0 || f[4].len == 0 || f[dash + 1].len == 0)
        return -1;
    ret->root = unescape(f[3].text, f[3].len);
    ret->point = unescape(f[4].text, f[4].len);
    ret->fs_type = unescape(f[dash + 1].text, f[dash + 1].len);
    ret->source = unescape(f[dash + 2].text, f[dash + 2].len);
    ret->no_symlinks = has_option(&f[5], "nosymfollow");
    ret->failed = !has_option(&f[5], "ro") && has_option(&f[dash + 3], "ro");
    ret->read_only = ret->failed || has_option(&f[5], "ro");
    return 0;
}

static int add_entry(struct mount_table *t, const struct mount_entry *e)
{
    /* grows by doubling: n is a power of two when the room is used up */
    if ((t->n & (t->n - 1)) == 0) {
        struct mount_entry *items =
            reallocarray(t->items, t->n == 0 ? 1 : t->n * 2, sizeof(*items));
        if (items == NULL)
            return -1;
        t->items = items;
    }
    t->items[t->n++] = *e;
    return 0;
}

static int parse_lines(const char *text, size_t len, struct mount_table *t, struct error *err)
{
    for (size_t at = 0; at < len;) {
        const char *newline = memchr(text + at, '\n', len - at);
        size_t end = newline != NULL ? (size_t)(newline - text) : len;
        struct mount_entry e = { .root = NULL };

        if (parse_line(text + at, end - at, &e) < 0)
            return error_set(err, ERR_INTERNAL, "mountinfo has a line that isn't one: '%.*s'",
                             (int)(end - at > 200 ? 200 : end - at), text + at);
        if (e.root == NULL || e.point == NULL || e.fs_type == NULL || e.source == NULL ||
            add_entry(t, &e) < 0) {
            entry_release(&e);
            return error_memory(err);
        }
        at = end + 1;
    }
    return 0;
}

int mount_table_parse(const char *text, size_t len, struct mount_table *ret, struct error *err)
{
    AUTO_MOUNT_TABLE struct mount_table t = { .items = NULL, .n = 0 };

    if (parse_lines(text, len, &t, err) < 0)
        return -1;
    *ret = t;
    t = (struct mount_table){ .items = NULL, .n = 0 };
    return 0;
}

int mount_table_read(const char *path, struct mount_table *ret, struct error *err)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(MOUNTINFO_MAX);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return error_errno(err, errno, "open '%s'", path);
    if (fs_read_fd(fd, path, MOUNTINFO_MAX, &sb, err) < 0)
        return -1;
    return mount_table_parse(strbuf_text(&sb), sb.len, ret, err);
}

int mount_table_load(struct mount_table *ret, struct error *err)
{
    return mount_table_read("/proc/self/mountinfo", ret, err);
}

/* Another mount lies on this one, at the same path. (The root's parent may be itself.) */
static bool covered(const struct mount_table *t, const struct mount_entry *e)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct mount_entry *upper = &t->items[i];
        if (upper->parent == e->id && upper != e && strcmp(upper->point, e->point) == 0)
            return true;
    }
    return false;
}

/* By parents: since Linux 6.8 the lines are in the order in which mounts were made, not attached.
 * Of two that don't cover each other the earlier one is hidden below a mount further up. */
const struct mount_entry *mount_table_at(const struct mount_table *t, const char *path)
{
    const struct mount_entry *found = NULL;

    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->items[i].point, path) == 0 && !covered(t, &t->items[i]))
            found = &t->items[i];
    return found;
}

static bool is_device_file_system(const char *fs_type)
{
    return strcmp(fs_type, "devtmpfs") == 0 || strcmp(fs_type, "tmpfs") == 0;
}

/* A bind mount of one block device node. A whole file system has the root "/" and is none: its
 * path isn't looked at, since that could wait for somebody's server. */
static bool is_node(const struct mount_entry *entry, struct stat *ret)
{
    return is_device_file_system(entry->fs_type) && strcmp(entry->root, "/") != 0 &&
           stat(entry->point, ret) == 0 && S_ISBLK(ret->st_mode);
}

static bool is_btrfs(const struct mount_entry *e)
{
    return strcmp(e->fs_type, "btrfs") == 0;
}

static bool source_device(const struct mount_entry *e, dev_t *ret)
{
    struct stat st;

    if (stat(e->source, &st) < 0 || !S_ISBLK(st.st_mode))
        return false;
    *ret = st.st_rdev;
    return true;
}

bool mount_lies_on(const struct mount_entry *entry, dev_t device)
{
    dev_t found = 0;

    return entry->dev == device ||
           (is_btrfs(entry) && source_device(entry, &found) && found == device);
}

/* Whoever scans devices (a host's udev) gives a btrfs's source another name, and this process may
 * have no node of that name. Then the kernel is asked by way of the mount itself; that costs more,
 * and can't be done for a mount that another one covers. */
static bool btrfs_is_on(const struct mount_entry *e, dev_t mapping)
{
    dev_t found = 0;
    struct statx st;

    if (source_device(e, &found))
        return found == mapping;
    AUTO_CLOSE int fd = open(e->point, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) == 0 &&
           (st.stx_mask & STATX_MNT_ID) != 0 && st.stx_mnt_id == e->id &&
           btrfs_device(fd, &found, NULL) == 0 && found == mapping;
}

enum mount_match mount_match(const struct mount_entry *entry, dev_t mapping)
{
    struct stat st;

    if (entry == NULL)
        return MOUNT_NONE;
    if (entry->dev == mapping || (is_node(entry, &st) && st.st_rdev == mapping) ||
        (is_btrfs(entry) && btrfs_is_on(entry, mapping)))
        return MOUNT_OURS;
    return MOUNT_FOREIGN;
}

/* Where the node's own path ends in entry->root. */
static const char *end_of_root(const struct mount_entry *entry)
{
    static const char gone[] = "//deleted"; /* the kernel's mark of a file that was unlinked */
    const char *end = entry->root + strlen(entry->root);

    if ((size_t)(end - entry->root) >= sizeof(gone) - 1 &&
        strcmp(end - (sizeof(gone) - 1), gone) == 0)
        end -= sizeof(gone) - 1;
    return end;
}

bool mount_is_node(const struct mount_entry *entry, const char *name)
{
    const char *end = end_of_root(entry);
    size_t len = strlen(name);
    struct stat st;

    return (size_t)(end - entry->root) > len && end[-(ptrdiff_t)len - 1] == '/' &&
           memcmp(end - len, name, len) == 0 && is_node(entry, &st);
}

bool mount_node_name(const struct mount_entry *entry, char *ret, size_t size, dev_t *ret_dev)
{
    const char *end = end_of_root(entry), *name = end;
    struct stat st;

    while (name > entry->root && name[-1] != '/')
        name--;
    if (name == entry->root || name == end || (size_t)(end - name) >= size || !is_node(entry, &st))
        return false;
    memcpy(ret, name, (size_t)(end - name));
    ret[end - name] = '\0';
    *ret_dev = st.st_rdev;
    return true;
}
