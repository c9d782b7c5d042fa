/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "tests/unit/backends/fixture.h"

#include <errno.h>
#include <sys/syscall.h>

static int seek_fails; /* the errno of looking for a hole; 0: it works */

/* In place of the C library's. */
off_t lseek(int fd, off_t offset, int whence)
{
    if (whence == SEEK_HOLE && seek_fails != 0) {
        errno = seek_fails;
        return -1;
    }
    return (off_t)syscall(SYS_lseek, fd, offset, whence);
}

static void write_something(struct volume *v)
{
    struct error err = ERROR_INIT;
    AUTO_CLOSE int fd = -1;

    assert_ok(v->pool->ops->header_backup(v, &fd, &err), err);
    assert_int_equal(pwrite(fd, "keyslot", 7, 0), 7);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
}

static void open_first(struct fixture *f, struct volume_id *id, struct volume *v)
{
    struct error err = ERROR_INIT;

    fixture_make(f, 1);
    *id = fixture_volume(f, 0, "pvc-1");
    assert_ok(volume_open(f->set->pools[0], id, false, v, &err), err);
}

static void test_made_kept_and_dropped(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    AUTO_CLOSE int second_name = -1;
    struct error err = ERROR_INIT;
    struct volume_id id;
    struct stat st;
    char text[8] = "";

    open_first(&f, &id, &v);
    assert_ok(v.pool->ops->drop_header_backup(&v, &err), err); /* there is none */
    write_something(&v);
    assert_int_equal(stat(place_path(&f, &id, "header.backup"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    write_something(&v); /* of a killed call: the same file */
    second_name = open(place_path(&f, &id, "header.backup"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(second_name, text, 7, 0), 7);
    assert_string_equal(text, "keyslot");
    assert_ok(v.pool->ops->drop_header_backup(&v, &err), err);
    assert_false(exists(place_path(&f, &id, "header.backup")));
    assert_int_equal(pread(second_name, text, 7, 0), 7); /* who had it open reads zeros */
    assert_memory_equal(text, "\0\0\0\0\0\0\0", 7);
    assert_ok(v.pool->ops->drop_header_backup(&v, &err), err);
}

/* What couldn't be overwritten isn't called so. */
static void test_not_overwritten(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id;

    open_first(&f, &id, &v);
    write_something(&v);
    seek_fails = EIO;
    assert_fails(v.pool->ops->drop_header_backup(&v, &err), err, ERR_INTERNAL);
    assert_true(exists(place_path(&f, &id, "header.backup")));
    assert_fails(v.pool->ops->scrub(&v, GEOMETRY_DATA_OFFSET, &err), err, ERR_INTERNAL);
    seek_fails = 0;
    assert_ok(v.pool->ops->scrub(&v, GEOMETRY_DATA_OFFSET, &err), err);
    assert_false(exists(place_path(&f, &id, "header.backup")));
}

static void test_goes_with_the_volume(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id;

    open_first(&f, &id, &v);
    write_something(&v);
    assert_ok(v.pool->ops->scrub(&v, GEOMETRY_DATA_OFFSET, &err), err);
    assert_false(exists(place_path(&f, &id, "header.backup")));
    write_something(&v);
    assert_ok(v.pool->ops->remove(&v, &err), err);
    assert_false(exists(place_path(&f, &id, "")));
}

static void test_a_link_is_not_followed(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id;
    AUTO_CLOSE int fd = -1;

    open_first(&f, &id, &v);
    assert_int_equal(symlink("image", place_path(&f, &id, "header.backup")), 0);
    assert_fails(v.pool->ops->header_backup(&v, &fd, &err), err, ERR_DATA_LOSS);
    assert_fails(v.pool->ops->drop_header_backup(&v, &err), err, ERR_DATA_LOSS);
    assert_true(exists(place_path(&f, &id, "image")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_kept_and_dropped),
        cmocka_unit_test(test_not_overwritten),
        cmocka_unit_test(test_goes_with_the_volume),
        cmocka_unit_test(test_a_link_is_not_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
