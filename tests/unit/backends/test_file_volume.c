/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/backends/fixture.h"
#include "tests/support/namespace.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

static void open_new(struct fixture *f, const char *name, struct volume *v)
{
    struct volume_id id = fixture_id(f, 0, name);
    struct error err = ERROR_INIT;

    assert_ok(volume_open(f->set->pools[0], &id, true, v, &err), err);
}

#ifdef COFFER_FAULT
static int run_shell(const char *directory, const char *command)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        if (chdir(directory) == 0)
            (void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    if (waitpid(child, &status, 0) != child)
        return -1;
    return status;
}
#endif

static void test_record_compare_and_swap(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct record r, stale, now;

    fixture_make(&f, 1);
    open_new(&f, "pvc-1", &v);
    assert_fails(v.pool->ops->read_record(&v, &now, &err), err, ERR_NOT_FOUND);
    r = fixture_record(&v.id, "pvc-1");
    r.gen = 1;
    assert_fails(v.pool->ops->write_record(&v, &r, &err), err, ERR_NOT_FOUND);
    r.gen = 0;
    err = (struct error)ERROR_INIT;
    assert_ok(v.pool->ops->write_record(&v, &r, &err), err);
    assert_int_equal(r.gen, 1);
    stale = r;
    record_be_new(&r);
    assert_ok(v.pool->ops->write_record(&v, &r, &err), err);
    assert_int_equal(r.gen, 2);
    stale.size = MIB(64);
    assert_fails(v.pool->ops->write_record(&v, &stale, &err), err, ERR_ABORTED);
    assert_int_equal(stale.gen, 1);
    stale.gen = 0;
    assert_fails(v.pool->ops->write_record(&v, &stale, &err), err, ERR_ABORTED);
    err = (struct error)ERROR_INIT;
    assert_ok(v.pool->ops->read_record(&v, &now, &err), err);
    assert_int_equal(now.gen, 2);
    assert_int_equal(now.size, FIXTURE_SIZE);
    assert_string_equal(now.name, "pvc-1");
}

/* A whole record copied under another volume's place. */
static void test_record_of_another_volume(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id a, b;
    struct record r;

    fixture_make(&f, 1);
    a = fixture_volume(&f, 0, "pvc-1");
    b = fixture_volume(&f, 0, "pvc-2");
    assert_int_equal(unlink(place_path(&f, &b, "record.json")), 0);
    assert_int_equal(rename(place_path(&f, &a, "record.json"), place_path(&f, &b, "record.json")),
                     0);
    assert_ok(volume_open(f.set->pools[0], &b, false, &v, &err), err);
    assert_fails(v.pool->ops->read_record(&v, &r, &err), err, ERR_DATA_LOSS);
    assert_fails(v.pool->ops->peek_record(f.set->pools[0], &b, &r, &err), err, ERR_DATA_LOSS);
    /* and one of another volume is never written */
    r = fixture_record(&a, "pvc-1");
    assert_int_equal(v.pool->ops->write_record(&v, &r, &err), -1);
}

static void test_unreadable_is_not_absent(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id;
    struct record r;
    int fd;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    assert_ok(volume_open(f.set->pools[0], &id, false, &v, &err), err);
    fd = open(place_path(&f, &id, "record.json"), O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_fails(v.pool->ops->read_record(&v, &r, &err), err, ERR_DATA_LOSS);
    r = fixture_record(&id, "pvc-1");
    assert_fails(v.pool->ops->write_record(&v, &r, &err), err, ERR_DATA_LOSS);
    /* gone, but the image is there: something took it */
    assert_int_equal(unlink(place_path(&f, &id, "record.json")), 0);
    assert_fails(v.pool->ops->read_record(&v, &r, &err), err, ERR_DATA_LOSS);
    assert_non_null(strstr(err.msg, f.dir.path));
    assert_fails(v.pool->ops->write_record(&v, &r, &err), err, ERR_DATA_LOSS);
    assert_fails(v.pool->ops->peek_record(f.set->pools[0], &id, &r, &err), err, ERR_DATA_LOSS);
    assert_int_equal(unlink(place_path(&f, &id, "image")), 0);
    assert_fails(v.pool->ops->read_record(&v, &r, &err), err, ERR_NOT_FOUND);
}

/* The image of a volume that was made is lost: it isn't "no such volume", and no blank one takes
 * its place. */
static void test_lost_image(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    AUTO_BLOCK_DEVICE struct block_device d = BLOCK_DEVICE_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    assert_ok(volume_open(f.set->pools[0], &id, false, &v, &err), err);
    assert_int_equal(unlink(place_path(&f, &id, "image")), 0);
    assert_fails(v.pool->ops->attach(&v, &d, &err), err, ERR_DATA_LOSS);
    assert_non_null(strstr(err.msg, "open 'image'"));
    assert_fails(v.pool->ops->allocate(&v, MIB(40), &err), err, ERR_DATA_LOSS);
    assert_non_null(strstr(err.msg, "the record says 'new', but the image is gone"));
    assert_false(exists(place_path(&f, &id, "image")));
}

/* ---- what is flushed: this program's fsync counts, then asks the kernel ---- */

static struct stat synced[16];
static size_t n_synced;

int fsync(int fd)
{
    if (n_synced < ARRAY_SIZE(synced) && fstat(fd, &synced[n_synced]) == 0)
        n_synced++;
    return (int)syscall(SYS_fsync, fd);
}

static bool was_synced(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    for (size_t i = 0; i < n_synced; i++)
        if (synced[i].st_dev == st.st_dev && synced[i].st_ino == st.st_ino)
            return true;
    return false;
}

/* A killed writer or allocator got as far as the page cache; who goes on from there makes it
 * durable first. */
static void test_found_is_made_durable(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id;
    struct record r;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    assert_ok(volume_open(f.set->pools[0], &id, false, &v, &err), err);
    n_synced = 0;
    assert_ok(v.pool->ops->read_record(&v, &r, &err), err);
    assert_true(was_synced(place_path(&f, &id, "")));
    n_synced = 0;
    assert_ok(v.pool->ops->allocate(&v, MIB(20), &err), err);
    assert_true(was_synced(place_path(&f, &id, "image")));
}

static void test_peek(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id, none;
    struct record r;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    none = fixture_id(&f, 0, "pvc-2");
    /* without the lock */
    assert_ok(volume_open(f.set->pools[0], &id, false, &v, &err), err);
    assert_ok(v.pool->ops->peek_record(f.set->pools[0], &id, &r, &err), err);
    assert_int_equal(r.state, RECORD_NEW);
    assert_fails(v.pool->ops->peek_record(f.set->pools[0], &none, &r, &err), err, ERR_NOT_FOUND);
}

static void test_allocate(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    uint64_t bytes = 0;
    struct stat st;

    fixture_make(&f, 1);
    open_new(&f, "pvc-1", &v);
    assert_fails(v.pool->ops->allocated(&v, &bytes, &err), err, ERR_NOT_FOUND);
    err = (struct error)ERROR_INIT;
    assert_ok(v.pool->ops->allocate(&v, MIB(20), &err), err);
    assert_ok(v.pool->ops->allocate(&v, MIB(20), &err), err);
    assert_ok(v.pool->ops->allocated(&v, &bytes, &err), err);
    assert_int_equal(bytes, MIB(20));
    assert_int_equal(stat(place_path(&f, &v.id, "image"), &st), 0);
    assert_true((uint64_t)st.st_blocks * 512 >= MIB(20));
    assert_ok(v.pool->ops->allocate(&v, MIB(40), &err), err);
    assert_ok(v.pool->ops->allocate(&v, MIB(10), &err), err);
    assert_ok(v.pool->ops->allocated(&v, &bytes, &err), err);
    assert_int_equal(bytes, MIB(40));
}

/* A sparse image (copied by somebody's tool) is filled up, and its data stay. */
static void test_allocate_fills_holes(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    char back[5] = "";
    struct stat st;
    int fd;

    fixture_make(&f, 1);
    open_new(&f, "pvc-1", &v);
    fd = open(place_path(&f, &v.id, "image"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)MIB(20)), 0);
    assert_int_equal(pwrite(fd, "data", 4, (off_t)MIB(19)), 4);
    assert_ok(v.pool->ops->allocate(&v, MIB(20), &err), err);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true((uint64_t)st.st_blocks * 512 >= MIB(20));
    assert_int_equal(pread(fd, back, 4, (off_t)MIB(19)), 4);
    assert_string_equal(back, "data");
    (void)close(fd);
}

static void test_full(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    uint64_t bytes = 0;
    struct pool_capacity c = { .total = 0 };

    fixture_make(&f, 1);
    open_new(&f, "pvc-1", &v);
    assert_ok(v.pool->ops->allocate(&v, MIB(20), &err), err);
    assert_ok(v.pool->ops->capacity(f.set->pools[0], &c, &err), err);
    assert_fails(v.pool->ops->allocate(&v, c.total + GIB(64), &err), err, ERR_EXHAUSTED);
    assert_non_null(strstr(err.msg, "pool 'a' is full: "));
    err = (struct error)ERROR_INIT;
    assert_ok(v.pool->ops->allocated(&v, &bytes, &err), err);
    assert_int_equal(bytes, MIB(20));
}

#ifdef COFFER_FAULT
/* A hopeless request doesn't fill the file system before it fails. */
static void test_hopeless_request_takes_nothing(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_TMPDIR struct tmpdir faults = tmpdir_make();
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    AUTO_FREE char *trace = NULL;
    struct error err = ERROR_INIT;

    fixture_make(&f, 1);
    open_new(&f, "pvc-1", &v);
    assert_true(fault_arm(faults.path, "record"));
    assert_fails(v.pool->ops->allocate(&v, GIB(1024) * 64, &err), err, ERR_EXHAUSTED);
    fault_disarm(faults.path);
    trace = tmpdir_read(&faults, "test_file_volume.trace");
    assert_non_null(trace);
    assert_non_null(strstr(trace, "file:allocate:made"));
    assert_null(strstr(trace, "file:allocate:reserve"));
}

/* ---- somebody else takes the space between the look and fallocate ---- */

static void *allocate_paused(void *arg)
{
    struct volume *v = arg;
    static struct error err;

    err = (struct error)ERROR_INIT;
    (void)!v->pool->ops->allocate(v, MIB(70), &err);
    return &err;
}

static uint64_t free_bytes(const char *path)
{
    struct statvfs st;

    return statvfs(path, &st) < 0 ? 0 : (uint64_t)st.f_bavail * st.f_frsize;
}

/* Runs in a child: 0, 77 (can't be shown here), or the number of what was wrong. */
static int lose_the_race(const char *mkfs)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_TMPDIR struct tmpdir faults = tmpdir_make(), mount_dir = tmpdir_make();
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error *err = NULL;
    uint64_t before, bytes = 0;
    pthread_t thread;
    char command[4096];
    int fd;

    (void)snprintf(command, sizeof(command), "%s && mount -o loop %s/disk %s", mkfs, faults.path,
                   mount_dir.path);
    if (namespace_enter() < 0 || run_shell(faults.path, command) != 0 ||
        setenv("TMPDIR", mount_dir.path, 1) < 0)
        return FIXTURE_NO_NAMESPACE;
    fixture_make(&f, 1);
    open_new(&f, "pvc-1", &v);
    if (v.pool->ops->allocate(&v, MIB(20), &(struct error)ERROR_INIT) < 0)
        return 1;
    before = free_bytes(mount_dir.path);
    if (before < MIB(60) || !fault_arm(faults.path, "pause file:allocate:reserve") ||
        pthread_create(&thread, NULL, allocate_paused, &v) != 0)
        return 2;
    for (int i = 0; i < 1000 && !exists(fault_path(faults.path, "paused")); i++)
        (void)usleep(10000);
    fd = open(tmpdir_path(&mount_dir, "other"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fallocate(fd, 0, 0, (off_t)(before - MIB(30))) < 0)
        return 3;
    fault_disarm(faults.path);
    if (pthread_join(thread, (void **)&err) != 0 || err->code != ERR_EXHAUSTED)
        return 4;
    if (v.pool->ops->allocated(&v, &bytes, err) < 0 || bytes != MIB(20))
        return 5;
    if (free_bytes(mount_dir.path) < MIB(29))
        return 6;
    (void)close(fd);
    (void)unlink(tmpdir_path(&mount_dir, "other"));
    volume_close(&v);
    fixture_release(&f);
    (void)umount2(mount_dir.path, MNT_DETACH);
    return 0;
}

static void test_space_is_taken_meanwhile(void **state UNUSED)
{
    pid_t child = fork();

    if (child == 0)
        _exit(lose_the_race("truncate -s 128M disk && mkfs.ext4 -q -m 0 disk"));
    fixture_demand_child(child);
}
#endif

/* fallocate fails after the look at the free space: what it got goes back. */
static void test_reserve_fails(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct rlimit old, small = { .rlim_cur = MIB(30), .rlim_max = RLIM_INFINITY };
    struct error err = ERROR_INIT;
    uint64_t bytes = 0;

    fixture_make(&f, 1);
    open_new(&f, "pvc-1", &v);
    assert_ok(v.pool->ops->allocate(&v, MIB(20), &err), err);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_fails(v.pool->ops->allocate(&v, MIB(40), &err), err, ERR_OUT_OF_RANGE);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    err = (struct error)ERROR_INIT;
    assert_ok(v.pool->ops->allocated(&v, &bytes, &err), err);
    assert_int_equal(bytes, MIB(20));
}

static void test_image_must_be_a_file(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;

    fixture_make(&f, 1);
    open_new(&f, "pvc-1", &v);
    tmpdir_write(&f.dir, "victim", "x", 1);
    assert_int_equal(symlink(tmpdir_path(&f.dir, "victim"), place_path(&f, &v.id, "image")), 0);
    assert_fails(v.pool->ops->allocate(&v, MIB(20), &err), err, ERR_DATA_LOSS);
    assert_int_equal(unlink(place_path(&f, &v.id, "image")), 0);
    /* another name for a file that is somebody else's */
    assert_int_equal(link(tmpdir_path(&f.dir, "victim"), place_path(&f, &v.id, "image")), 0);
    assert_fails(v.pool->ops->allocate(&v, MIB(20), &err), err, ERR_DATA_LOSS);
    assert_int_equal(unlink(place_path(&f, &v.id, "image")), 0);
    assert_int_equal(mkfifo(place_path(&f, &v.id, "image"), 0600), 0);
    assert_fails(v.pool->ops->allocate(&v, MIB(20), &err), err, ERR_DATA_LOSS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_compare_and_swap),
        cmocka_unit_test(test_record_of_another_volume),
        cmocka_unit_test(test_unreadable_is_not_absent),
        cmocka_unit_test(test_peek),
        cmocka_unit_test(test_lost_image),
        cmocka_unit_test(test_found_is_made_durable),
        cmocka_unit_test(test_allocate),
        cmocka_unit_test(test_allocate_fills_holes),
        cmocka_unit_test(test_full),
#ifdef COFFER_FAULT
        cmocka_unit_test(test_hopeless_request_takes_nothing),
        cmocka_unit_test(test_space_is_taken_meanwhile),
#endif
        cmocka_unit_test(test_reserve_fails),
        cmocka_unit_test(test_image_must_be_a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
