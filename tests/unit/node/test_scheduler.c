/* SPDX-License-Identifier: Apache-2.0 */
/* Which places coffer-scheduler may name; what is done there is
 * tests/component/node_scheduler.py's.
 */
#include "common/base.h"
#include "node/scheduler.h"

#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <sys/stat.h>
#include <unistd.h>

#define CLOUD "0123456789abcdef0123456789abcdef"
#define OTHER "1123456789abcdef0123456789abcdef"

static const struct scheduler_service service = { .directory = "/run/c" };

static const char *volume_of(const char *name)
{
    static char text[VOLUME_ID_MAX + 1];
    struct volume_id id;

    volume_id_from_name("fast", "0a1b2c3d", name, &id);
    volume_id_format(&id, text);
    return text;
}

static int check(const char *volume, const char *path, struct error *err)
{
    return scheduler_place_check(&service, volume, path, "target_path", "volume", err);
}

/* The code, and a part of the sentence. */
static void refused(int r, const struct error *err, enum error_code code, const char *part)
{
    assert_int_equal(r, -1);
    assert_int_equal(err->code, code);
    if (strstr(err->msg, part) == NULL)
        fail_msg("no '%s' in: %s", part, err->msg);
}

#define REFUSED(call, code, part)       \
    do {                                \
        struct error err = ERROR_INIT;  \
        int r = (call);                 \
        refused(r, &err, (code), part); \
    } while (0)

static void test_the_one_place(void **state UNUSED)
{
    const char *id = volume_of("cloud-" CLOUD);

    assert_works(check(id, "/run/c/" CLOUD "/volume", &err));
    REFUSED(check(id, "/run/c/" OTHER "/volume", &err), ERR_PERMISSION,
            "isn't the one of cloud '" OTHER "'");
    REFUSED(check(volume_of("pvc-" CLOUD), "/run/c/" CLOUD "/volume", &err), ERR_PERMISSION,
            "isn't the one of cloud '" CLOUD "'");
    REFUSED(check("no id", "/run/c/" CLOUD "/volume", &err), ERR_NOT_FOUND, "");
}

static void test_other_places(void **state UNUSED)
{
    static const char *const paths[] = {
        "/",
        "/run",
        "/run/c",
        "/run/cc/" CLOUD "/volume",
        "/run/c/" CLOUD,
        "/run/c/" CLOUD "/volumes",
        "/run/c/" CLOUD "/staging",
        "/run/c/" CLOUD "/volume/x",
        "/run/c/x" CLOUD "/volume",
        "/run/c/0123456789ABCDEF0123456789abcdef/volume",
        "/run/c/x/" CLOUD "/volume",
        "/x/run/c/" CLOUD "/volume",
    };

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        struct error err = ERROR_INIT;

        assert_int_equal(check(volume_of("cloud-" CLOUD), paths[i], &err), -1);
        assert_int_equal(err.code, i == 0 ? ERR_INVALID : ERR_PERMISSION);
        assert_non_null(strstr(err.msg, paths[i]));
    }
}

static void test_paths_that_arent_plain(void **state UNUSED)
{
    static const char *const paths[] = {
        "",
        "run/c/" CLOUD "/volume",
        "/run/c/../c/" CLOUD "/volume",
        "/run/c/./" CLOUD "/volume",
        "/run/c//" CLOUD "/volume",
        "/run/c/" CLOUD "/volume/",
        "/run/c/" CLOUD "/..",
        "/run/c/" CLOUD "/volume/..",
    };

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        REFUSED(check(volume_of("cloud-" CLOUD), paths[i], &err), ERR_INVALID, "target_path");
}

static void test_directory(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    char path[600];
    struct stat st;

    (void)snprintf(path, sizeof(path), "%s/clouds", t.path);
    assert_works(scheduler_directory_check(path, &err));
    assert_works(scheduler_directory_make(path, &err));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_works(scheduler_directory_make(path, &err));
    assert_int_equal(chmod(path, 0770), 0);
    REFUSED(scheduler_directory_make(path, &err), ERR_PRECONDITION,
            "that nobody else may write to");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink("/", path), 0);
    assert_int_equal(scheduler_directory_make(path, NULL), -1);
    REFUSED(scheduler_directory_check("a/b", &err), ERR_INVALID, "must be an absolute path");
    REFUSED(scheduler_directory_check("/a/../b", &err), ERR_INVALID, "parts");
}

static void test_what_is_offered(void **state UNUSED)
{
    assert_null(scheduler_node_ops.expand_volume);
    assert_null(scheduler_admin_ops.unlock_key);
    assert_null(scheduler_admin_ops.rotate_key);
    assert_null(scheduler_admin_ops.reconcile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_one_place),          cmocka_unit_test(test_other_places),
        cmocka_unit_test(test_paths_that_arent_plain), cmocka_unit_test(test_directory),
        cmocka_unit_test(test_what_is_offered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
