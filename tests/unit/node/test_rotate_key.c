/* SPDX-License-Identifier: Apache-2.0 */
/* The order of a rotation, and of recipients that come and go, on a real pool: whatever fails or
 * kills it, the record names a key that the header has a keyslot for. coffer-keyd and coffer-crypt
 * are played (rotation.h). */
#include "common/base.h"
#include "tests/unit/node/rotation.h"

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

/* ---- recipients ---- */

/* SHA-256 of "abc" and of "abd" */
#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define ABD "a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9"

static int add_recipient(const char *public_key, const char *label, bool *ret_already,
                         struct error *err)
{
    const struct csi_add_recipient_request req = { .volume_id = b.id_text,
                                                   .public_key = public_key,
                                                   .algorithm = "RSA-OAEP-256",
                                                   .label = label,
                                                   .reason = "test",
                                                   .wrapped = "" };
    struct csi_add_recipient_reply reply = { .already = false };
    int r = node_add_recipient(&b.node, &b.call, &req, &reply, err);

    *ret_already = reply.already;
    return r;
}

static int remove_recipient(const char *fingerprint, bool *ret_resumed, struct error *err)
{
    const struct csi_remove_recipient_request req = { .volume_id = b.id_text,
                                                      .fingerprint = fingerprint,
                                                      .reason = "test" };
    struct csi_rotate_key_reply reply = { .resumed = false };
    int r = node_remove_recipient(&b.node, &b.call, &req, &reply, err);

    *ret_resumed = reply.resumed;
    return r;
}

static void add_two(void)
{
    bool already;

    assert_works(add_recipient("YWJj", "phone", &already, &err));
    assert_false(already);
    assert_works(add_recipient("YWJk", "", &already, &err));
    assert_false(already);
}

static void demand_recipients(char key, size_t n, const char *first)
{
    const struct record r = stored();
    struct recipient_list list;

    assert_works(recipients_decode(r.recipients, &list, &err));
    assert_int_equal(list.n, n);
    assert_true(n == 0 || strcmp(list.items[0].fingerprint, first) == 0);
    demand_wrapped(r.recipients, key);
    assert_int_equal(named(&r), key);
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

/* Nothing but list and MAC changes; the same again is answered, another label is another request.
 */
static void adds(void **state UNUSED)
{
    struct error other = ERROR_INIT;
    bool already;

    add_two();
    demand_recipients('A', 2, ABC);
    assert_string_equal(stored().mac, MAC_LIST);
    assert_true(played.asked[MINT] == 0 && played.asked[REKEY] == 0 && played.asked[WRAP] == 2);
    assert_works(add_recipient("YWJj", "phone", &already, &err));
    assert_true(already && played.asked[WRAP] == 2);
    assert_int_equal(add_recipient("YWJj", "tablet", &already, &other), -1);
    assert_int_equal(other.code, ERR_EXISTS);
    demand_recipients('A', 2, ABC);
    assert_int_equal(atomic_load(&b.node.counters[NODE_RECIPIENTS]), 2);
}

static void refuses_bad_recipients(void **state UNUSED)
{
    static const char *const keys[] = { "", "abc", "YWJ" };
    bool ignored;

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        struct error err = ERROR_INIT;

        assert_int_equal(add_recipient(keys[i], "", &ignored, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
    struct error err = ERROR_INIT;
    assert_int_equal(add_recipient("YWJj", "two\nlines", &ignored, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(remove_recipient("ABC", &ignored, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(remove_recipient(ABC, &ignored, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    demand_recipients('A', 0, NULL);
}

static void a_failed_add_changes_nothing(void **state UNUSED)
{
    static const enum step steps[] = { WRAP, UNWRAP, SIGN };

    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        struct error err = ERROR_INIT;
        bool already;

        played.fails = steps[i];
        played.code = ERR_UNAVAILABLE;
        assert_int_equal(add_recipient("YWJj", "", &already, &err), -1);
        assert_int_equal(err.code, ERR_UNAVAILABLE);
        demand_recipients('A', 0, NULL);
    }
}

/* Those who stay have the new key, in the same write as the record names it. */
static void removes(void **state)
{
    bool resumed;

    add_two();
    assert_works(remove_recipient(ABC, &resumed, &err));
    assert_false(resumed);
    demand_rotated('B');
    demand_recipients('B', 1, ABD);
    assert_works(remove_recipient(ABD, &resumed, &err));
    demand_rotated('C');
    demand_recipients('C', 0, NULL);
}

/* The list is what it is to be as soon as the new key is the volume's, and not before. */
static void a_removal_may_fail_anywhere(void **state)
{
    for (int i = 0; i < 2 * STEPS; i++) {
        const enum step step = (enum step)(i / 2);
        struct error failed = ERROR_INIT;
        bool resumed;

        (void)teardown(state);
        (void)setup(state);
        add_two();
        played.fails = step;
        played.half = i % 2 == 1;
        played.code = ERR_UNAVAILABLE;
        assert_int_equal(remove_recipient(ABC, &resumed, &failed), -1);
        struct record r = stored();
        assert_true(opens(named(&r)));
        demand_recipients(named(&r), step == PRUNE ? 1 : 2, step == PRUNE ? ABD : ABC);
        played.fails = STEPS;
        assert_works(remove_recipient(ABC, &resumed, &err));
        assert_int_equal(resumed, step == PRUNE);
        r = stored();
        demand_recipients(named(&r), 1, ABD);
    }
}

/* After each failure the key that the record names opens the header, and the next call finishes. */
static void any_step_may_fail(void **state)
{
    for (int i = 0; i < 2 * STEPS; i++) {
        struct error failed = ERROR_INIT;

        (void)teardown(state);
        (void)setup(state);
        add_two();
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
        TEST(adds),
        TEST(removes),
        TEST(refuses_bad_recipients),
        TEST(a_failed_add_changes_nothing),
        TEST(a_removal_may_fail_anywhere),
        TEST(some_volumes_are_not_rotated),
        TEST(a_node_without_the_right_says_so),
        TEST(a_busy_volume_is_aborted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
