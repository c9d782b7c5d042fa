/* SPDX-License-Identifier: Apache-2.0 */
/* A volume that pods open, as far as it goes without dm-crypt: who is asked for a key and with
 * which token, what closes when, what stays. coffer-keyd and coffer-crypt are played. Needs root
 * (rig.h). */
#include "common/base.h"
#include "tests/unit/node/bench.h"
#include "tests/unit/node/nocrypt.h"

#include "common/arena.h"
#include "keyd/client.h"
#include "node/escrow.h"
#include "volume/params.h"

#define TOKENS     "csi.storage.k8s.io/serviceAccount.tokens"
#define WITH(text) "{\"vault\":{\"token\":\"" text "\",\"expirationTimestamp\":\"\"}}"

/* ---- played ---- */

static struct {
    unsigned asked, closed;
    enum error_code fails, busy;
    char token[64];
    enum keyd_use use;
} played;

int keyd_unwrap(const char *socket_path UNUSED, const struct keyd_binding *binding UNUSED,
                const struct keyd_wrapped *key UNUSED, enum keyd_use use, const char *token,
                int pipe_write UNUSED, uint64_t deadline UNUSED, struct error *err)
{
    played.asked++;
    played.use = use;
    set(played.token, sizeof(played.token), token == NULL ? "none" : token);
    return played.fails != ERR_OK ? error_set(err, played.fails, "the key service says no") : 0;
}

int keyd_unwrap_client(const char *socket_path UNUSED, const struct keyd_binding *binding UNUSED,
                       const struct keyd_session *session UNUSED, enum keyd_use use UNUSED,
                       int pipe_write UNUSED, uint64_t deadline UNUSED, struct error *err UNUSED)
{
    fail_msg("this volume's key is nobody's to lend");
    return -1;
}

/* What a change of devices or of the key would ask for: no pod's publish may. */
int keyd_mint(const char *socket_path UNUSED, const struct keyd_binding *binding UNUSED,
              uint64_t deadline UNUSED, struct keyd_wrapped *ret UNUSED, struct error *err UNUSED)
{
    fail_msg("nothing is minted here");
    return -1;
}

int keyd_wrap_for(const char *socket_path UNUSED, const struct keyd_binding *binding UNUSED,
                  const struct keyd_wrapped *key UNUSED, const struct keyd_recipient *to UNUSED,
                  uint64_t deadline UNUSED, unsigned char *ret UNUSED, size_t *ret_len UNUSED,
                  struct error *err UNUSED)
{
    fail_msg("nothing is wrapped for a device here");
    return -1;
}

int crypt_recipients(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
                     int key_fd UNUSED, const char *recipients UNUSED, uint64_t deadline UNUSED,
                     char ret_mac[65] UNUSED, struct error *err UNUSED)
{
    fail_msg("no device comes or goes here");
    return -1;
}

int crypt_rekey(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
                int key_fd UNUSED, int new_key_fd UNUSED, int backup_fd UNUSED,
                const char *recipients UNUSED, uint64_t deadline UNUSED, char ret_mac[65] UNUSED,
                struct error *err UNUSED)
{
    fail_msg("no key is changed here");
    return -1;
}

int crypt_prune(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
                int key_fd UNUSED, uint64_t deadline UNUSED, char ret_mac[65] UNUSED,
                struct error *err UNUSED)
{
    fail_msg("no key is changed here");
    return -1;
}

/* tmpfs has no device to open, so a call that gets that far fails there. */
static struct mapping right(void)
{
    struct mapping m = { .dev = makedev(0, 0), .size = WANT_SIZE, .state = MAPPING_OK };

    set(m.name, sizeof(m.name), b.dm_name);
    return m;
}

int crypt_list(const struct crypt_client *c UNUSED, uint64_t deadline UNUSED,
               struct mapping_list *ret, struct error *err UNUSED)
{
    struct live_mapping live;

    *ret = (struct mapping_list){ .items = calloc(1, sizeof(*ret->items)) };
    assert_non_null(ret->items);
    if (mapper_find(b.dm_name, &live, NULL) == 0)
        ret->items[ret->n++] = right();
    return 0;
}

void mapping_list_release(struct mapping_list *l)
{
    free(l->items);
    *l = (struct mapping_list){ .items = NULL, .n = 0 };
}

const struct mapping *mapping_find(const struct mapping_list *l, const char *dm_name UNUSED)
{
    return l->n > 0 ? &l->items[0] : NULL;
}

int crypt_check(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
                uint64_t deadline UNUSED, struct mapping *ret, struct error *err UNUSED)
{
    *ret = right();
    return 0;
}

int crypt_close(const struct crypt_client *c UNUSED, const char *dm_name UNUSED,
                const char *dm_uuid UNUSED, int lock_fd UNUSED, uint64_t deadline UNUSED,
                struct error *err)
{
    if (played.busy != ERR_OK)
        return error_set(err, played.busy, "somebody has it open");
    played.closed++;
    (void)rename("/sys/block/" FS_BLOCK, "/sys/block/gone");
    return 0;
}

int crypt_passphrase(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
                     int key_fd UNUSED, int out_fd UNUSED, uint64_t deadline UNUSED,
                     struct error *err)
{
    return not_here(err);
}

int escrow_recipients(struct node_op *op UNUSED, char ret[RECIPIENTS_TEXT_MAX + 1],
                      struct error *err UNUSED)
{
    ret[0] = '\0';
    return 0;
}

/* ---- the volume ---- */

static struct csi_pair context[6], secret;
static struct arena *arena; /* the calls' */

static void be_asked_with(const char *token)
{
    secret = (struct csi_pair){ TOKENS, token };
    b.req.secrets = (struct csi_map){ .items = &secret, .n = token != NULL };
}

static void fill_context(void)
{
    const struct csi_pair all[] = { { CONTEXT_KEY_SOURCE, "vault" },
                                    { CONTEXT_KMS, "lab" },
                                    { CONTEXT_TENANT, "lab" },
                                    { CONTEXT_IDENTITY, "pod" },
                                    { CONTEXT_UUID, RIG_UUID } };

    memcpy(context, all, sizeof(all));
    b.req.volume_context = (struct csi_map){ .items = context, .n = ARRAY_SIZE(all) };
}

/* Its staging mount, as NodePublish would have made it. */
static void mount_staging(void)
{
    const struct mount_options o = { .no_symlinks = true, .data = "" };
    AUTO_CLOSE int fd = -1;
    struct stat st;

    assert_int_equal(umount2(b.staging, 0), 0);
    assert_works(mount_make("tmpfs", "rig", &o, &fd, &err));
    assert_works(mount_attach(fd, b.staging, &err));
    assert_int_equal(stat(b.staging, &st), 0);
    rig_mapping(FS_BLOCK, b.dm_name, RIG_UUID, st.st_dev, false);
}

static int attach(struct volume *v UNUSED, struct block_device *ret UNUSED,
                  struct error *err UNUSED)
{
    return 0; /* of a loop device the rig's sysfs would know nothing */
}

static void play_attach(void)
{
    static struct backend_ops ops;

    ops = *b.node.pools->pools[0]->ops;
    ops.attach = attach;
    b.node.pools->pools[0]->ops = &ops;
}

/* Open, and published at b.target. */
static void make_open(void)
{
    memset(&played, 0, sizeof(played));
    bench_make(false);
    mount_staging();
    assert_works(publish(&err)); /* as a node's volume: what shows is the same */
    b.call.arena = arena;
    set_identity(true);
    play_attach();
    fill_context();
    be_asked_with(NULL);
}

/* ---- tests ---- */

static void test_again_asks_nobody(void **state UNUSED)
{
    NEEDS_RIG();
    make_open();
    assert_works(publish(&err));
    be_asked_with(WITH("new"));
    assert_works(publish(&err));
    played.fails = ERR_PERMISSION;
    assert_works(publish(&err));
    assert_int_equal(played.asked, 0);
    assert_int_equal(mounts_at(b.target), 1);
}

static void test_no_token(void **state UNUSED)
{
    NEEDS_RIG();
    make_open();
    b.req.target_path = below(b.t.path, "second");
    refused(publish, ERR_PRECONDITION, "the request has none for audience 'vault': the CSIDriver");
    be_asked_with("{\"other\":{\"token\":\"x\"}}");
    refused(publish, ERR_PRECONDITION, "the request has none for audience 'vault': the CSIDriver");
    be_asked_with("SECRET");
    refused(publish, ERR_INVALID, TOKENS " is not valid JSON");
    assert_int_equal(played.asked + played.closed, 0);
    assert_false(exists(b.req.target_path));
    assert_int_equal(mounts_at(b.target), 1); /* the other pod has it still */
}

/* That the volume is open for another pod doesn't spare this one the question. */
static void test_second_pod_is_refused(void **state UNUSED)
{
    NEEDS_RIG();
    make_open();
    b.req.target_path = below(b.t.path, "second");
    be_asked_with(WITH("eyJ.x.y"));
    played.fails = ERR_PERMISSION;
    refused(publish, ERR_PERMISSION, "the key service says no");
    assert_string_equal(played.token, "eyJ.x.y");
    assert_int_equal(played.use, KEYD_USE_VERIFY);
    played.fails = ERR_UNAVAILABLE;
    refused(publish, ERR_UNAVAILABLE, "the key service says no");
    assert_int_equal(played.closed, 0);
    assert_false(exists(b.req.target_path));
    assert_int_equal(mounts_at(b.target), 1);
}

/* What a killed publish left, and nobody uses, goes with the next one that fails. */
static void test_nothing_is_left_unused(void **state UNUSED)
{
    NEEDS_RIG();
    make_open();
    assert_int_equal(umount2(b.target, 0), 0);
    be_asked_with(WITH("x"));
    played.fails = ERR_PERMISSION;
    played.busy = ERR_ABORTED;
    refused(publish, ERR_ABORTED,
            "the key service says no"); /* to be repeated: something is left */
    played.busy = ERR_OK;
    refused(publish, ERR_PERMISSION, "the key service says no");
    assert_int_equal(played.closed, 1);
    assert_int_equal(mounts_at(b.staging), 0);
}

static void test_last_unpublish_closes(void **state UNUSED)
{
    const char *second;

    NEEDS_RIG();
    make_open();
    second = below(b.t.path, "second");
    rig_mkdir(second);
    assert_works(mount_bind(b.staging, second, false, &err));
    assert_works(unpublish(&err));
    assert_works(unpublish(&err));
    assert_int_equal(played.closed, 0);
    assert_int_equal(mounts_at(b.staging), 1);
    b.req.target_path = second;
    assert_works(unpublish(&err));
    assert_int_equal(played.closed, 1);
    assert_int_equal(mounts_at(b.staging), 0);
    assert_int_equal(played.asked, 0);
}

/* The mark of the staging mount says whose it is; without the pool and its records, too. */
static void test_last_unpublish_without_the_pool(void **state UNUSED)
{
    NEEDS_RIG();
    make_open();
    assert_int_equal(rename(b.pool.path, below(b.t.path, "elsewhere")), 0);
    assert_works(unpublish(&err));
    assert_int_equal(played.closed, 1);
    assert_int_equal(mounts_at(b.staging), 0);
}

static void test_other_volumes_stay_open(void **state UNUSED)
{
    NEEDS_RIG();
    make_open();
    set_identity(false);
    assert_int_equal(umount2(b.staging, MNT_DETACH), 0);
    assert_works(unpublish(&err));
    assert_int_equal(played.closed, 0);
}

/* What the API server keeps of the volume decides, not the record. */
static void test_context_and_record_agree(void **state UNUSED)
{
    NEEDS_RIG();
    make_open();
    b.req.target_path = below(b.t.path, "second");
    be_asked_with(WITH("x"));
    context[3] = (struct csi_pair){ "other", "x" };
    refused(publish, ERR_DATA_LOSS, "field 'tenantIdentity' is 'pod'");
    b.req.volume_context.n = 0;
    refused(publish, ERR_INVALID, "volume_context lacks 'tenant'");
    fill_context();
    set_identity(false);
    refused(publish, ERR_DATA_LOSS, "field 'tenantIdentity' is 'node'");
    assert_int_equal(played.asked, 0);
}

/* No symbolic link is followed on the staging mount; a pod has them. */
static void test_the_mark_stays_at_home(void **state UNUSED)
{
    NEEDS_RIG();
    make_open();
    assert_int_equal(mknod(below(b.staging, "real"), S_IFREG | 0600, 0), 0);
    assert_int_equal(symlink("real", below(b.staging, "link")), 0);
    assert_int_equal(access(below(b.target, "link"), F_OK), 0);
    assert_int_equal(access(below(b.staging, "link"), F_OK), -1);
    assert_int_equal(errno, ELOOP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_again_asks_nobody),       BENCH_TEST(test_no_token),
        BENCH_TEST(test_second_pod_is_refused),   BENCH_TEST(test_nothing_is_left_unused),
        BENCH_TEST(test_last_unpublish_closes),   BENCH_TEST(test_last_unpublish_without_the_pool),
        BENCH_TEST(test_other_volumes_stay_open), BENCH_TEST(test_context_and_record_agree),
        BENCH_TEST(test_the_mark_stays_at_home),
    };

    arena = arena_new(MIB(1));
    rig_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
