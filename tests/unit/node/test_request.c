/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/unit.h"

#include "common/strbuf.h"
#include "node/request.h"
#include "volume/params.h"

#include <limits.h>
#include <sys/mount.h>

/* --- paths --- */

static void test_good_paths(void **state UNUSED)
{
    static const char *const paths[] = {
        "/a",
        "/a/b",
        "/a.b/..c/d..",
        "/...",
        "/var/lib/kubelet/plugins/x/globalmount",
        "/a b/\xc3\xa4",
    };

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        assert_works(request_path(paths[i], "target_path", &err));
}

static void test_bad_paths(void **state UNUSED)
{
    static const char *const relative[] = { "", "/", "a", "./a", "../a", " /a" };
    static const char *const parts[] = { "//a",  "/a//b", "/a/",     "/./a",
                                         "/a/.", "/..",   "/a/../b", "/a/.." };
    char want[256];

    for (size_t i = 0; i < ARRAY_SIZE(relative); i++) {
        (void)snprintf(want, sizeof(want), "target_path '%s' must be an absolute path",
                       relative[i]);
        assert_fails(request_path(relative[i], "target_path", &err), ERR_INVALID, want);
    }
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        (void)snprintf(want, sizeof(want),
                       "staging_target_path '%s' must not have empty, '.' or '..' parts", parts[i]);
        assert_fails(request_path(parts[i], "staging_target_path", &err), ERR_INVALID, want);
    }
}

static void test_path_length(void **state UNUSED)
{
    static char path[PATH_MAX + 1];
    struct error too_long = ERROR_INIT;

    memset(path, 'a', sizeof(path) - 1);
    path[0] = '/';
    assert_int_equal(request_path(path, "target_path", &too_long), -1);
    assert_int_equal(too_long.code, ERR_INVALID);
    path[PATH_MAX - 1] = '\0';
    assert_works(request_path(path, "target_path", &err));
}

/* --- usage --- */

static struct csi_capability mount_capability(enum csi_access_mode mode, const char *const *flags,
                                              size_t n)
{
    return (struct csi_capability){ .type = CSI_ACCESS_MOUNT,
                                    .mode = mode,
                                    .fs_type = "",
                                    .mount_flags = { .items = flags, .n = n },
                                    .volume_mount_group = "" };
}

static void test_mount_usage(void **state UNUSED)
{
    static const char *const flags[] = { "noatime", "commit=5" };
    const struct csi_capability c = mount_capability(CSI_SINGLE_NODE_MULTI_WRITER, flags, 2);
    struct usage use;

    assert_works(request_usage(&c, &use, &err));
    assert_false(use.block);
    assert_false(use.read_only);
    assert_false(use.single_target);
    assert_string_equal(use.fs, "ext4");
    assert_true((use.mount.flags & MS_NOATIME) != 0);
    assert_string_equal(use.mount.data, "commit=5");
}

static void test_block_usage(void **state UNUSED)
{
    const struct csi_capability c = { .type = CSI_ACCESS_BLOCK,
                                      .mode = CSI_SINGLE_NODE_SINGLE_WRITER,
                                      .fs_type = "",
                                      .volume_mount_group = "" };
    struct usage use;

    assert_works(request_usage(&c, &use, &err));
    assert_true(use.block);
    assert_true(use.single_target);
    assert_false(use.read_only);
    assert_string_equal(use.fs, "none");
}

static void test_read_only_usage(void **state UNUSED)
{
    static const char *const ro[] = { "ro" };
    static const struct {
        enum csi_access_mode mode;
        size_t flags;
        bool want;
    } cases[] = {
        { CSI_SINGLE_NODE_WRITER, 0, false },
        { CSI_SINGLE_NODE_WRITER, 1, true },
        { CSI_SINGLE_NODE_READER_ONLY, 0, true },
        { CSI_SINGLE_NODE_READER_ONLY, 1, true },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct csi_capability c = mount_capability(cases[i].mode, ro, cases[i].flags);
        struct usage use;
        assert_works(request_usage(&c, &use, &err));
        assert_int_equal(use.read_only, cases[i].want);
    }
}

static void test_refused_usage(void **state UNUSED)
{
    static const char *const suid[] = { "suid" };
    struct csi_capability c = mount_capability(CSI_MULTI_NODE_MULTI_WRITER, NULL, 0);
    struct usage use = { .fs = "untouched" };
    struct error err = ERROR_INIT;

    assert_int_equal(request_usage(&c, &use, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    c = mount_capability(CSI_SINGLE_NODE_WRITER, suid, 1);
    assert_int_equal(request_usage(&c, &use, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    c = mount_capability(CSI_SINGLE_NODE_WRITER, NULL, 0);
    c.fs_type = "vfat";
    assert_int_equal(request_usage(&c, &use, &err), -1);
    c.fs_type = "";
    c.volume_mount_group = "1000";
    assert_int_equal(request_usage(&c, &use, &err), -1);
    assert_string_equal(use.fs, "untouched");
}

/* --- the claim --- */

#define ID   "default.0a1b2c3d.00112233445566778899aabbccddeeff"
#define UUID "6ba7b810-9dad-41d1-80b4-00c04fd430c8"

static struct node_op op_with_record(void)
{
    struct node_op op = NODE_OP_INIT;

    (void)snprintf(op.id_text, sizeof(op.id_text), "%s", ID);
    op.record = (struct record){
        .id = ID, .uuid = UUID, .tenant = "lab", .kms = "vault", .key_source = "vault", .fs = "ext4"
    };
    return op;
}

static const struct csi_pair whole[] = {
    { "csi.storage.k8s.io/ephemeral", "false" }, /* foreign keys are none of our business */
    { CONTEXT_KEY_SOURCE, "vault" },
    { CONTEXT_KMS, "vault" },
    { CONTEXT_TENANT, "lab" },
    { CONTEXT_UUID, UUID },
};

static void test_right_claim(void **state UNUSED)
{
    const struct node_op op = op_with_record();
    const struct csi_map context = { .items = whole, .n = ARRAY_SIZE(whole) };

    assert_works(request_claim(&op, &context, &err));
}

static void test_missing_field(void **state UNUSED)
{
    const struct node_op op = op_with_record();

    for (size_t gone = 1; gone < ARRAY_SIZE(whole); gone++) {
        struct csi_pair pairs[ARRAY_SIZE(whole)];
        size_t n = 0;
        char want[128];
        for (size_t i = 0; i < ARRAY_SIZE(whole); i++)
            if (i != gone)
                pairs[n++] = whole[i];
        const struct csi_map context = { .items = pairs, .n = n };
        (void)snprintf(want, sizeof(want), "volume_context lacks '%s', which CreateVolume returned",
                       whole[gone].key);
        assert_fails(request_claim(&op, &context, &err), ERR_INVALID, want);
    }
}

static void test_no_context(void **state UNUSED)
{
    const struct node_op op = op_with_record();
    const struct csi_map context = { .items = NULL, .n = 0 };
    struct error err = ERROR_INIT;

    assert_int_equal(request_claim(&op, &context, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void test_each_difference_is_data_loss(void **state UNUSED)
{
    const struct node_op op = op_with_record();

    for (size_t other = 1; other < ARRAY_SIZE(whole); other++) {
        struct csi_pair pairs[ARRAY_SIZE(whole)];
        struct error err = ERROR_INIT;
        memcpy(pairs, whole, sizeof(pairs));
        pairs[other].value = "other";
        const struct csi_map context = { .items = pairs, .n = ARRAY_SIZE(pairs) };
        assert_int_equal(request_claim(&op, &context, &err), -1);
        assert_int_equal(err.code, ERR_DATA_LOSS);
        assert_non_null(strstr(err.msg, pairs[other].key));
    }
}

/* A context without it says that the volume doesn't discard. */
static void test_discard_is_compared(void **state UNUSED)
{
    struct node_op op = op_with_record();
    struct csi_pair pairs[ARRAY_SIZE(whole) + 1];
    struct csi_map context = { .items = pairs, .n = ARRAY_SIZE(pairs) };

    memcpy(pairs, whole, sizeof(whole));
    pairs[ARRAY_SIZE(whole)] = (struct csi_pair){ CONTEXT_DISCARD, "true" };
    assert_fails(request_claim(&op, &context, &err), ERR_DATA_LOSS,
                 "record: field 'discard' is 'false', which is not what the request says");
    op.record.discard = true;
    assert_works(request_claim(&op, &context, &err));
    context.n--;
    assert_fails(request_claim(&op, &context, &err), ERR_DATA_LOSS,
                 "record: field 'discard' is 'true', which is not what the request says");
}

/* A whole record with its image, copied under another volume's id. */
static void test_copied_record(void **state UNUSED)
{
    struct node_op op = op_with_record();
    const struct csi_map context = { .items = whole, .n = ARRAY_SIZE(whole) };
    struct error err = ERROR_INIT;

    op.id_text[strlen(op.id_text) - 1] = '0';
    assert_int_equal(request_claim(&op, &context, &err), -1);
    assert_int_equal(err.code, ERR_DATA_LOSS);
    assert_non_null(strstr(err.msg, "'id'"));
}

static void test_too_many_entries(void **state UNUSED)
{
    const struct node_op op = op_with_record();
    struct csi_pair pairs[65];
    struct csi_map context = { .items = pairs, .n = ARRAY_SIZE(pairs) };

    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
        pairs[i] = whole[i % ARRAY_SIZE(whole)];
    assert_fails(request_claim(&op, &context, &err), ERR_INVALID,
                 "volume_context has more than 64 entries");
    context.n--;
    assert_works(request_claim(&op, &context, &err));
}

/* --- file systems --- */

static struct csi_capability block_capability(void)
{
    return (struct csi_capability){ .type = CSI_ACCESS_BLOCK,
                                    .mode = CSI_SINGLE_NODE_WRITER,
                                    .fs_type = "",
                                    .volume_mount_group = "" };
}

static void set_fs(struct node_op *op, const char *fs)
{
    assert_int_equal(str_copy(op->record.fs, sizeof(op->record.fs), fs), 0);
}

static void test_same_fs(void **state UNUSED)
{
    struct node_op op = op_with_record();
    struct csi_capability mount = mount_capability(CSI_SINGLE_NODE_WRITER, NULL, 0);
    const struct csi_capability block = block_capability();
    struct usage ext4 = { .fs = "ext4" }, none = { .fs = "none", .block = true };

    mount.fs_type = "ext4";
    assert_works(request_same_fs(&op, &mount, &ext4, &err));
    assert_fails(request_same_fs(&op, &block, &none, &err), ERR_PRECONDITION,
                 "volume '" ID "' was created as ext4 and can't be used as raw block");
    set_fs(&op, "xfs");
    assert_fails(request_same_fs(&op, &mount, &ext4, &err), ERR_PRECONDITION,
                 "volume '" ID "' was created as xfs and can't be used as ext4");
    set_fs(&op, "none");
    assert_works(request_same_fs(&op, &block, &none, &err));
    assert_fails(request_same_fs(&op, &mount, &ext4, &err), ERR_PRECONDITION,
                 "volume '" ID "' was created as raw block and can't be used as ext4");
    mount.fs_type = "";
    assert_fails(request_same_fs(&op, &mount, &ext4, &err), ERR_PRECONDITION,
                 "volume '" ID "' was created as raw block and can't be used as ext4");
}

/* A mount that names no file system takes what there is, with that one's mount flags. */
static void test_unnamed_fs(void **state UNUSED)
{
    static const char *const flags[] = { "noatime", "commit=5" };
    struct node_op op = op_with_record();
    const struct csi_capability in = mount_capability(CSI_SINGLE_NODE_WRITER, flags, 2);
    struct usage use;
    struct error refused = ERROR_INIT;

    assert_works(request_usage(&in, &use, &err));
    set_fs(&op, "btrfs");
    assert_works(request_same_fs(&op, &in, &use, &err));
    assert_string_equal(use.fs, "btrfs");
    assert_string_equal(use.mount.data, "commit=5");
    assert_works(request_usage(&in, &use, &err));
    set_fs(&op, "xfs");
    assert_int_equal(request_same_fs(&op, &in, &use, &refused), -1);
    assert_int_equal(refused.code, ERR_INVALID);
    assert_string_equal(use.fs, "ext4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_paths),
        cmocka_unit_test(test_bad_paths),
        cmocka_unit_test(test_path_length),
        cmocka_unit_test(test_mount_usage),
        cmocka_unit_test(test_block_usage),
        cmocka_unit_test(test_read_only_usage),
        cmocka_unit_test(test_refused_usage),
        cmocka_unit_test(test_right_claim),
        cmocka_unit_test(test_missing_field),
        cmocka_unit_test(test_no_context),
        cmocka_unit_test(test_each_difference_is_data_loss),
        cmocka_unit_test(test_discard_is_compared),
        cmocka_unit_test(test_copied_record),
        cmocka_unit_test(test_too_many_entries),
        cmocka_unit_test(test_same_fs),
        cmocka_unit_test(test_unnamed_fs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
