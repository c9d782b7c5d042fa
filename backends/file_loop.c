/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image as a block device. A loop is known by device and inode of its file (LOOP_GET_STATUS64):
 * the path that sysfs shows changes with mount namespaces. Loops clear themselves with their last
 * user (LO_FLAGS_AUTOCLEAR), so a killed process leaves none behind. The logical block size is
 * dm-crypt's sector size: each request of the mapping is then one aligned direct I/O on the image.
 */
#include "common/base.h"
#include "backends/file.h"

#include "common/deadline.h"
#include "common/fault.h"
#include "common/parse.h"
#include "volume/geometry.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define LOOP_CONTROL       "/dev/loop-control"
#define LOOP_CONTROL_MAJOR 10 /* misc */
#define LOOP_CONTROL_MINOR 237
#define CONFIGURE_TRIES    200

/* ---- device nodes ---- */

/* A container's /dev may lack the node: make it, for us alone. What is opened is checked all the
 * same. */
static int open_node(const char *path, mode_t type, dev_t dev, int flags, int *ret_fd,
                     struct error *err)
{
    AUTO_CLOSE int fd = open(path, flags | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0 && errno == ENOENT) {
        if (mknod(path, type | 0600, dev) < 0 && errno != EEXIST)
            return error_errno(err, errno, "make the device node '%s'", path);
        fd = open(path, flags | O_NOFOLLOW | O_CLOEXEC);
    }
    if (fd < 0)
        return error_errno(err, errno, "open '%s'", path);
    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "stat '%s'", path);
    if ((st.st_mode & S_IFMT) != type || st.st_rdev != dev)
        return error_set(err, ERR_PRECONDITION, "'%s' is not the node of device %u:%u", path,
                         major(dev), minor(dev));
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int open_loop(unsigned number, int flags, struct block_device *ret, struct error *err)
{
    struct block_device d = BLOCK_DEVICE_INIT;
    char path[64], text[32];

    (void)snprintf(path, sizeof(path), "/sys/block/loop%u/dev", number);
    if (fs_read_line(path, text, sizeof(text), err) < 0)
        return -1;
    if (parse_dev(text, &d.dev) < 0)
        return error_set(err, ERR_INTERNAL, "'%s' holds no device number", path);
    (void)snprintf(d.path, sizeof(d.path), "/dev/loop%u", number);
    if (open_node(d.path, S_IFBLK, d.dev, flags, &d.fd, err) < 0)
        return -1;
    *ret = d;
    return 0;
}

/* ---- finding ---- */

/* 1 yes, 0 no. What can't be looked at isn't "no": a second loop over the image would follow. */
static int is_bound(unsigned number, struct error *err)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/sys/block/loop%u/loop/backing_file", number);
    if (access(path, F_OK) == 0)
        return 1;
    return errno == ENOENT ? 0 : error_errno(err, errno, "look for '%s'", path);
}

static bool is_gone(int sys_errno)
{
    return sys_errno == ENXIO || sys_errno == ENODEV || sys_errno == ENOENT;
}

bool file_loop_shows(const struct file_loop *l, const struct stat *image)
{
    return l->info.lo_device == image->st_dev && l->info.lo_inode == image->st_ino;
}

bool file_loop_usable(const struct file_loop *l)
{
    return l->info.lo_offset == 0 && l->info.lo_sizelimit == 0 &&
           (l->info.lo_flags & LO_FLAGS_READ_ONLY) == 0;
}

/* 1: it has a file; 0: none, or it went away meanwhile. */
static int read_loop(unsigned number, struct file_loop *ret, struct error *err)
{
    AUTO_BLOCK_DEVICE struct block_device d = BLOCK_DEVICE_INIT;
    struct error local = ERROR_INIT;
    struct file_loop l = { .number = number };
    int bound = is_bound(number, err);

    if (bound <= 0)
        return bound;
    if (open_loop(number, O_RDONLY, &d, &local) < 0)
        return is_gone(local.sys_errno) ? 0 : error_pass(err, &local);
    if (ioctl(d.fd, LOOP_GET_STATUS64, &l.info) < 0)
        return is_gone(errno) ? 0 : error_errno(err, errno, "ask %s for its file", d.path);
    l.dev = d.dev;
    memcpy(l.path, d.path, sizeof(l.path));
    *ret = l;
    return 1;
}

static bool loop_number(const char *name, unsigned *ret)
{
    uint64_t n;

    if (strncmp(name, "loop", 4) != 0 || parse_u64(name + 4, &n) < 0 || n > UINT32_MAX)
        return false;
    *ret = (unsigned)n;
    return true;
}

static int each_loop(DIR *d, int (*cb)(void *ctx, const struct file_loop *l, struct error *err),
                     void *ctx, struct error *err)
{
    const struct dirent *e;
    struct file_loop l;
    unsigned number;

    for (errno = 0; (e = readdir(d)) != NULL; errno = 0) {
        int r = loop_number(e->d_name, &number) ? read_loop(number, &l, err) : 0;

        if (r > 0)
            r = cb(ctx, &l, err);
        if (r != 0)
            return r;
    }
    return errno != 0 ? error_errno(err, errno, "read directory '/sys/block'") : 0;
}

int file_each_loop(int (*cb)(void *ctx, const struct file_loop *l, struct error *err), void *ctx,
                   struct error *err)
{
    DIR *d = opendir("/sys/block");
    int r;

    if (d == NULL)
        return error_errno(err, errno, "read directory '/sys/block'");
    r = each_loop(d, cb, ctx, err);
    (void)closedir(d);
    return r;
}

struct search {
    const struct stat *image;
    unsigned found; /* number of the loop */
    unsigned matches;
};

static int look_at(void *ctx, const struct file_loop *l, struct error *err)
{
    struct search *s = ctx;

    if (!file_loop_shows(l, s->image))
        return 0;
    if (!file_loop_usable(l))
        return error_set(err, ERR_PRECONDITION,
                         "the image is attached as %s in a way that is not ours (read-only, or a "
                         "part of it): detach that",
                         l->path);
    s->found = l->number;
    s->matches++;
    return 0;
}

/* *ret stays untouched when no loop has the file. Looks at all: two loops over one image have two
 * page caches, and neither is right. */
static int find_attached(const struct stat *image, struct block_device *ret, struct error *err)
{
    struct search s = { .image = image };
    struct error local = ERROR_INIT;

    if (file_each_loop(look_at, &s, err) < 0)
        return -1;
    if (s.matches == 0)
        return 0;
    if (s.matches > 1)
        return error_set(err, ERR_PRECONDITION,
                         "the image is attached to %u loop devices; one is /dev/loop%u", s.matches,
                         s.found);
    if (open_loop(s.found, O_RDWR, ret, &local) == 0 || is_gone(local.sys_errno))
        return 0;
    return error_pass(err, &local);
}

/* Between the look and our open its last user may have gone: then it is another file's, or
 * nobody's, and closed. */
static int keep_if_attached(struct block_device *d, const struct stat *image, struct error *err)
{
    struct loop_info64 info;
    int failed = ioctl(d->fd, LOOP_GET_STATUS64, &info) < 0 ? errno : 0;

    if (failed != 0 && !is_gone(failed))
        return error_errno(err, failed, "ask %s for its file", d->path);
    if (failed != 0 || info.lo_device != image->st_dev || info.lo_inode != image->st_ino)
        block_device_close(d);
    return 0;
}

/* ---- attaching ---- */

struct attaching {
    int image_fd;
    const char *label; /* what losetup shows */
    bool read_only;
};

static int configure(const struct attaching *a, struct block_device *d, bool *ret_busy,
                     struct error *err)
{
    struct loop_config c = { .fd = (uint32_t)a->image_fd, .block_size = GEOMETRY_SECTOR };

    /* The kernel drops DIRECT_IO by itself where the file system can't. */
    c.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    if (a->read_only)
        c.info.lo_flags |= LO_FLAGS_READ_ONLY;
    (void)snprintf((char *)c.info.lo_file_name, LO_NAME_SIZE, "%s", a->label);
    *ret_busy = false;
    if (ioctl(d->fd, LOOP_CONFIGURE, &c) == 0)
        return 0;
    *ret_busy = errno == EBUSY || is_gone(errno);
    return *ret_busy ? 0 : error_errno(err, errno, "attach the image to %s", d->path);
}

static int try_attach(int control, const struct attaching *a, struct block_device *ret,
                      bool *ret_busy, struct error *err)
{
    AUTO_BLOCK_DEVICE struct block_device d = BLOCK_DEVICE_INIT;
    struct error local = ERROR_INIT;
    int number = ioctl(control, LOOP_CTL_GET_FREE);

    if (number < 0)
        return error_errno(err, errno, "get a free loop device");
    if (open_loop((unsigned)number, a->read_only ? O_RDONLY : O_RDWR, &d, &local) < 0) {
        *ret_busy = is_gone(local.sys_errno) || local.sys_errno == EBUSY;
        return *ret_busy ? 0 : error_pass(err, &local);
    }
    if (configure(a, &d, ret_busy, err) < 0)
        return -1;
    if (*ret_busy)
        return 0;
    FAULT_POINT("file:attach:configured");
    d.attached_now = true;
    *ret = d;
    d.fd = -1;
    return 0;
}

/* GET_FREE reserves nothing: others who got the same number make CONFIGURE say EBUSY. */
static int attach_new(const struct attaching *a, struct block_device *ret, struct error *err)
{
    AUTO_CLOSE int control = -1;
    bool busy = true;

    if (open_node(LOOP_CONTROL, S_IFCHR, makedev(LOOP_CONTROL_MAJOR, LOOP_CONTROL_MINOR), O_RDWR,
                  &control, err) < 0)
        return -1;
    for (unsigned i = 0; i < CONFIGURE_TRIES && busy; i++) {
        if (i > 0)
            sleep_ms(1 + i / 8);
        if (try_attach(control, a, ret, &busy, err) < 0)
            return -1;
    }
    return busy ? error_set(err, ERR_ABORTED,
                            "each free loop device was taken by somebody else first")
                : 0;
}

static int check_size(struct volume *v, const struct stat *image, struct error *err)
{
    struct record r;

    if (file_read_record(v, &r, err) < 0)
        return -1;
    if ((uint64_t)image->st_size >= r.size + GEOMETRY_DATA_OFFSET)
        return 0;
    return error_set(
        err, ERR_DATA_LOSS, "the image has %llu bytes, but %llu are needed for a volume of %llu",
        (unsigned long long)image->st_size, (unsigned long long)(r.size + GEOMETRY_DATA_OFFSET),
        (unsigned long long)r.size);
}

int file_refresh(struct volume *v, struct block_device *dev, struct error *err)
{
    if (ioctl(dev->fd, LOOP_SET_CAPACITY, 0) < 0)
        return error_errno(err, errno, "make %s as large as its image", dev->path);
    FAULT_POINT("file:refresh:done");
    return 0;
}

static int attach(struct volume *v, struct block_device *ret, struct error *err)
{
    AUTO_BLOCK_DEVICE struct block_device d = BLOCK_DEVICE_INIT;
    AUTO_CLOSE int image_fd = -1;
    struct stat image;
    char label[LO_NAME_SIZE];

    if (file_image_open(v, O_RDWR, &image_fd, &image, err) < 0 || check_size(v, &image, err) < 0 ||
        find_attached(&image, &d, err) < 0)
        return -1;
    if (d.fd >= 0 && keep_if_attached(&d, &image, err) < 0)
        return -1;
    (void)snprintf(label, sizeof(label), "coffer-%s", v->id.hash);
    const struct attaching a = { .image_fd = image_fd, .label = label };
    if (d.fd >= 0 ? file_refresh(v, &d, err) < 0 : attach_new(&a, &d, err) < 0)
        return -1;
    *ret = d;
    d.fd = -1;
    return 0;
}

int file_attach(struct volume *v, struct block_device *ret, struct error *err)
{
    return attach(v, ret, err) < 0 ? file_place_error(v->pool, &v->id, err) : 0;
}

int file_loop_look(int image_fd, struct block_device *ret, struct error *err)
{
    const struct attaching a = { .image_fd = image_fd, .label = "coffer-look", .read_only = true };

    return attach_new(&a, ret, err);
}
