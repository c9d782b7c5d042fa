/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who holds a mapping, from a /proc that other people's processes fill: byte 0 says where the
 * mapping shows; then the process's name and the path of its file, a NUL after each; the rest is
 * its mountinfo. Whatever they are called, the words fit into one line of an error.
 *
 * covers: common/holders.c common/fs.c:fs_read_line
 * but: on_our_mount holders_each holders_first holders_describe (numbers of the kernel; the same
 * below /)
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "common/holders.h"
#include "tests/support/tmpdir.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MAJOR 254u
#define MINOR 3u
#define STACK "sys/dev/block/254:3/holders"
enum { SHOWN_OPEN, SHOWN_CWD, SHOWN_MOUNT, SHOWN_STACKED, SHOWN_KINDS };

static struct tmpdir root;
static dev_t device; /* of files below root */

static void clean_up(void)
{
    tmpdir_remove(&root);
}

static void start(void)
{
    static const char *const dirs[] = {
        "proc",       "proc/7", "proc/7/fd", "files",         "proc/self",
        "proc/99999", "sys",    "sys/dev",   "sys/dev/block", "sys/dev/block/254:3",
        STACK
    };
    struct stat st;

    if (root.path[0] != '\0')
        return;
    root = tmpdir_make();
    must(atexit(clean_up) == 0);
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        must(mkdirat(root.fd, dirs[i], 0700) == 0);
    must(fstat(root.fd, &st) == 0);
    device = st.st_dev;
}

/* A file name of the text's characters. */
static const char *name_of(const char *text, char ret[NAME_MAX + 1])
{
    size_t len = strnlen(text, 200);

    memcpy(ret, text, len);
    ret[len] = '\0';
    for (char *p = ret; *p != '\0'; p++)
        if (*p == '/')
            *p = '_';
    if (ret[0] == '\0' || ret[0] == '.')
        ret[0] = '_';
    ret[1] = len == 0 ? '\0' : ret[1];
    return ret;
}

static dev_t show(unsigned kind, const char *file)
{
    char name[NAME_MAX + 1], path[PATH_MAX], link[] = "proc/7/fd/3";

    (void)name_of(file, name);
    (void)snprintf(path, sizeof(path), "%s/%s", kind == SHOWN_STACKED ? STACK : "files", name);
    AUTO_CLOSE int fd = openat(root.fd, path, O_CREAT | O_RDONLY | O_CLOEXEC, 0600);
    must(fd >= 0);
    (void)snprintf(path, sizeof(path), "%s/files/%s", root.path, name);
    if (kind == SHOWN_OPEN)
        must(symlinkat(path, root.fd, link) == 0);
    if (kind == SHOWN_CWD)
        must(symlinkat(path, root.fd, "proc/7/cwd") == 0);
    return kind == SHOWN_OPEN || kind == SHOWN_CWD ? device : makedev(MAJOR, MINOR);
}

static void hide(unsigned kind, const char *file)
{
    char name[NAME_MAX + 1], path[PATH_MAX];

    (void)name_of(file, name);
    (void)snprintf(path, sizeof(path), "%s/%s", kind == SHOWN_STACKED ? STACK : "files", name);
    must(unlinkat(root.fd, path, 0) == 0);
    (void)unlinkat(root.fd, "proc/7/fd/3", 0);
    (void)unlinkat(root.fd, "proc/7/cwd", 0);
}

static void check(dev_t mapping)
{
    char who[320];
    struct error err = ERROR_INIT;

    mark(who, sizeof(who));
    holders_describe_below(root.path, mapping, who, sizeof(who));
    must(strnlen(who, sizeof(who)) < sizeof(who) && who[0] != '\0');
    (void)error_set(&err, ERR_ABORTED, "volume 'x' is busy: %s", who);
    must_be_sentence(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = size < 3 ? NULL : malloc(size);

    if (text == NULL)
        return 0;
    start();
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    size_t comm = strlen(text), at = comm < size - 1 ? comm + 1 : comm;
    size_t file = strlen(text + at), rest = at + file < size - 1 ? at + file + 1 : at + file;

    tmpdir_write(&root, "proc/7/comm", text, comm);
    tmpdir_write(&root, "proc/7/mountinfo", text + rest, size - 1 - rest);
    unsigned kind = data[0] % SHOWN_KINDS;
    dev_t mapping = show(kind, text + at);
    check(mapping);
    hide(kind, text + at);
    return 0;
}
