/* SPDX-License-Identifier: Apache-2.0 */
/* A pod's inline volume, by which a user's device comes or goes: what is done is told again without
 * a session, what was refused has changed nothing, and a removal from its record on is never told
 * to be refused. coffer-keyd and coffer-crypt are played (rotation.h). */
#include "common/base.h"
#include "tests/unit/node/devices.h"

#include "volume/inline.h"

#define INLINE_ID "csi-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct csi_pair attributes[12], secrets[12];
static size_t n_attributes, n_secrets;
static const char *space;
static bool writable;

static void say(const char *key, const char *value)
{
    attributes[n_attributes++] = (struct csi_pair){ key, value };
}

static void bring_secret(const char *key, const char *value)
{
    secrets[n_secrets++] = (struct csi_pair){ key, value };
}

static void begin(const char *action)
{
    n_attributes = n_secrets = 0;
    say(INLINE_EPHEMERAL, "true");
    say(INLINE_NAMESPACE, space);
    say(INLINE_POD, "cloud-1-request-x");
    say(INLINE_ACTION, action);
    say(INLINE_VOLUME, b.id_text);
}

static void lend_it(char key, int device)
{
    (void)lend(&old, key, device);
    for (size_t i = 0; i < old.n; i++)
        bring_secret(old.items[i].key, old.items[i].value);
}

static const char *digest_of(const char *text)
{
    static char digests[4][65];
    static unsigned next;
    unsigned char data[512];
    char *digest = digests[next++ % ARRAY_SIZE(digests)];
    size_t len;

    assert_int_equal(b64_decode(data, sizeof(data), text, strlen(text), &len), 0);
    recipient_fingerprint(data, len, digest);
    return digest;
}

static void ask_to_add(int device, char key)
{
    const char *form = wrap(key, device);

    begin(INLINE_ADD);
    say(INLINE_FINGERPRINT, print_of(device));
    say(INLINE_WRAPPED, digest_of(form));
    bring_secret(INLINE_SECRET_KEY, key_text(device));
    bring_secret(INLINE_SECRET_ALGORITHM, "RSA-OAEP-256");
    bring_secret(INLINE_SECRET_FORM, form);
}

static void ask_to_remove(int device, char key, int by)
{
    (void)bring(&fresh, key, DEVICES(by));
    begin(INLINE_REMOVE);
    say(INLINE_FINGERPRINT, print_of(device));
    say(INLINE_COMMITMENT, commitment_of(key));
    bring_secret(INLINE_SECRET_NEW_SESSION, fresh.items[0].value);
    bring_secret(INLINE_SECRET_NEW_SERVER_KEY, fresh.items[1].value);
    bring_secret(INLINE_SECRET_NEW_FINGERPRINT, fresh.items[2].value);
    bring_secret(INLINE_SECRET_NEW_RECIPIENTS, fresh.recipients);
}

static int call(struct error *err)
{
    const struct csi_publish_request req = {
        .volume_id = INLINE_ID,
        .staging_target_path = "",
        .target_path = b.target,
        .volume_context = { .items = attributes, .n = n_attributes },
        .secrets = { .items = secrets, .n = n_secrets },
        .readonly = !writable,
        .capability = { .type = CSI_ACCESS_MOUNT, .mode = CSI_SINGLE_NODE_MULTI_WRITER },
    };

    return node_publish_volume(&b.node, &b.call, &req, err);
}

static int let_go(struct error *err)
{
    const struct csi_unpublish_request req = { .volume_id = INLINE_ID, .target_path = b.target };

    return node_unpublish_volume(&b.node, &b.call, &req, err);
}

static bool target_there(void)
{
    return access(b.target, F_OK) == 0;
}

static char named_now(size_t *ret_n)
{
    const struct record r = stored();
    struct recipient_list list;

    assert_works(recipients_decode(r.recipients, &list, &err));
    *ret_n = list.n;
    return named(&r);
}

static void demand(char key, size_t n)
{
    size_t found;

    assert_int_equal(named_now(&found), key);
    assert_int_equal(found, n);
}

static void demand_refused(enum error_code code, const char *word, char key, size_t n)
{
    struct error err = ERROR_INIT;

    assert_int_equal(call(&err), -1);
    if (err.code != code || strstr(err.msg, word) == NULL)
        fail_msg("%s: %s (expected %s, '%s')", error_code_name(err.code), err.msg,
                 error_code_name(code), word);
    demand(key, n);
    assert_false(target_there());
}

static int inline_setup(void **state)
{
    (void)client_setup(state);
    (void)snprintf(b.target, sizeof(b.target), "%s/target", b.t.path);
    space = "lab";
    writable = false;
    return 0;
}

/* ---- */

static void adds(void **state UNUSED)
{
    ask_to_add(Y, 'a');
    demand_refused(ERR_PRECONDITION, "no session came to add it with", 'a', 1);
    lend_it('a', X);
    assert_works(call(&err));
    demand('a', 2);
    assert_true(target_there());
    assert_works(call(&err)); /* kubelet repeats it */
    assert_works(let_go(&err));
    assert_works(let_go(&err));
    assert_false(target_there());
    /* that it is so is told without a session, and nobody is asked */
    const unsigned asked = played.asked[UNWRAP];
    ask_to_add(Y, 'a');
    n_secrets = 0;
    assert_works(call(&err));
    assert_int_equal(played.asked[UNWRAP], asked);
    assert_works(let_go(&err));
    demand('a', 2);
}

static void refuses_to_add(void **state UNUSED)
{
    ask_to_add(Y, 'a');
    lend_it('c', X);
    demand_refused(ERR_INVALID, "was not made for this volume", 'a', 1);
    ask_to_add(Y, 'a');
    lend_it('a', Z);
    demand_refused(ERR_INVALID, "doesn't have among its recipients", 'a', 1);
    ask_to_add(Y, 'a');
    lend_it('a', X);
    attributes[5].value = print_of(Z);
    demand_refused(ERR_INVALID, "isn't the key of volume attribute", 'a', 1);
    attributes[5].value = "Y";
    demand_refused(ERR_INVALID, "'fingerprint' must be the 64", 'a', 1);
    ask_to_add(Y, 'a');
    lend_it('a', X);
    attributes[6].value = digest_of(wrap('b', Y));
    demand_refused(ERR_INVALID, "isn't what volume attribute", 'a', 1);
    secrets[0].value = "?";
    demand_refused(ERR_INVALID, "'publicKey' must be base64", 'a', 1);
}

/* Its target is a directory of the node's own. */
static void must_be_read_only(void **state UNUSED)
{
    ask_to_add(Y, 'a');
    lend_it('a', X);
    writable = true;
    demand_refused(ERR_INVALID, "must be readOnly: true", 'a', 1);
    begin(INLINE_CLOSED);
    demand_refused(ERR_INVALID, "must be readOnly: true", 'a', 1);
}

static void is_told_by_its_namespace_alone(void **state UNUSED)
{
    char other[VOLUME_ID_MAX + 1];

    space = "another";
    ask_to_add(Y, 'a');
    lend_it('a', X);
    demand_refused(ERR_NOT_FOUND, "namespace 'another' has no volume", 'a', 1);
    ask_to_remove(X, 'b', X);
    lend_it('a', X);
    demand_refused(ERR_NOT_FOUND, "namespace 'another' has no volume", 'a', 1);
    space = "lab";
    ask_to_add(Y, 'a');
    set(other, sizeof(other), b.id_text);
    memset(other + strlen(other) - 32, '0', 32);
    attributes[4].value = other;
    demand_refused(ERR_NOT_FOUND, "namespace 'lab' has no volume", 'a', 1);
}

static void wants_an_action(void **state UNUSED)
{
    begin("format");
    demand_refused(ERR_INVALID, "is a request to its node, and holds nothing", 'a', 1);
    begin(INLINE_CLOSED);
    attributes[4].value = "x";
    demand_refused(ERR_NOT_FOUND, "x", 'a', 1);
}

static void add_y(void)
{
    ask_to_add(Y, 'a');
    lend_it('a', X);
    assert_works(call(&err));
    assert_works(let_go(&err));
}

static void removes(void **state UNUSED)
{
    add_y();
    ask_to_remove(X, 'b', Y);
    demand_refused(ERR_PRECONDITION, "no session came to change that with", 'a', 2);
    lend_it('a', Y);
    assert_works(call(&err));
    demand('b', 1);
    assert_works(call(&err));
    assert_true(played.slots[0] == 'b' && played.slots[1] == '\0');
    ask_to_remove(X, 'b', Y);
    n_secrets = 0;
    assert_works(call(&err));
    assert_works(let_go(&err));
    /* another key is another removal */
    ask_to_remove(X, 'c', Y);
    lend_it('b', Y);
    demand_refused(ERR_NOT_FOUND, "is no recipient", 'b', 1);
}

static void refuses_to_remove(void **state UNUSED)
{
    ask_to_remove(X, 'b', X);
    lend_it('a', X);
    demand_refused(ERR_PRECONDITION, "is the last recipient", 'a', 1);
    add_y();
    ask_to_remove(X, 'b', Y);
    lend_it('c', Y);
    demand_refused(ERR_INVALID, "was not made for this volume", 'a', 2);
    ask_to_remove(X, 'b', Z);
    lend_it('a', Y);
    demand_refused(ERR_INVALID, "is of none that stays", 'a', 2);
    ask_to_remove(X, 'b', Y);
    lend_it('a', Y);
    secrets[0].value = "Yw==";
    demand_refused(ERR_INVALID, "the new key: the session was not made", 'a', 2);
}

/* The record is written, the old keyslots are there: whatever keeps them there, it isn't refused,
 * and without a session it is told to be done. */
static void a_removal_that_is_half_done_is_not_refused(void **state UNUSED)
{
    struct error failed = ERROR_INIT;

    add_y();
    ask_to_remove(X, 'b', Y);
    lend_it('a', Y);
    played.fails = PRUNE;
    played.code = ERR_PRECONDITION;
    assert_int_equal(call(&failed), -1);
    assert_int_equal(failed.code, ERR_ABORTED);
    demand('b', 1);
    assert_int_equal(call(&failed), -1);
    assert_int_equal(failed.code, ERR_ABORTED);
    const size_t brought = n_secrets;
    n_secrets = 0;
    assert_works(call(&err));
    assert_true(stored().stale_slots);
    n_secrets = brought;
    played.fails = STEPS;
    assert_works(call(&err));
    assert_false(stored().stale_slots);
    assert_works(let_go(&err));
}

/* Who asked before without hearing the end asks whether it was made. While it may still be, nobody
 * says that it wasn't: the claim would have the old list for ever. */
static void nothing_is_refused_while_it_is_at_work(void **state UNUSED)
{
    for (unsigned int i = 0; i < 2; i++) {
        AUTO_KEYLOCK struct keylock_hold *at_work = NULL;

        if (i == 0)
            ask_to_add(Y, 'a');
        else
            ask_to_remove(Y, 'b', X);
        n_secrets = 0;
        assert_works(keylock_try(b.node.locks, b.id_text, &at_work, &err));
        demand_refused(ERR_ABORTED, "is under way", 'a', 1);
        keylock_hold_free(TAKE_PTR(at_work));
        demand_refused(ERR_PRECONDITION, "no session came", 'a', 1);
    }
}

static void closed(void **state UNUSED)
{
    NEEDS_RIG();
    begin(INLINE_CLOSED);
    assert_works(call(&err));
    assert_works(let_go(&err));
    rig_mapping(FS_BLOCK, b.dm_name, RIG_UUID, RIG_LOOP, false);
    b.call.deadline = deadline_in(200);
    demand_refused(ERR_ABORTED, "is still open", 'a', 1);
}

static unsigned waiting; /* calls that wait, each within the one before */

static bool one_more_asks(const struct csi_call *c UNUSED)
{
    struct error err = ERROR_INIT;

    if (waiting < 32) { /* as many as there are workers */
        waiting++;
        assert_int_equal(call(&err), -1);
        assert_int_equal(err.code, ERR_ABORTED);
    }
    return true;
}

static void most_workers_never_wait_for_a_closing(void **state UNUSED)
{
    NEEDS_RIG();
    begin(INLINE_CLOSED);
    rig_mapping(FS_BLOCK, b.dm_name, RIG_UUID, RIG_LOOP, false);
    b.call.cancelled = one_more_asks;
    waiting = 1;
    demand_refused(ERR_ABORTED, "is still open", 'a', 1);
    assert_int_equal(waiting, 9); /* eight waited, the ninth did not */
    waiting = 1;
    demand_refused(ERR_ABORTED, "is still open", 'a', 1);
    assert_int_equal(waiting, 9);
}

static bool never(const struct csi_call *c UNUSED)
{
    return false;
}

static int closed_setup(void **state)
{
    (void)rig_clear(state);
    (void)inline_setup(state);
    b.call.cancelled = never;
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, inline_setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(adds),
        TEST(refuses_to_add),
        TEST(must_be_read_only),
        TEST(is_told_by_its_namespace_alone),
        TEST(wants_an_action),
        TEST(removes),
        TEST(refuses_to_remove),
        TEST(a_removal_that_is_half_done_is_not_refused),
        TEST(nothing_is_refused_while_it_is_at_work),
        cmocka_unit_test_setup_teardown(closed, closed_setup, teardown),
        cmocka_unit_test_setup_teardown(most_workers_never_wait_for_a_closing, closed_setup,
                                        teardown),
    };

    rig_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
