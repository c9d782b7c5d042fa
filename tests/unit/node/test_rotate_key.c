/* SPDX-License-Identifier: Apache-2.0 */
/* The order of a rotation on a real pool: whatever fails or kills it, the record names a key that
 * the header has a keyslot for. coffer-keyd and coffer-crypt are played, the header is a set of
 * names. */
#include "common/base.h"
#include "tests/unit/node/bench.h"

#include "keyd/client.h"

#define MAC_NEW "1111111111111111111111111111111111111111111111111111111111111111"
#define MAC_END "2222222222222222222222222222222222222222222222222222222222222222"

/* ---- played ---- */

enum step { MINT, UNWRAP, REKEY, PRUNE, STEPS };

static struct {
    unsigned asked[STEPS];
    enum step fails; /* STEPS: none does */
    enum error_code code;
    bool half;      /* what fails has done its work */
    char slots[64]; /* names of the keys that open the header: one letter each */
} played;

/* A wrapped key is "A", "B", … repeated: its letter is its name. */
static char named(const struct record *r)
{
    return r->key.ciphertext[0];
}

static int play(enum step step, struct error *err)
{
    played.asked[step]++;
    return played.fails == step ? error_set(err, played.code, "as asked") : 0;
}

int keyd_mint(const char *socket_path UNUSED, const struct keyd_binding *binding UNUSED,
              uint64_t deadline UNUSED, struct keyd_wrapped *ret, struct error *err)
{
    if (play(MINT, err) < 0)
        return -1;
    *ret = (struct keyd_wrapped){ .kind = "file", .version = 7 };
    (void)snprintf(ret->ciphertext, sizeof(ret->ciphertext), "%c",
                   (int)('A' + (char)played.asked[MINT]));
    return 0;
}

int keyd_unwrap(const char *socket_path UNUSED, const struct keyd_binding *binding UNUSED,
                const struct keyd_wrapped *key, enum keyd_use use, const char *token UNUSED,
                int pipe_write, uint64_t deadline UNUSED, struct error *err)
{
    assert_int_equal(use, KEYD_USE_ROTATE);
    if (play(UNWRAP, err) < 0)
        return -1;
    assert_int_equal(write(pipe_write, key->ciphertext, 1), 1);
    return 0;
}

static char key_of(int fd)
{
    char c = '?';

    assert_int_equal(read(fd, &c, 1), 1);
    return c;
}

static void give_slot(char key)
{
    const size_t n = strlen(played.slots);

    assert_true(n + 1 < sizeof(played.slots));
    played.slots[n] = key;
}

static bool opens(char key)
{
    return strchr(played.slots, key) != NULL;
}

int crypt_rekey(const struct crypt_client *c UNUSED, const struct crypt_volume *v, int key_fd,
                int new_key_fd, int backup_fd, uint64_t deadline UNUSED, char ret_mac[65],
                struct error *err)
{
    const char old = key_of(key_fd), fresh = key_of(new_key_fd);

    assert_true(old == named(v->record) && opens(old) && !opens(fresh) && v->lock_fd >= 0);
    assert_int_equal(write(backup_fd, "header", 6), 6);
    if (played.fails != REKEY || played.half)
        give_slot(fresh);
    if (play(REKEY, err) < 0)
        return -1;
    memcpy(ret_mac, MAC_NEW, 65);
    return 0;
}

int crypt_prune(const struct crypt_client *c UNUSED, const struct crypt_volume *v, int key_fd,
                uint64_t deadline UNUSED, char ret_mac[65], struct error *err)
{
    const char key[] = { key_of(key_fd), '\0' };

    assert_true(key[0] == named(v->record) && opens(key[0]) && v->record->stale_slots);
    if (played.fails != PRUNE || played.half)
        memcpy(played.slots, key, sizeof(key));
    if (play(PRUNE, err) < 0)
        return -1;
    memcpy(ret_mac, MAC_END, 65);
    return 0;
}

/* What other files of the node ask for; here nobody does. */
static int not_here(struct error *err)
{
    return error_set(err, ERR_INTERNAL, "a rotation doesn't ask that");
}

int crypt_list(const struct crypt_client *c UNUSED, uint64_t deadline UNUSED,
               struct mapping_list *ret UNUSED, struct error *err)
{
    return not_here(err);
}

void mapping_list_release(struct mapping_list *l UNUSED)
{
}

const struct mapping *mapping_find(const struct mapping_list *l UNUSED, const char *dm_name UNUSED)
{
    return NULL;
}

int crypt_check(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
                uint64_t deadline UNUSED, struct mapping *ret UNUSED, struct error *err)
{
    return not_here(err);
}

int crypt_close(const struct crypt_client *c UNUSED, const char *dm_name UNUSED,
                const char *dm_uuid UNUSED, int lock_fd UNUSED, uint64_t deadline UNUSED,
                struct error *err)
{
    return not_here(err);
}

int crypt_blank(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
                uint64_t deadline UNUSED, struct error *err)
{
    return not_here(err);
}

int crypt_format(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
                 enum record_state stored_state UNUSED, int key_fd UNUSED, uint64_t deadline UNUSED,
                 char ret_digest[65] UNUSED, char ret_mac[65] UNUSED, struct mapping *ret UNUSED,
                 struct error *err)
{
    return not_here(err);
}

int crypt_open(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
               int key_fd UNUSED, uint64_t deadline UNUSED, struct mapping *ret UNUSED,
               struct error *err)
{
    return not_here(err);
}

int crypt_resize(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
                 int key_fd UNUSED, uint64_t deadline UNUSED, struct mapping *ret UNUSED,
                 struct error *err)
{
    return not_here(err);
}

/* ---- the volume ---- */

static int attach(struct volume *v UNUSED, struct block_device *ret UNUSED,
                  struct error *err UNUSED)
{
    return 0;
}

static struct record stored(void)
{
    struct record r;

    assert_works(b.node.pools->pools[0]->ops->peek_record(b.node.pools->pools[0], &b.id, &r, &err));
    return r;
}

static void store(void (*change)(struct record *r))
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct record r;

    assert_works(volume_open(b.node.pools->pools[0], &b.id, false, &v, &err));
    assert_works(v.pool->ops->read_record(&v, &r, &err));
    change(&r);
    assert_works(v.pool->ops->write_record(&v, &r, &err));
}

static bool backup_there(void)
{
    char path[5000];

    (void)snprintf(path, sizeof(path), "%s/volumes/%.2s/%s/header.backup", b.pool.path, b.id.hash,
                   b.id.hash);
    return access(path, F_OK) == 0;
}

static int setup(void **state)
{
    static struct backend_ops ops;

    memset(&b, 0, sizeof(b));
    memset(&played, 0, sizeof(played));
    played.fails = STEPS;
    set(played.slots, sizeof(played.slots), "A");
    b.t = tmpdir_make();
    b.node.locks = keylock_new();
    b.call.deadline = DEADLINE_NEVER;
    make_pool();
    make_record("ext4");
    ops = *b.node.pools->pools[0]->ops;
    ops.attach = attach;
    b.node.pools->pools[0]->ops = &ops;
    *state = NULL;
    return 0;
}

static int teardown(void **state UNUSED)
{
    pool_set_free(b.node.pools);
    keylock_free(b.node.locks);
    tmpdir_remove(&b.t);
    return 0;
}

static int rotate(struct csi_rotate_key_reply *ret, struct error *err)
{
    const struct csi_rotate_key_request req = { .volume_id = b.id_text, .reason = "test" };

    return node_rotate_key(&b.node, &b.call, &req, ret, err);
}

static int rotate_only(struct error *err)
{
    struct csi_rotate_key_reply reply;

    return rotate(&reply, err);
}

static void demand_rotated(char key)
{
    const struct record r = stored();

    assert_true(named(&r) == key && !r.stale_slots);
    assert_string_equal(r.mac, MAC_END);
    assert_true(played.slots[0] == key && played.slots[1] == '\0' && !backup_there());
}

/* ---- tests ---- */

static void rotates(void **state)
{
    struct csi_rotate_key_reply reply;

    assert_works(rotate(&reply, &err));
    assert_true(!reply.resumed && reply.key_version == 7);
    demand_rotated('B');
    assert_true(played.asked[MINT] == 1 && played.asked[UNWRAP] == 3);
    assert_works(rotate(&reply, &err));
    demand_rotated('C');
    assert_int_equal(atomic_load(&b.node.counters[NODE_ROTATED]), 2);
}

/* After each failure the key that the record names opens the header, and the next call finishes. */
static void any_step_may_fail(void **state)
{
    for (int i = 0; i < 2 * STEPS; i++) {
        struct error failed = ERROR_INIT;

        (void)teardown(state);
        (void)setup(state);
        played.fails = (enum step)(i / 2);
        played.half = i % 2 == 1;
        played.code = ERR_UNAVAILABLE;
        assert_int_equal(rotate_only(&failed), -1);
        assert_int_equal(failed.code, ERR_UNAVAILABLE);
        struct record r = stored();
        assert_true(opens(named(&r)));
        assert_int_equal(r.stale_slots, played.fails == PRUNE);
        played.fails = STEPS;
        assert_works(rotate_only(&err));
        r = stored();
        demand_rotated(named(&r));
        assert_true(named(&r) != 'A');
    }
}

static void be_stale(struct record *r)
{
    r->stale_slots = true;
}

/* Nothing is minted for what an interrupted one left to do. */
static void resumes(void **state)
{
    struct csi_rotate_key_reply reply;

    store(be_stale);
    give_slot('Z');
    assert_works(rotate(&reply, &err));
    assert_true(reply.resumed && played.asked[MINT] == 0 && played.asked[REKEY] == 0);
    demand_rotated('A');
}

static void be_new(struct record *r)
{
    r->state = RECORD_NEW;
    r->digest[0] = r->mac[0] = '\0';
}

static void be_kv(struct record *r)
{
    set(r->key.kind, sizeof(r->key.kind), "kv");
}

static void be_pods(struct record *r)
{
    r->pod = true;
}

static void some_volumes_are_not_rotated(void **state)
{
    static const struct {
        void (*change)(struct record *r);
        const char *says;
    } rows[] = {
        { be_new, "is in state 'new'" },
        { be_kv, "is stored in Vault itself" },
        { be_pods, "by the token of a pod" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        (void)teardown(state);
        (void)setup(state);
        store(rows[i].change);
        refused(rotate_only, ERR_PRECONDITION, rows[i].says);
        const struct record r = stored();
        assert_true(named(&r) == 'A' && played.asked[REKEY] == 0 && !backup_there());
    }
}

static void a_node_without_the_right_says_so(void **state)
{
    played.fails = MINT;
    played.code = ERR_PERMISSION;
    refused(rotate_only, ERR_PERMISSION, "its coffer-keyd needs --allow MINT,UNWRAP");
}

static void a_busy_volume_is_aborted(void **state)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;

    assert_works(volume_open(b.node.pools->pools[0], &b.id, false, &v, &err));
    refused(rotate_only, ERR_ABORTED, "");
    assert_int_equal(played.asked[MINT], 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(rotates),
        TEST(any_step_may_fail),
        TEST(resumes),
        TEST(some_volumes_are_not_rotated),
        TEST(a_node_without_the_right_says_so),
        TEST(a_busy_volume_is_aborted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
