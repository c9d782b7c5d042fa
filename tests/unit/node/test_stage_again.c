/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NodeStage where an earlier call has been. Kubelet forgets a volume after a final error, so either
 * nothing is left of it, or the answer is one that kubelet repeats. coffer-crypt is played: its
 * mapping is there and right. Needs root (rig.h).
 */
#include "common/base.h"
#include "tests/unit/node/bench.h"
#include "tests/unit/node/nocrypt.h"

#include "keyd/client.h"
#include "node/escrow.h"
#include "node/stage.h"
#include "volume/commitment.h"
#include "volume/params.h"

/* ---- played ---- */

static struct {
    struct mapping mapping;
    unsigned closed;
    bool busy, odd;
} played;

int keyd_unwrap(const char *socket_path UNUSED, const struct keyd_binding *binding UNUSED,
                const struct keyd_wrapped *key UNUSED, enum keyd_use use UNUSED,
                const char *token UNUSED, int pipe_write UNUSED, uint64_t deadline UNUSED,
                struct error *err UNUSED)
{
    fail_msg("nobody needs a key: the mapping is there");
    return -1;
}

int keyd_unwrap_client(const char *socket_path UNUSED, const struct keyd_binding *binding UNUSED,
                       const struct keyd_session *session UNUSED, enum keyd_use use UNUSED,
                       int pipe_write UNUSED, uint64_t deadline UNUSED, struct error *err UNUSED)
{
    fail_msg("nobody needs a key: the mapping is there");
    return -1;
}

int escrow_recipients(struct node_op *op UNUSED, char ret[RECIPIENTS_TEXT_MAX + 1] UNUSED,
                      struct error *err UNUSED)
{
    fail_msg("nothing is formatted here");
    return -1;
}

int crypt_list(const struct crypt_client *c UNUSED, uint64_t deadline UNUSED,
               struct mapping_list *ret, struct error *err UNUSED)
{
    *ret = (struct mapping_list){ .items = &played.mapping, .n = 1 };
    return 0;
}

void mapping_list_release(struct mapping_list *l UNUSED)
{
}

const struct mapping *mapping_find(const struct mapping_list *l, const char *dm_name UNUSED)
{
    return &l->items[0];
}

int crypt_check(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
                uint64_t deadline UNUSED, struct mapping *ret, struct error *err UNUSED)
{
    *ret = played.mapping;
    return 0;
}

int crypt_close(const struct crypt_client *c UNUSED, const char *dm_name UNUSED,
                const char *dm_uuid, int lock_fd UNUSED, uint64_t deadline UNUSED,
                struct error *err)
{
    assert_string_equal(dm_uuid, played.mapping.dm_uuid);
    if (played.busy)
        return error_set(err, ERR_ABORTED, "somebody has it open");
    assert_int_equal(unlink("/sys/block/" FS_BLOCK "/dm/name"), 0); /* nobody finds it */
    played.closed++;
    return 0;
}

static int attach(struct volume *v UNUSED, struct block_device *ret UNUSED, struct error *err)
{
    if (played.odd)
        return error_set(err, ERR_PRECONDITION, "attached in a way that is not ours");
    return 0; /* of a loop device the rig's sysfs would know nothing */
}

/* ---- the volume ---- */

static void make_mapping(dev_t dev)
{
    static struct backend_ops ops;

    memset(&played, 0, sizeof(played));
    played.mapping = (struct mapping){ .dev = dev, .size = WANT_SIZE, .state = MAPPING_OK };
    set(played.mapping.name, sizeof(played.mapping.name), b.dm_name);
    volume_dm_uuid(RIG_UUID, b.dm_name, played.mapping.dm_uuid);
    rig_mapping(FS_BLOCK, b.dm_name, RIG_UUID, dev, false);
    ops = *b.node.pools->pools[0]->ops;
    ops.attach = attach;
    b.node.pools->pools[0]->ops = &ops;
}

/* Mounted by an earlier call. */
static void make_mounted(void)
{
    struct stat st;

    bench_make(false);
    assert_int_equal(stat(b.staging, &st), 0);
    make_mapping(st.st_dev);
}

/* An earlier call was killed when it had the mapping. What is on it is no file system. */
static void make_half(void)
{
    bench_make(false);
    assert_int_equal(umount2(b.staging, 0), 0);
    make_mapping(RIG_LOOP);
}

static bool lent; /* a device lends the key, and half of the Secret is missing */

static int stage(struct error *err)
{
    const struct csi_pair context[] = { { CONTEXT_KEY_SOURCE, lent ? "client" : "vault" },
                                        { CONTEXT_KMS, "lab" },
                                        { CONTEXT_TENANT, "lab" },
                                        { CONTEXT_UUID, RIG_UUID } };
    static const struct csi_pair half = { "session", "AAAA" };
    const struct csi_stage_request req = {
        .volume_id = b.id_text,
        .staging_target_path = b.staging,
        .capability = b.req.capability,
        .volume_context = { .items = context, .n = ARRAY_SIZE(context) },
        .secrets = { .items = &half, .n = lent ? 1 : 0 },
    };

    return node_stage_volume(&b.node, &b.call, &req, err);
}

static const char *node_path(void)
{
    return below(b.device_dir, b.dm_name);
}

/* ---- tests ---- */

/* Left open, a damaged volume would be checked again beside who repairs it. */
static void test_half_staged_goes(void **state UNUSED)
{
    NEEDS_RIG();
    make_half();
    refused(stage, ERR_INTERNAL, "read the superblock");
    assert_int_equal(played.closed, 1);
    assert_false(exists(node_path()));
}

static void test_half_staged_and_busy(void **state UNUSED)
{
    NEEDS_RIG();
    make_half();
    played.busy = true;
    refused(stage, ERR_ABORTED, "read the superblock");
    assert_int_equal(played.closed, 0);
}

/* tmpfs has no device to open. */
static void test_mounted_stays(void **state UNUSED)
{
    NEEDS_RIG();
    make_mounted();
    refused(stage, ERR_ABORTED, "open device node");
    assert_int_equal(played.closed, 0);
    assert_int_equal(mounts_at(b.staging), 1);
}

static void lose_half_a_secret(void)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct record r;

    assert_works(volume_open(b.node.pools->pools[0], &b.id, false, &v, &err));
    assert_works(v.pool->ops->read_record(&v, &r, &err));
    set(r.key_source, sizeof(r.key_source), "client");
    assert_works(record_commit(&r, r.mac, &err)); /* any digits */
    assert_works(v.pool->ops->write_record(&v, &r, &err));
    b.call.arena = arena_new(MIB(1));
    assert_non_null(b.call.arena);
    lent = true;
}

static void forbid_kms(void)
{
    set(b.pool.kms[0], sizeof(b.pool.kms[0]), "another");
}

/* Before any step. What is open here must not be forgotten, a raw block volume neither; of one that
 * isn't, the truth is the last word. */
static void test_in_use(void **state UNUSED)
{
    static const struct {
        void (*make)(void);
        enum error_code code;
        const char *word;
    } rows[] = {
        { spoil_record, ERR_DATA_LOSS, "record" },
        { forbid_kms, ERR_PRECONDITION, "doesn't allow" },
        { lose_half_a_secret, ERR_PRECONDITION, "'serverKey' is missing" },
    };

    NEEDS_RIG();
    for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
        bool block = i % 2 == 1;

        if (i > 0)
            assert_int_equal(bench_clear(state), 0);
        bench_make(block);
        rows[i / 2].make();
        refused(stage, ERR_ABORTED, rows[i / 2].word);
        assert_int_equal(unlink("/sys/block/" FS_BLOCK "/dm/name"), 0);
        refused(stage, rows[i / 2].code, rows[i / 2].word);
        arena_free(b.call.arena);
        b.call.arena = NULL;
        lent = false;
    }
}

/* In a step. (Somebody looks at its image through a loop device of his own, say.) */
static void test_raw_block_in_use(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(true);
    make_mapping(RIG_LOOP);
    played.odd = true;
    refused(stage, ERR_ABORTED, "not ours");
    assert_int_equal(unlink("/sys/block/" FS_BLOCK "/dm/name"), 0);
    refused(stage, ERR_PRECONDITION, "not ours");
}

/* That is the request's own fault. */
static void test_raw_block_in_another_mode(void **state UNUSED)
{
    NEEDS_RIG();
    bench_make(true);
    make_mapping(RIG_LOOP);
    played.mapping.read_only = true;
    refused(stage, ERR_EXISTS, "already staged read-only");
    assert_int_equal(played.closed, 0);
}

static bool asked_read_only, found_mounted, found_failed;

static int look(struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;
    struct stage s = { .op = &op,
                       .path = b.staging,
                       .use = { .read_only = asked_read_only },
                       .node = MAPPER_NODE_INIT };

    if (node_op_begin(&op, &b.node, &b.call, b.id_text, err) < 0 || node_op_lock(&op, err) < 0 ||
        stage_look(&s, err) < 0)
        return -1;
    found_mounted = s.mounted_before;
    found_failed = s.failed;
    return 0;
}

/* After an error of its file system it is as it was asked for. */
static void test_failed_file_system(void **state UNUSED)
{
    NEEDS_RIG();
    make_mounted();
    asked_read_only = false;
    assert_works(look(&err));
    assert_true(found_mounted && !found_failed);
    rig_fail_file_system(b.staging);
    assert_works(look(&err));
    assert_true(found_mounted && found_failed);
    asked_read_only = true;
    refused(look, ERR_EXISTS, "is already staged read-write at");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_half_staged_goes),   BENCH_TEST(test_half_staged_and_busy),
        BENCH_TEST(test_mounted_stays),      BENCH_TEST(test_in_use),
        BENCH_TEST(test_raw_block_in_use),   BENCH_TEST(test_raw_block_in_another_mode),
        BENCH_TEST(test_failed_file_system),
    };

    rig_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
