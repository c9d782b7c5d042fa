/* SPDX-License-Identifier: Apache-2.0 */
/* Live mappings and our own nodes for them. Needs root (rig.h). */
#include "common/base.h"
#include "tests/unit/node/rig.h"

#include <sys/resource.h>

#define NAME  "coffer-" RIG_HASH "-0badcafe"
#define OTHER "coffer-" RIG_HASH "-00000001"

static void test_find(void **state UNUSED)
{
    struct live_mapping m = { .dev = 0 };
    char uuid[DM_UUID_MAX + 1];

    NEEDS_RIG();
    rig_mapping("dm-0", OTHER, RIG_UUID, makedev(253, 0), false);
    rig_mapping("loop7", NAME, RIG_UUID, RIG_NEXT, false); /* no dm device, whatever it says */
    assert_fails(mapper_find(NAME, &m, &err), ERR_NOT_FOUND, "there is no mapping '" NAME "'");
    assert_true(m.dev == 0);
    rig_mapping("dm-300", NAME, RIG_UUID, makedev(253, 300), true);
    assert_works(mapper_find(NAME, &m, &err));
    assert_true(m.dev == makedev(253, 300));
    assert_true(m.read_only);
    assert_int_equal(m.size, MIB(16));
    volume_dm_uuid(RIG_UUID, NAME, uuid);
    assert_string_equal(m.dm_uuid, uuid);
}

static void test_uuid(void **state UNUSED)
{
    struct live_mapping m = { .dev = 0 };
    static const char *const sentence = "the live mapping isn't the volume that the record names";

    volume_dm_uuid(RIG_UUID, NAME, m.dm_uuid);
    assert_works(mapper_check_uuid(&m, NAME, RIG_UUID, &err));
    assert_fails(mapper_check_uuid(&m, OTHER, RIG_UUID, &err), ERR_DATA_LOSS, sentence);
    assert_fails(mapper_check_uuid(&m, NAME, "11111111-2222-4333-8444-555555555556", &err),
                 ERR_DATA_LOSS, sentence);
    m.dm_uuid[0] = '\0';
    assert_fails(mapper_check_uuid(&m, NAME, RIG_UUID, &err), ERR_DATA_LOSS, sentence);
}

/* A device that goes away while the list is read. */
static void test_find_passes_over_what_went(void **state UNUSED)
{
    struct live_mapping m = { .dev = 0 };

    NEEDS_RIG();
    rig_mkdir("/sys/block/dm-0");
    rig_mapping("dm-1", NAME, RIG_UUID, makedev(253, 1), false);
    assert_works(mapper_find(NAME, &m, &err));
    assert_true(m.dev == makedev(253, 1));
}

/* A name that can't be read may be the one that is looked for: "not found" would be a lie. */
static void test_unreadable_is_not_absent(void **state UNUSED)
{
    struct rlimit old = { 0 }, none;
    struct live_mapping m = { .dev = 0 };
    struct error err = ERROR_INIT;
    int fd;

    NEEDS_RIG();
    rig_mapping("dm-0", NAME, RIG_UUID, makedev(253, 0), false);
    fd = open("/", O_PATH | O_CLOEXEC);
    assert_true(fd >= 0 && getrlimit(RLIMIT_NOFILE, &old) == 0);
    none = old;
    none.rlim_cur = (rlim_t)fd + 1; /* one for the directory, none for a file in it */
    (void)close(fd);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int r = mapper_find(NAME, &m, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(r, -1);
    assert_int_equal(err.code, ERR_EXHAUSTED);
    assert_non_null(strstr(err.msg, "dm/name"));
}

static void test_half_a_mapping(void **state UNUSED)
{
    struct live_mapping m = { .dev = 0 };

    NEEDS_RIG();
    rig_mapping("dm-0", NAME, RIG_UUID, makedev(253, 0), false);
    rig_write("/sys/block/dm-0", "size", "many");
    assert_fails(mapper_find(NAME, &m, &err), ERR_INTERNAL,
                 "sysfs of 'dm-0' isn't readable as numbers");
    rig_write("/sys/block/dm-0", "size", "8");
    rig_write("/sys/block/dm-0", "dev", "253");
    assert_fails(mapper_find(NAME, &m, &err), ERR_INTERNAL,
                 "sysfs of 'dm-0' isn't readable as numbers");
}

/* --- nodes --- */

static int open_node(const char *dir, const char *name, dev_t dev, struct mapper_node *ret,
                     struct error *err)
{
    char uuid[DM_UUID_MAX + 1];

    volume_dm_uuid(RIG_UUID, name, uuid);
    return mapper_node_open(dir, name, uuid, dev, false, ret, err);
}

static void test_node(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = { .path = "", .fd = -1 };
    AUTO_MAPPER_NODE struct mapper_node n = MAPPER_NODE_INIT, again = MAPPER_NODE_INIT;
    char dir[600], path[700];
    struct stat st;

    NEEDS_RIG();
    t = tmpdir_make();
    (void)snprintf(dir, sizeof(dir), "%s/dev/coffer", t.path);
    (void)snprintf(path, sizeof(path), "%s/" NAME, dir);
    rig_mapping("dm-0", NAME, RIG_UUID, RIG_LOOP, false);
    assert_works(open_node(dir, NAME, RIG_LOOP, &n, &err));
    assert_string_equal(n.path, path);
    assert_int_equal(fstat(n.fd, &st), 0);
    assert_true(S_ISBLK(st.st_mode) && st.st_rdev == RIG_LOOP && (st.st_mode & 0777) == 0600);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_works(open_node(dir, NAME, RIG_LOOP, &again, &err));
    mapper_node_close(&n);
    assert_int_equal(n.fd, -1);
    assert_int_equal(lstat(path, &st), 0); /* stays */
    mapper_node_unlink(dir, NAME);
    assert_int_equal(lstat(path, &st), -1);
    mapper_node_unlink(dir, NAME);
}

/* What lies there under our name: the node of a number that is another's by now, a link, a file. */
static void test_stale_node(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = { .path = "", .fd = -1 };
    char path[700];
    struct stat st;

    NEEDS_RIG();
    t = tmpdir_make();
    rig_mapping("dm-0", NAME, RIG_UUID, RIG_LOOP, false);
    (void)snprintf(path, sizeof(path), "%s/" NAME, t.path);
    for (int i = 0; i < 3; i++) {
        AUTO_MAPPER_NODE struct mapper_node n = MAPPER_NODE_INIT;
        int made = i == 0   ? mknod(path, S_IFBLK | 0666, RIG_NEXT)
                   : i == 1 ? symlink("/dev/loop1", path)
                            : mknod(path, S_IFREG | 0666, 0);

        assert_int_equal(made, 0);
        assert_works(open_node(t.path, NAME, RIG_LOOP, &n, &err));
        assert_int_equal(lstat(path, &st), 0);
        assert_true(S_ISBLK(st.st_mode) && st.st_rdev == RIG_LOOP && (st.st_mode & 0777) == 0600);
        assert_int_equal(unlink(path), 0);
    }
}

/* The number was the mapping's when it was looked up, and isn't any more. */
static void test_number_is_anothers(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = { .path = "", .fd = -1 };
    struct mapper_node n = MAPPER_NODE_INIT;
    char sentence[128];

    NEEDS_RIG();
    (void)snprintf(sentence, sizeof(sentence), "device 7:%u is no longer mapping '" NAME "'",
                   rig_number);
    t = tmpdir_make();
    rig_mapping("dm-0", OTHER, RIG_UUID, RIG_LOOP, false);
    assert_fails(open_node(t.path, NAME, RIG_LOOP, &n, &err), ERR_ABORTED, sentence);
    rig_mapping("dm-0", NAME, "99999999-2222-4333-8444-555555555555", RIG_LOOP, false);
    assert_fails(open_node(t.path, NAME, RIG_LOOP, &n, &err), ERR_ABORTED, sentence);
    assert_int_equal(n.fd, -1);
}

static void test_node_needs_a_right_directory(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = { .path = "", .fd = -1 };
    struct mapper_node n = MAPPER_NODE_INIT;
    struct error err = ERROR_INIT;
    char link[600];

    NEEDS_RIG();
    t = tmpdir_make();
    rig_mapping("dm-0", NAME, RIG_UUID, RIG_LOOP, false);
    (void)snprintf(link, sizeof(link), "%s/link", t.path);
    assert_int_equal(symlink("/dev", link), 0);
    assert_int_equal(open_node(link, NAME, RIG_LOOP, &n, &err), -1);
    assert_int_equal(n.fd, -1);
    /* not one that a block target could be recognised on, or whose nodes can't be opened */
    assert_int_equal(open_node("/sys/kernel", NAME, RIG_LOOP, &n, &err), -1);
    assert_non_null(strstr(err.msg, "--device-dir '/sys/kernel' must be on a devtmpfs or tmpfs"));
    assert_int_equal(err.code, ERR_PRECONDITION);
    if (mount("rig", t.path, "tmpfs", MS_NODEV, NULL) < 0)
        fail_msg("tmpfs: %s", strerror(errno));
    assert_int_equal(open_node(t.path, NAME, RIG_LOOP, &n, &err), -1);
    assert_non_null(strstr(err.msg, "--device-dir"));
    assert_int_equal(n.fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(test_find),
        cmocka_unit_test(test_uuid),
        RIG_TEST(test_find_passes_over_what_went),
        RIG_TEST(test_unreadable_is_not_absent),
        RIG_TEST(test_half_a_mapping),
        RIG_TEST(test_node),
        RIG_TEST(test_stale_node),
        RIG_TEST(test_number_is_anothers),
        RIG_TEST(test_node_needs_a_right_directory),
    };

    rig_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
