/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/host_store.h"

#include "common/deadline.h"
#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID    "fast.0a1b2c3d.00112233445566778899aabbccddeeff"
#define OTHER "fast.0a1b2c3d.ffeeddccbbaa99887766554433221100"

static bool list_ends_early;

/* In place of the C library's: the entries that are left can't be read. */
struct dirent *readdir(DIR *d)
{
    if (list_ends_early) {
        errno = EIO;
        return NULL;
    }
    return (struct dirent *)(void *)readdir64(d); /* the same where files have 64 bits */
}

static void save(const struct host_store *s, const char *name, const char *id, const char *path)
{
    AUTO_HOST_VOLUME struct host_volume v = HOST_VOLUME_INIT;
    v.context = json_pack("{s:s}", "tenant", "host");
    assert_int_equal(str_copy(v.name, sizeof(v.name), name), 0);
    assert_int_equal(str_copy(v.id, sizeof(v.id), id), 0);
    assert_int_equal(str_copy(v.fs, sizeof(v.fs), "ext4"), 0);
    assert_int_equal(str_copy(v.access_mode, sizeof(v.access_mode), "RWO"), 0);
    if (path != NULL) {
        assert_int_equal(str_copy(v.targets[0].path, sizeof(v.targets[0].path), path), 0);
        v.n_targets = 1;
    }
    assert_works(host_store_save(s, &v, &err));
}

static bool exists(const struct tmpdir *t, const char *name)
{
    struct stat st;
    return lstat(tmpdir_path(t, name), &st) == 0;
}

static void test_folders(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_HOST_STORE struct host_store s = HOST_STORE_INIT;
    char staging[HOST_PATH_MAX], want[HOST_PATH_MAX];
    struct stat st;
    assert_fails(host_store_open("state", &s, &err), ERR_INVALID,
                 "--state-dir 'state' must be an absolute path");
    assert_works(host_store_open(tmpdir_path(&t, "state"), &s, &err));
    save(&s, "data", ID, NULL);
    assert_int_equal(stat(tmpdir_path(&t, "state/volumes/data.json"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(tmpdir_path(&t, "state/staging"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_works(host_store_staging(&s, ID, staging, &err));
    (void)snprintf(want, sizeof(want), "%s/state/staging/" ID, t.path);
    assert_string_equal(staging, want);
}

static void test_find(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_HOST_STORE struct host_store s = HOST_STORE_INIT;
    char name[HOST_VOLUME_NAME_MAX + 1] = "";
    assert_works(host_store_open(t.path, &s, &err));
    save(&s, "one", ID, NULL);
    save(&s, "two", OTHER, "/srv/two");
    assert_works(host_store_find(&s, OTHER, name, &err));
    assert_string_equal(name, "two");
    assert_works(host_store_find_path(&s, "/srv/two", name, &err));
    assert_string_equal(name, "two");
    assert_works(host_store_find(&s, "one", name, &err));
    assert_string_equal(name, "one");
    assert_fails(host_store_find_path(&s, "/srv/one", name, &err), ERR_NOT_FOUND,
                 "cofferctl mounted no volume at '/srv/one'");
    assert_fails(host_store_find(&s, "fast.0a1b2c3d.00000000000000000000000000000000", name, &err),
                 ERR_NOT_FOUND,
                 "volume 'fast.0a1b2c3d.00000000000000000000000000000000' was not created by "
                 "cofferctl on this host");
}

/* What can't be read is not "not there"; what is found in another file is found all the same. */
static void test_unreadable(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_HOST_STORE struct host_store s = HOST_STORE_INIT;
    struct host_volume v = HOST_VOLUME_INIT;
    struct error seen = ERROR_INIT;
    char name[HOST_VOLUME_NAME_MAX + 1] = "";
    assert_int_equal(host_store_open(t.path, &s, &seen), 0);
    save(&s, "one", ID, NULL);
    tmpdir_write(&t, "volumes/torn.json", "{\"v\":", 5);
    assert_int_equal(host_store_find_id(&s, ID, name, &seen), 0);
    assert_int_equal(host_store_find_id(&s, OTHER, name, &seen), -1);
    assert_int_equal(seen.code, ERR_DATA_LOSS);
    assert_non_null(strstr(seen.msg, "volumes/torn.json"));
    assert_int_equal(rename(tmpdir_path(&t, "volumes/one.json"), tmpdir_path(&t, "volumes/b.json")),
                     0);
    assert_int_equal(host_store_load(&s, "b", &v, &seen), -1);
    assert_int_equal(seen.code, ERR_DATA_LOSS);
    assert_non_null(strstr(seen.msg, "is volume 'one'"));
    assert_fails(host_store_load(&s, "none", &v, &err), ERR_NOT_FOUND,
                 "there is no volume 'none' on this host");
}

/* A list that ends early isn't one without it: the volume would be deleted while it is mounted. */
static void test_half_a_list(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_HOST_STORE struct host_store s = HOST_STORE_INIT;
    char name[HOST_VOLUME_NAME_MAX + 1] = "";
    struct error seen = ERROR_INIT;
    assert_works(host_store_open(t.path, &s, &err));
    save(&s, "one", ID, NULL);
    list_ends_early = true;
    int rc = host_store_find(&s, ID, name, &seen);
    list_ends_early = false;
    assert_int_equal(rc, -1);
    assert_int_equal(seen.code, ERR_INTERNAL);
    assert_works(host_store_find(&s, ID, name, &err));
}

static void test_lock(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_HOST_STORE struct host_store s = HOST_STORE_INIT;
    struct host_lock first = HOST_LOCK_INIT, second = HOST_LOCK_INIT;
    assert_works(host_store_open(t.path, &s, &err));
    save(&s, "data", ID, NULL);
    assert_works(host_lock_take(&s, "data", deadline_in(0), &first, &err));
    assert_fails(host_lock_take(&s, "data", deadline_in(0), &second, &err), ERR_ABORTED,
                 "another cofferctl is working on volume 'data'");
    assert_works(host_lock_take(&s, "other", deadline_in(0), &second, &err));
    host_lock_release(&first);
    assert_true(exists(&t, "volumes/data.lock"));
    host_lock_release(&second);
    assert_false(exists(&t, "volumes/other.lock")); /* there is no such volume */
    assert_works(host_lock_take(&s, "data", deadline_in(0), &first, &err));
    assert_works(host_store_remove(&s, "data", &err));
    assert_works(host_store_remove(&s, "data", &err));
    host_lock_release(&first);
    host_lock_release(&first);
    assert_false(exists(&t, "volumes/data.lock"));
    assert_false(exists(&t, "volumes/data.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders),    cmocka_unit_test(test_find),
        cmocka_unit_test(test_unreadable), cmocka_unit_test(test_half_a_list),
        cmocka_unit_test(test_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
