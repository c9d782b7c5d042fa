/* SPDX-License-Identifier: Apache-2.0 */
/* NodePublish and NodeUnpublish against a real pool and real mounts. Needs root (rig.h). */
#include "common/base.h"
#include "tests/unit/node/bench.h"

static int make_file(const char *path)
{
    return mknod(path, S_IFREG | 0600, 0);
}

/* --- file systems --- */

static void test_publish(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(false);
    assert_works(publish(&err));
    assert_works(publish(&err)); /* again: nothing more */
    assert_int_equal(mounts_at(b.target), 1);
    assert_int_equal(make_file(below(b.target, "x")), 0);
    assert_true(exists(below(b.staging, "x")));
    assert_works(unpublish(&err));
    assert_works(unpublish(&err));
    assert_false(exists(b.target));
    assert_int_equal(mounts_at(b.staging), 1);
    assert_true(exists(below(b.staging, "x")));
}

static void test_read_only(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(false);
    b.req.readonly = true;
    assert_works(publish(&err));
    assert_int_equal(make_file(below(b.target, "x")), -1);
    assert_int_equal(errno, EROFS);
    assert_int_equal(make_file(below(b.staging, "x")), 0);
    b.req.readonly = false;
    refused(publish, ERR_EXISTS, "is already published read-only at");
    /* a reader-only access mode means the same */
    b.req.capability.mode = CSI_MULTI_NODE_READER_ONLY;
    assert_works(publish(&err));
    assert_int_equal(mounts_at(b.target), 1);
}

static void test_staged_read_only(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(false);
    assert_int_equal(mount(NULL, b.staging, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    refused(publish, ERR_PRECONDITION, "is staged read-only");
    assert_false(exists(b.target));
    b.req.readonly = true;
    assert_works(publish(&err));
}

/* Who has it keeps it: after a final error kubelet may forget the mount. Where it isn't, that is
 * the answer. */
static void test_in_use(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(false);
    assert_works(publish(&err));
    spoil_record();
    refused(publish, ERR_ABORTED, "record");
    assert_int_equal(umount2(b.target, 0), 0);
    refused(publish, ERR_DATA_LOSS, "record");
}

/* Published again it is as it was: kubelet may forget what it has after a final error. Nobody new
 * gets it. */
static void test_failed_file_system(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(false);
    assert_works(publish(&err));
    rig_fail_file_system(b.staging);
    assert_int_equal(make_file(below(b.target, "x")), -1);
    assert_works(publish(&err));
    assert_int_equal(mounts_at(b.target), 1);
    b.req.readonly = true;
    refused(publish, ERR_EXISTS, "is already published read-write at");
    b.req.readonly = false;
    b.req.target_path = below(b.t.path, "second");
    refused(publish, ERR_PRECONDITION, "has turned read-only after an error");
    assert_false(exists(b.req.target_path));
    b.req.readonly = true;
    assert_works(publish(&err));
}

static void test_not_staged(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(false);
    rig_mkdir(below(b.t.path, "other"));
    rig_mount_tmpfs(below(b.t.path, "other")); /* now: later it could get the same number */
    assert_int_equal(umount2(b.staging, 0), 0);
    refused(publish, ERR_PRECONDITION, "isn't staged at");
    assert_works(mount_bind(below(b.t.path, "other"), b.staging, false, &err));
    refused(publish, ERR_PRECONDITION, "isn't staged at");
    assert_int_equal(rename("/sys/block/" FS_BLOCK, "/sys/block/gone"), 0);
    refused(publish, ERR_PRECONDITION, "isn't staged on this node");
    b.req.staging_target_path = "";
    refused(publish, ERR_PRECONDITION, "staging_target_path is not set");
    assert_false(exists(b.target));
}

/* What is live under the name is an earlier volume of that name. */
static void test_another_uuid(void **state UNUSED)
{
    struct stat st;

    NEEDS_RIG();
    bench_make(false);
    assert_int_equal(stat(b.staging, &st), 0);
    rig_mapping(FS_BLOCK, b.dm_name, "99999999-2222-4333-8444-555555555555", st.st_dev, false);
    refused(publish, ERR_DATA_LOSS, "isn't the volume that the record names");
    assert_false(exists(b.target));
}

static void test_other_volumes(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(false);
    b.req.volume_id = "p.00000000.0123456789abcdef0123456789abcdef";
    refused(publish, ERR_PRECONDITION, "another pool");
    b.req.volume_id = "no id";
    refused(publish, ERR_NOT_FOUND, "");
    b.req.volume_id = b.id_text;
    b.req.capability.type = CSI_ACCESS_BLOCK;
    refused(publish, ERR_PRECONDITION, "was created as ext4 and can't be used as raw block");
    assert_false(exists(b.target));
}

static void test_foreign_mount_at_target(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(false);
    rig_mkdir(b.target);
    rig_mount_tmpfs(b.target);
    refused(publish, ERR_EXISTS, "something else is mounted at");
    refused(unpublish, ERR_PRECONDITION, "isn't volume");
    assert_int_equal(mounts_at(b.target), 1);
}

static void test_single_writer(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(false);
    b.req.capability.mode = CSI_SINGLE_NODE_SINGLE_WRITER;
    assert_works(publish(&err));
    assert_works(publish(&err));
    b.req.target_path = below(b.t.path, "second");
    refused(publish, ERR_PRECONDITION, "allows a single writer and is already published at");
    assert_false(exists(b.req.target_path));
}

/* A link on the way leads elsewhere: nothing is made there, nothing is removed. */
static void test_link_on_the_way(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(false);
    rig_mkdir(below(b.t.path, "real"));
    assert_int_equal(symlink("real", below(b.t.path, "link")), 0);
    b.req.target_path = below(b.t.path, "link/target");
    refused(publish, ERR_INVALID, "leads over a symbolic link");
    rig_mkdir(below(b.t.path, "real/target"));
    refused(unpublish, ERR_INVALID, "leads over a symbolic link");
    assert_true(exists(below(b.t.path, "real/target")));
    b.req.target_path = below(b.t.path, "link");
    refused(publish, ERR_INVALID, "is a symbolic link");
    assert_true(exists(b.req.target_path));
    refused(unpublish, ERR_INVALID, "is a symbolic link");
    b.req.target_path = "/mnt/../x";
    refused(publish, ERR_INVALID, "target_path");
}

static void test_staging_path_as_target(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(false);
    b.req.target_path = b.staging;
    refused(publish, ERR_INVALID, "are the same");
    b.req.target_path = below(b.staging, "inside");
    refused(publish, ERR_PRECONDITION, "a Coffer volume is mounted above");
    refused(unpublish, ERR_PRECONDITION, "a Coffer volume is mounted above");
    assert_int_equal(mounts_at(b.staging), 1);
    assert_false(exists(below(b.staging, "inside")));
}

static void test_one_call_at_a_time(void **state UNUSED)
{
    AUTO_KEYLOCK struct keylock_hold *hold = NULL;

    NEEDS_RIG();
    bench_make(false);
    assert_works(keylock_try(b.node.locks, b.id_text, &hold, &err));
    refused(publish, ERR_ABORTED, "is under way");
    refused(unpublish, ERR_ABORTED, "is under way");
}

/* --- raw block --- */

static void test_block(void **state UNUSED)
{
    struct stat st;

    NEEDS_RIG();
    bench_make(true);
    assert_works(publish(&err));
    assert_works(publish(&err));
    assert_int_equal(mounts_at(b.target), 1);
    assert_int_equal(stat(b.target, &st), 0);
    assert_true(S_ISBLK(st.st_mode) && st.st_rdev == RIG_LOOP);
    b.req.target_path = below(b.t.path, "second");
    assert_works(publish(&err));
    assert_works(unpublish(&err));
    assert_false(exists(b.req.target_path));
    b.req.target_path = b.target;
    assert_works(unpublish(&err));
    assert_works(unpublish(&err));
    assert_false(exists(b.target));
}

/* A read-only mount of a device node stops nobody from writing: only a read-only mapping does. */
static void test_block_read_only(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(true);
    b.req.readonly = true;
    refused(publish, ERR_PRECONDITION, "is staged read-write, so a read-only target");
    assert_false(exists(b.target));
    rig_mapping(FS_BLOCK, b.dm_name, RIG_UUID, RIG_LOOP, true);
    assert_works(publish(&err));
    b.req.readonly = false;
    refused(publish, ERR_PRECONDITION, "is staged read-only");
}

/* A publish that fails takes away what it made, and nothing else. */
static void test_block_failure_keeps_what_was_there(void **state UNUSED)
{
    struct stat st;

    NEEDS_RIG();
    bench_make(true);
    b.node.device_dir = "/sys/kernel";
    refused(publish, ERR_PRECONDITION, "--device-dir");
    assert_false(exists(b.target));
    assert_int_equal(make_file(b.target), 0);
    refused(publish, ERR_PRECONDITION, "--device-dir");
    assert_true(exists(b.target));
    rig_write(b.t.path, "target", "somebody's data");
    refused(publish, ERR_PRECONDITION, "is a file with content");
    refused(unpublish, ERR_PRECONDITION, "is a file with content");
    assert_int_equal(stat(b.target, &st), 0);
    assert_int_equal(st.st_size, 16);
}

/* Opening it would wait for a writer that never comes. */
static void test_block_target_is_a_fifo(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(true);
    assert_int_equal(mkfifo(b.target, 0600), 0);
    refused(publish, ERR_PRECONDITION, "is neither a file nor a directory");
    refused(unpublish, ERR_PRECONDITION, "is neither a file nor a directory");
    assert_true(exists(b.target));
}

/* --- unpublish alone --- */

/* The mapping is gone below its target; so is its node, or the number is another's by now. */
static void test_lost_mapping(void **state UNUSED)
{
    for (int i = 0; i < 3; i++) {
        NEEDS_RIG();
        assert_int_equal(bench_clear(NULL), 0);
        bench_make(true);
        assert_works(publish(&err));
        assert_int_equal(rename("/sys/block/" FS_BLOCK, "/sys/block/gone"), 0);
        if (i == 1)
            mapper_node_unlink(b.device_dir, b.dm_name);
        if (i == 2)
            rig_mapping("dm-1", "coffer-" RIG_HASH "-00000001", RIG_UUID, RIG_LOOP, false);
        assert_works(unpublish(&err));
        assert_false(exists(b.target));
    }
}

/* Another volume's device at the path isn't ours to take away, whatever is lost. */
static void test_another_volumes_device(void **state UNUSED)
{
    char node[800];

    NEEDS_RIG();
    bench_make(true);
    (void)snprintf(node, sizeof(node), "%s/x%s", b.t.path, b.dm_name);
    assert_int_equal(mknod(node, S_IFBLK | 0600, RIG_NEXT), 0);
    assert_int_equal(make_file(b.target), 0);
    assert_works(mount_bind(node, b.target, false, &err));
    refused(unpublish, ERR_PRECONDITION, "isn't volume");
    refused(publish, ERR_EXISTS, "something else is mounted at");
    assert_int_equal(mounts_at(b.target), 1);
}

static void test_unpublish_loses_nothing(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(false);
    rig_mkdir(b.target);
    assert_int_equal(make_file(below(b.target, "x")), 0);
    refused(unpublish, ERR_PRECONDITION, "is a directory with content");
    refused(publish, ERR_PRECONDITION, "is a directory with content");
    assert_true(exists(below(b.target, "x")));
    assert_int_equal(unlink(below(b.target, "x")), 0);
    assert_works(unpublish(&err));
    assert_false(exists(b.target));
}

static void test_busy_target_names_its_holder(void **state UNUSED)
{
    char want[64];

    NEEDS_RIG();
    bench_make(false);
    assert_works(publish(&err));
    (void)snprintf(want, sizeof(want), "is busy: process %d (test_publish)", (int)getpid());
    assert_int_equal(chdir(b.target), 0);
    refused(unpublish, ERR_ABORTED, want);
    assert_int_equal(chdir("/"), 0);
    assert_works(unpublish(&err));
}

/* Two of our mounts at one path, and teardown without pool and record. */
static void test_stacked_and_pool_gone(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(false);
    assert_works(publish(&err));
    assert_works(mount_bind(b.staging, b.target, false, &err));
    assert_int_equal(mounts_at(b.target), 2);
    assert_int_equal(rename(b.pool.path, below(b.t.path, "elsewhere")), 0);
    refused(publish, ERR_UNAVAILABLE, "is not there");
    assert_works(unpublish(&err));
    assert_false(exists(b.target));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_publish),
        BENCH_TEST(test_read_only),
        BENCH_TEST(test_staged_read_only),
        BENCH_TEST(test_in_use),
        BENCH_TEST(test_failed_file_system),
        BENCH_TEST(test_not_staged),
        BENCH_TEST(test_another_uuid),
        BENCH_TEST(test_other_volumes),
        BENCH_TEST(test_foreign_mount_at_target),
        BENCH_TEST(test_single_writer),
        BENCH_TEST(test_link_on_the_way),
        BENCH_TEST(test_staging_path_as_target),
        BENCH_TEST(test_one_call_at_a_time),
        BENCH_TEST(test_block),
        BENCH_TEST(test_block_read_only),
        BENCH_TEST(test_block_failure_keeps_what_was_there),
        BENCH_TEST(test_block_target_is_a_fifo),
        BENCH_TEST(test_lost_mapping),
        BENCH_TEST(test_another_volumes_device),
        BENCH_TEST(test_unpublish_loses_nothing),
        BENCH_TEST(test_busy_target_names_its_holder),
        BENCH_TEST(test_stacked_and_pool_gone),
    };

    rig_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
