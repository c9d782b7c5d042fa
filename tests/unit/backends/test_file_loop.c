/* SPDX-License-Identifier: Apache-2.0 */
/* Needs root and loop devices; skipped elsewhere. */
#include "common/base.h"
#include "tests/unit/backends/fixture.h"
#include "tests/support/skip.h"
#include "tests/support/namespace.h"

#include <errno.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>

static int status_fails; /* the errno of asking a writable loop for its file; 0: it works */

/* In place of the C library's. */
int ioctl(int fd, unsigned long request, ...)
{
    va_list args;

    va_start(args, request);
    void *arg = va_arg(args, void *);
    va_end(args);
    if (request == LOOP_GET_STATUS64 && status_fails != 0 &&
        (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR) {
        errno = status_fails;
        return -1;
    }
    return (int)syscall(SYS_ioctl, fd, request, arg);
}

static bool can_loop(void)
{
    int fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return false;
    (void)close(fd);
    return true;
}

#define NEEDS_LOOPS()                    \
    do {                                 \
        if (!can_loop()) {               \
            skip_because(SKIP_NO_LOOPS); \
            return;                      \
        }                                \
    } while (0)

static void open_volume(struct fixture *f, const char *name, struct volume *v)
{
    struct volume_id id = fixture_volume(f, 0, name);
    struct error err = ERROR_INIT;

    assert_ok(volume_open(f->set->pools[0], &id, false, v, &err), err);
}

static uint64_t device_size(int fd)
{
    uint64_t bytes = 0;

    assert_int_equal(ioctl(fd, BLKGETSIZE64, &bytes), 0);
    return bytes;
}

static void test_attach(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    AUTO_BLOCK_DEVICE struct block_device d = BLOCK_DEVICE_INIT, again = BLOCK_DEVICE_INIT;
    struct error err = ERROR_INIT;
    struct stat st;
    int sector = 0;
    dev_t dev;

    NEEDS_LOOPS();
    fixture_make(&f, 1);
    open_volume(&f, "pvc-1", &v);
    assert_ok(v.pool->ops->attach(&v, &d, &err), err);
    assert_true(d.attached_now);
    assert_int_equal(fstat(d.fd, &st), 0);
    assert_true(S_ISBLK(st.st_mode) && st.st_rdev == d.dev);
    assert_int_equal(strncmp(d.path, "/dev/loop", 9), 0);
    assert_int_equal(device_size(d.fd), FIXTURE_SIZE + GEOMETRY_DATA_OFFSET);
    assert_int_equal(ioctl(d.fd, BLKSSZGET, &sector), 0);
    assert_int_equal(sector, GEOMETRY_SECTOR);
    assert_true((fcntl(d.fd, F_GETFD) & FD_CLOEXEC) != 0);
    /* the same one is found, whatever its path is called now */
    assert_int_equal(rename(tmpdir_path(&f.dir, "a"), tmpdir_path(&f.dir, "c")), 0);
    assert_int_equal(rename(tmpdir_path(&f.dir, "c"), tmpdir_path(&f.dir, "a")), 0);
    assert_ok(v.pool->ops->attach(&v, &again, &err), err);
    assert_false(again.attached_now);
    assert_int_equal(again.dev, d.dev);
    dev = d.dev;
    block_device_close(&d);
    assert_true(is_attached(dev));
    block_device_close(&again);
    assert_true(is_cleared(dev));
}

/* A loop that can't be asked isn't another file's: a second one over the image would have a page
 * cache of its own. */
static void test_loop_that_says_nothing(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    AUTO_BLOCK_DEVICE struct block_device d = BLOCK_DEVICE_INIT, again = BLOCK_DEVICE_INIT;
    struct error err = ERROR_INIT;

    NEEDS_LOOPS();
    fixture_make(&f, 1);
    open_volume(&f, "pvc-1", &v);
    assert_ok(v.pool->ops->attach(&v, &d, &err), err);
    status_fails = EIO;
    int rc = v.pool->ops->attach(&v, &again, &err);
    status_fails = 0;
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_int_equal(again.fd, -1);
    status_fails = ENXIO; /* its last user has gone */
    rc = v.pool->ops->attach(&v, &again, &err);
    status_fails = 0;
    assert_ok(rc, err);
    assert_true(again.attached_now);
}

static void test_grow(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    AUTO_BLOCK_DEVICE struct block_device d = BLOCK_DEVICE_INIT, again = BLOCK_DEVICE_INIT;
    struct error err = ERROR_INIT;

    NEEDS_LOOPS();
    fixture_make(&f, 1);
    open_volume(&f, "pvc-1", &v);
    assert_ok(v.pool->ops->attach(&v, &d, &err), err);
    assert_ok(v.pool->ops->allocate(&v, MIB(64), &err), err);
    assert_int_equal(device_size(d.fd), FIXTURE_SIZE + GEOMETRY_DATA_OFFSET);
    assert_ok(v.pool->ops->refresh(&v, &d, &err), err);
    assert_int_equal(device_size(d.fd), MIB(64));
    assert_ok(v.pool->ops->refresh(&v, &d, &err), err);
    /* found later: as large as its image too */
    assert_ok(v.pool->ops->allocate(&v, MIB(80), &err), err);
    assert_ok(v.pool->ops->attach(&v, &again, &err), err);
    assert_int_equal(device_size(again.fd), MIB(80));
}

static void test_short_image_is_refused(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    AUTO_BLOCK_DEVICE struct block_device d = BLOCK_DEVICE_INIT;
    struct error err = ERROR_INIT;

    NEEDS_LOOPS();
    fixture_make(&f, 1);
    open_volume(&f, "pvc-1", &v);
    assert_int_equal(truncate(place_path(&f, &v.id, "image"), (off_t)MIB(19)), 0);
    assert_fails(v.pool->ops->attach(&v, &d, &err), err, ERR_DATA_LOSS);
    assert_int_equal(unlink(place_path(&f, &v.id, "image")), 0);
    assert_fails(v.pool->ops->attach(&v, &d, &err), err, ERR_DATA_LOSS);
    assert_int_equal(d.fd, -1);
}

static int foreign_loop(const char *path, uint32_t flags, uint64_t offset)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), number, fd = -1, image;
    struct loop_config c = { .info = { .lo_flags = flags | LO_FLAGS_AUTOCLEAR,
                                       .lo_offset = offset } };
    char node[32];

    image = open(path, O_RDWR | O_CLOEXEC);
    assert_true(control >= 0 && image >= 0);
    c.fd = (uint32_t)image;
    for (int i = 0; i < 50; i++) {
        number = ioctl(control, LOOP_CTL_GET_FREE);
        assert_true(number >= 0);
        (void)snprintf(node, sizeof(node), "/dev/loop%d", number);
        fd = open(node, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &c) == 0)
            break;
        if (fd >= 0)
            (void)close(fd);
        fd = -1;
    }
    assert_true(fd >= 0);
    (void)close(image);
    (void)close(control);
    return fd;
}

static void test_foreign_loops_are_refused(void **state UNUSED)
{
    static const struct {
        uint32_t flags;
        uint64_t offset;
    } cases[] = { { LO_FLAGS_READ_ONLY, 0 }, { 0, 4096 } };
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    AUTO_BLOCK_DEVICE struct block_device d = BLOCK_DEVICE_INIT;
    struct error err = ERROR_INIT;

    NEEDS_LOOPS();
    fixture_make(&f, 1);
    open_volume(&f, "pvc-1", &v);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int fd = foreign_loop(place_path(&f, &v.id, "image"), cases[i].flags, cases[i].offset);

        assert_fails(v.pool->ops->attach(&v, &d, &err), err, ERR_PRECONDITION);
        assert_non_null(strstr(err.msg, "/dev/loop"));
        (void)close(fd);
    }
}

static void test_two_loops_are_refused(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    AUTO_BLOCK_DEVICE struct block_device d = BLOCK_DEVICE_INIT, again = BLOCK_DEVICE_INIT;
    struct error err = ERROR_INIT;
    int fd;

    NEEDS_LOOPS();
    fixture_make(&f, 1);
    open_volume(&f, "pvc-1", &v);
    assert_ok(v.pool->ops->attach(&v, &d, &err), err);
    fd = foreign_loop(place_path(&f, &v.id, "image"), 0, 0);
    assert_fails(v.pool->ops->attach(&v, &again, &err), err, ERR_PRECONDITION);
    (void)close(fd);
}

/* All get the same "free" number at first. */
static void test_attach_many_at_once(void **state UNUSED)
{
    enum { N = 12 };
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    struct volume_id ids[N];
    pid_t children[N];

    NEEDS_LOOPS();
    fixture_make(&f, 1);
    for (int i = 0; i < N; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "pvc-%d", i);
        ids[i] = fixture_volume(&f, 0, name);
    }
    for (int i = 0; i < N; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct volume v = VOLUME_INIT;
            struct block_device d = BLOCK_DEVICE_INIT;
            struct error err = ERROR_INIT;

            _exit(volume_open(f.set->pools[0], &ids[i], false, &v, &err) < 0 ||
                          v.pool->ops->attach(&v, &d, &err) < 0 || !d.attached_now ||
                          device_size(d.fd) != FIXTURE_SIZE + GEOMETRY_DATA_OFFSET
                      ? 1
                      : 0);
        }
    }
    for (int i = 0; i < N; i++) {
        int status;

        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
}

/* In the child: an empty /dev, as in a container. 0 = attached through nodes of our own. */
static int attach_without_nodes(struct volume *v)
{
    struct block_device d = BLOCK_DEVICE_INIT;
    struct error err = ERROR_INIT;
    struct stat st;

    if (namespace_enter() < 0 || mount("none", "/dev", "tmpfs", 0, NULL) < 0)
        return FIXTURE_NO_NAMESPACE;
    if (v->pool->ops->attach(v, &d, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    if (stat(d.path, &st) < 0 || !S_ISBLK(st.st_mode) || (st.st_mode & 07777) != 0600)
        return 2;
    block_device_close(&d);
    /* a node of that name that is another device's */
    if (unlink("/dev/loop-control") < 0 || mknod("/dev/loop-control", S_IFCHR | 0600, 0x103) < 0)
        return 3;
    for (int i = 0; i < 200 && v->pool->ops->attach(v, &d, &err) == 0; i++) {
        block_device_close(&d); /* not cleared yet: found without loop-control */
        (void)usleep(10000);
    }
    return err.code == ERR_PRECONDITION ? 0 : 4;
}

static void test_missing_device_nodes(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    pid_t child;

    NEEDS_LOOPS();
    fixture_make(&f, 1);
    open_volume(&f, "pvc-1", &v);
    child = fork();
    if (child == 0)
        _exit(attach_without_nodes(&v));
    fixture_demand_child(child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attach),
        cmocka_unit_test(test_loop_that_says_nothing),
        cmocka_unit_test(test_grow),
        cmocka_unit_test(test_short_image_is_refused),
        cmocka_unit_test(test_foreign_loops_are_refused),
        cmocka_unit_test(test_two_loops_are_refused),
        cmocka_unit_test(test_attach_many_at_once),
        cmocka_unit_test(test_missing_device_nodes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
