/* SPDX-License-Identifier: Apache-2.0 */
/* What may be made, covered and removed at a path that the caller names. */
#include "common/base.h"
#include "tests/unit/node/rig.h"
#include "tests/support/nofile.h"

#include "node/target.h"

#include <limits.h>

static struct tmpdir t;

static int begin(void **state)
{
    int r = rig_clear(state);

    t = tmpdir_make();
    return r;
}

static int end(void **state)
{
    tmpdir_remove(&t);
    return rig_clear(state);
}

static const char *at(const char *name)
{
    return tmpdir_path(&t, name);
}

static bool there(const char *name)
{
    struct stat st;

    return fstatat(t.fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make_directories(void)
{
    static const char *const names[] = { "empty", "full", "full/inner" };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_int_equal(mkdirat(t.fd, names[i], 0700), 0);
    tmpdir_write(&t, "file", "", 0);
    tmpdir_write(&t, "data", "x", 1);
    assert_int_equal(symlinkat("full", t.fd, "link"), 0);
    assert_int_equal(mkfifoat(t.fd, "fifo", 0600), 0);
}

static void test_made_and_removed(void **state UNUSED)
{
    bool made = false;

    assert_works(target_make(at("dir"), false, &made, &err));
    assert_true(made && there("dir"));
    assert_works(target_make(at("dir"), false, &made, &err));
    assert_false(made);
    assert_works(target_make(at("node"), true, &made, &err));
    assert_true(made);
    assert_works(target_make(at("node"), true, &made, &err));
    assert_false(made);
    for (int i = 0; i < 2; i++) {
        assert_works(target_remove(at("dir"), &err));
        assert_works(target_remove(at("node"), &err));
    }
    assert_false(there("dir") || there("node"));
    assert_works(target_remove(at("no/such/parent"), &err));
}

static const struct {
    const char *name;
    bool block;
    enum error_code code;
    const char *word; /* of making it */
    bool removable;   /* else removing is refused in the same way */
} rows[] = {
    { "full", false, ERR_PRECONDITION, "is a directory with content", false },
    { "empty", true, ERR_PRECONDITION, "is not a file", true },
    { "file", false, ERR_PRECONDITION, "is not a directory", true },
    { "data", true, ERR_PRECONDITION, "is a file with content", false },
    { "data", false, ERR_PRECONDITION, "is a file with content", false },
    { "fifo", true, ERR_PRECONDITION, "is neither a file nor a directory", false },
    { "link", false, ERR_INVALID, "is a symbolic link", false },
    { "link", true, ERR_INVALID, "is a symbolic link", false },
    { "link/x", false, ERR_INVALID, "leads over a symbolic link", false },
    { "link/inner", false, ERR_INVALID, "leads over a symbolic link", false },
    { "link/x", true, ERR_INVALID, "leads over a symbolic link", false },
    { "data/x", false, ERR_INVALID, "something that is not a directory", false },
};

static void expect(int r, const struct error *err, enum error_code code, const char *word,
                   const char *name)
{
    if (r != -1 || err->code != code || strstr(err->msg, word) == NULL)
        fail_msg("%s: %s: %s (expected %s, '%s')", name, error_code_name(err->code), err->msg,
                 error_code_name(code), word);
}

static void test_refusals(void **state UNUSED)
{
    make_directories();
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct error err = ERROR_INIT, other = ERROR_INIT;
        bool made = true;

        expect(target_make(at(rows[i].name), rows[i].block, &made, &err), &err, rows[i].code,
               rows[i].word, rows[i].name);
        assert_true(made); /* untouched */
        if (!rows[i].removable)
            expect(target_remove(at(rows[i].name), &other), &other, rows[i].code, rows[i].word,
                   rows[i].name);
    }
    assert_true(there("full/inner") && there("empty") && there("file") && there("data"));
    assert_false(there("full/x"));
}

static void test_missing_parent_and_long_name(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    char name[NAME_MAX + 2];
    bool made;

    expect(target_make(at("no/dir"), false, &made, &err), &err, ERR_PRECONDITION, "no", "no/dir");
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    expect(target_make(at(name), false, &made, &err), &err, ERR_INVALID, "too long", "long name");
    expect(target_remove(at(name), &err), &err, ERR_INVALID, "too long", "long name");
}

static void test_staging(void **state UNUSED)
{
    static const struct {
        const char *name;
        enum error_code code;
        const char *word;
    } bad[] = {
        { "full", ERR_PRECONDITION, "is a directory with content" },
        { "file", ERR_PRECONDITION, "is not a directory" },
        { "link", ERR_INVALID, "is a symbolic link" },
        { "link/inner", ERR_INVALID, "leads over a symbolic link" },
        { "none", ERR_PRECONDITION, "none" },
    };

    make_directories();
    assert_works(target_check_staging(at("empty"), false, &err));
    assert_works(target_check_staging(at("full"), true, &err));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error err = ERROR_INIT;
        expect(target_check_staging(at(bad[i].name), false, &err), &err, bad[i].code, bad[i].word,
               bad[i].name);
    }
}

static void test_inside_a_volume(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    struct stat st;
    bool made;

    NEEDS_RIG();
    rig_mkdir(at("volume"));
    rig_mount_tmpfs(at("volume"));
    rig_mkdir(at("volume/own"));
    assert_int_equal(stat(at("volume"), &st), 0);
    rig_mapping("dm-0", "coffer-" RIG_HASH "-01234567", RIG_UUID, st.st_dev, false);
    assert_int_equal(mapper_is_ours(st.st_dev, &err), 1);
    expect(target_make(at("volume/x"), false, &made, &err), &err, ERR_PRECONDITION,
           "a Coffer volume is mounted above", "x");
    expect(target_remove(at("volume/own"), &err), &err, ERR_PRECONDITION,
           "a Coffer volume is mounted above", "own");
    expect(target_check_staging(at("volume/own"), false, &err), &err, ERR_PRECONDITION,
           "a Coffer volume is mounted above", "own");
    expect(target_check_staging(at("volume"), true, &err), &err, ERR_PRECONDITION,
           "another Coffer volume is mounted at", "volume");
    nofile_arm(1); /* for the directory; none for sysfs: nobody can say on what it lies */
    int rc = target_make(at("volume/x"), false, &made, &err);
    nofile_disarm();
    expect(rc, &err, ERR_EXHAUSTED, "dm/name", "x");
    assert_true(there("volume/own") && !there("volume/x"));
    assert_int_equal(fstat(t.fd, &st), 0);
    assert_int_equal(mapper_is_ours(st.st_dev, &err), 0);
}

#define TARGET_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TARGET_TEST(test_made_and_removed),
        TARGET_TEST(test_refusals),
        TARGET_TEST(test_missing_parent_and_long_name),
        TARGET_TEST(test_staging),
        TARGET_TEST(test_inside_a_volume),
    };

    rig_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
