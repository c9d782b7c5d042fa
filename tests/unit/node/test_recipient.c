/* SPDX-License-Identifier: Apache-2.0 */
/* Recipients of a volume whose key a user's device made: the device brings every key and what is
 * wrapped of it, and whatever fails or kills a change, the record names a key that the header has a
 * keyslot for. coffer-keyd and coffer-crypt are played (rotation.h). */
#include "common/base.h"
#include "tests/unit/node/devices.h"

/* ---- the calls ---- */

static int add_device(int device, const char *wrapped, struct error *err)
{
    const struct csi_add_recipient_request req = { .volume_id = b.id_text,
                                                   .public_key = key_text(device),
                                                   .algorithm = "RSA-OAEP-256",
                                                   .label = "",
                                                   .reason = "test",
                                                   .wrapped = wrapped,
                                                   .secrets = map_of(&old) };
    struct csi_add_recipient_reply reply = { .already = false };

    return node_add_recipient(&b.node, &b.call, &req, &reply, err);
}

static bool resumed;

static int remove_device(int device, struct error *err)
{
    const struct csi_remove_recipient_request req = { .volume_id = b.id_text,
                                                      .fingerprint = print_of(device),
                                                      .reason = "test",
                                                      .secrets = map_of(&old),
                                                      .new_secrets = map_of(&fresh) };
    struct csi_rotate_key_reply reply = { .resumed = false };
    int r = node_remove_recipient(&b.node, &b.call, &req, &reply, err);

    resumed = reply.resumed;
    return r;
}

static int remove_x(struct error *err)
{
    return remove_device(X, err);
}

static int rotate(struct error *err)
{
    const struct csi_rotate_key_request req = { .volume_id = b.id_text,
                                                .reason = "test",
                                                .secrets = map_of(&old),
                                                .new_secrets = map_of(&fresh) };
    struct csi_rotate_key_reply reply = { .resumed = false };
    int r = node_rotate_key(&b.node, &b.call, &req, &reply, err);

    resumed = reply.resumed;
    return r;
}

static int list(struct error *err)
{
    const struct csi_list_recipients_request req = { .volume_id = b.id_text,
                                                     .secrets = map_of(&old) };
    struct csi_list_recipients_reply reply = { .n = 0 };

    return node_list_recipients(&b.node, &b.call, &req, &reply, err);
}

/* ---- the volume ---- */

static int with_y(void **state)
{
    (void)client_setup(state);
    assert_works(add_device(Y, wrap('a', Y), &err));
    return 0;
}

static void again(void **state, int (*make)(void **state))
{
    (void)teardown(state);
    (void)make(state);
}

static void demand_state(char key, size_t n, int first)
{
    const struct record r = stored();
    struct recipient_list members;

    assert_int_equal(named(&r), key);
    assert_works(recipients_decode(r.recipients, &members, &err));
    assert_int_equal(members.n, n);
    assert_string_equal(members.items[0].fingerprint, print_of(first));
    demand_wrapped(r.recipients, key);
    assert_true(opens(key) && record_is_client(&r));
}

static void demand_done(char key, size_t n, int first)
{
    demand_state(key, n, first);
    assert_true(!stored().stale_slots && played.slots[1] == '\0' && !backup_there());
    assert_int_equal(played.asked[MINT] + played.asked[WRAP], 0);
}

/* Refused, nothing is changed, and no value is quoted. */
static void demand_refused(int (*call)(struct error *err), enum error_code code, const char *word,
                           size_t n)
{
    struct error err = ERROR_INIT;

    assert_int_equal(call(&err), -1);
    if (err.code != code || strstr(err.msg, word) == NULL)
        fail_msg("%s: %s (expected %s, '%s')", error_code_name(err.code), err.msg,
                 error_code_name(code), word);
    assert_null(strstr(err.msg, commitment_of('b')));
    demand_state('a', n, X);
    assert_true(played.slots[1] == '\0' && !backup_there() && !stored().stale_slots);
}

/* ---- list, add ---- */

static void lists_by_the_session(void **state UNUSED)
{
    assert_works(list(&err));
    (void)lend(&old, 'b', X);
    demand_refused(list, ERR_INVALID, "was not made for this volume", 1);
    (void)lend(&old, 'a', Z);
    demand_refused(list, ERR_INVALID, "doesn't have among its recipients", 1);
    (void)lend(&old, 'a', X);
    old.items[0].value = "YWE=";
    demand_refused(list, ERR_PRECONDITION, "the session is over", 1);
    old.n = 0;
    demand_refused(list, ERR_PRECONDITION, "secret 'session' is missing", 1);
}

static const char *given;

static int add_y(struct error *err)
{
    return add_device(Y, given, err);
}

static void adds_what_the_device_wrapped(void **state UNUSED)
{
    given = "";
    demand_refused(add_y, ERR_INVALID, "which alone can wrap it", 1);
    given = "AAAA";
    demand_refused(add_y, ERR_INVALID, "wrapped has 3 bytes", 1);
    given = "not base64!";
    demand_refused(add_y, ERR_INVALID, "wrapped must be base64", 1);
    given = wrap('a', Y);
    old.n = 0;
    demand_refused(add_y, ERR_PRECONDITION, "secret 'session' is missing", 1);
    (void)lend(&old, 'c', X);
    demand_refused(add_y, ERR_INVALID, "was not made for this volume", 1);
    (void)lend(&old, 'a', X);
    assert_works(add_device(Y, wrap('a', Y), &err));
    demand_done('a', 2, X);
    assert_works(add_device(Y, wrap('a', Y), &err));
    given = wrap('c', Y);
    demand_refused(add_y, ERR_EXISTS, "something else is wrapped for it", 2);
}

static void be_the_services(struct record *r)
{
    set(r->key_source, sizeof(r->key_source), "vault");
    set(r->key.kind, sizeof(r->key.kind), "file");
    set(r->key.ciphertext, sizeof(r->key.ciphertext), "A");
    r->recipients[0] = '\0';
}

/* Its key is the key service's: nobody brings one, nor says what was wrapped. */
static void another_volume_takes_none_of_it(void **state UNUSED)
{
    struct error wrapped = ERROR_INIT, brought = ERROR_INIT;

    store(be_the_services);
    assert_int_equal(add_device(Y, wrap('a', Y), &wrapped), -1);
    assert_non_null(strstr(wrapped.msg, "wrapped is for keySource client"));
    (void)bring(&fresh, 'b', DEVICES(X));
    assert_int_equal(rotate(&brought), -1);
    assert_non_null(strstr(brought.msg, "new secrets are for keySource client"));
    assert_int_equal(stored().key.ciphertext[0], 'A');
}

/* ---- remove ---- */

static void removes(void **state UNUSED)
{
    (void)bring(&fresh, 'b', DEVICES(Y));
    assert_works(remove_x(&err));
    assert_false(resumed);
    demand_done('b', 1, Y);
    assert_works(remove_x(&err)); /* the answer was lost */
    assert_true(resumed);
    demand_done('b', 1, Y);
    /* what X had lends nothing any more */
    struct error failed = ERROR_INIT;
    fresh.n = 0;
    assert_int_equal(list(&failed), -1);
    assert_int_equal(failed.code, ERR_INVALID);
    (void)lend(&old, 'a', Y);
    assert_int_equal(list(&failed), -1);
    (void)lend(&old, 'b', Y);
    assert_works(list(&err));
}

static void the_last_one_stays(void **state UNUSED)
{
    demand_refused(remove_x, ERR_PRECONDITION, "is the last recipient of volume", 1);
    (void)bring(&fresh, 'b', DEVICES(X));
    demand_refused(remove_x, ERR_PRECONDITION, "is the last recipient of volume", 1);
}

static void put_value(const char *key, const char *value)
{
    for (size_t i = 0; i < fresh.n; i++)
        if (strcmp(fresh.items[i].key, key) == 0)
            fresh.items[i].value = value;
}

static void refuses_what_does_not_fit(void **state)
{
    static const struct {
        const char *key, *value;
        enum error_code code;
        const char *word;
    } rows[] = {
        { "session", "Yw==", ERR_INVALID, "the new key: the session was not made" },
        { "session", "YmI=", ERR_PRECONDITION, "the new key: the session is over" },
        { "session", "?", ERR_INVALID, "new secret 'session' must be base64" },
        { "serverKey", "x", ERR_INVALID, "new secret 'serverKey' must be" },
        { "fingerprint", "x", ERR_INVALID, "new secret 'fingerprint' must be" },
        { "commitment", "x", ERR_INVALID, "new secret 'commitment' must be" },
        { "recipients", "x", ERR_INVALID, "new secret 'recipients': it must be a JSON array" },
        { "recipients", "[]", ERR_INVALID, "new secret 'recipients': nothing is wrapped for key" },
    };
    static const char *const needed[] = { "session", "serverKey", "fingerprint", "commitment",
                                          "recipients" };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        (void)bring(&fresh, 'b', DEVICES(Y));
        put_value(rows[i].key, rows[i].value);
        demand_refused(remove_x, rows[i].code, rows[i].word, 2);
    }
    for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
        (void)bring(&fresh, 'b', DEVICES(Y));
        fresh.items[i].key = "other";
        demand_refused(remove_x, i < 3 ? ERR_PRECONDITION : ERR_INVALID, needed[i], 2);
    }
    fresh.n = 0;
    demand_refused(remove_x, ERR_PRECONDITION, "can't be replaced without new secrets", 2);
    (void)bring(&fresh, 'b', DEVICES(Y, X));
    demand_refused(remove_x, ERR_INVALID, "a key that isn't to be a recipient", 2);
    (void)bring(&fresh, 'b', DEVICES(Y, Z));
    demand_refused(remove_x, ERR_INVALID, "a key that isn't to be a recipient", 2);
    (void)bring(&fresh, 'b', DEVICES(Y));
    put_value("fingerprint", print_of(X));
    demand_refused(remove_x, ERR_INVALID, "is of none that stays", 2);
    (void)bring(&fresh, 'a', DEVICES(Y));
    demand_refused(remove_x, ERR_INVALID, "the new key is the one that volume", 2);
    again(state, with_y);
    (void)lend(&old, 'c', X);
    (void)bring(&fresh, 'b', DEVICES(Y));
    demand_refused(remove_x, ERR_INVALID, "was not made for this volume", 2);
    old.n = 0;
    demand_refused(remove_x, ERR_PRECONDITION, "secret 'session' is missing", 2);
    assert_int_equal(played.asked[REKEY], 0);
}

/* The same call again finishes it. */
static void a_removal_may_fail_anywhere(void **state)
{
    static const enum step steps[] = { UNWRAP, SIGN, REKEY, PRUNE };

    for (size_t i = 0; i < 2 * ARRAY_SIZE(steps); i++) {
        const enum step step = steps[i / 2];
        struct error failed = ERROR_INIT;

        again(state, with_y);
        (void)bring(&fresh, 'b', DEVICES(Y));
        played.fails = step;
        played.half = i % 2 == 1;
        played.code = ERR_UNAVAILABLE;
        assert_int_equal(remove_x(&failed), -1);
        assert_int_equal(failed.code, ERR_UNAVAILABLE);
        if (step == PRUNE)
            demand_state('b', 1, Y);
        else
            demand_state('a', 2, X);
        assert_int_equal(stored().stale_slots, step == PRUNE);
        played.fails = STEPS;
        assert_works(remove_x(&err));
        assert_int_equal(resumed, step == PRUNE);
        demand_done('b', 1, Y);
    }
}

static void be_half_done(struct record *r)
{
    r->stale_slots = true;
}

/* By a session with the key that the record names, in either place; by no other. */
static void an_interrupted_one_is_finished(void **state)
{
    struct error failed = ERROR_INIT;

    store(be_half_done);
    give_slot('z');
    (void)lend(&old, 'b', X);
    assert_int_equal(rotate(&failed), -1);
    assert_int_equal(failed.code, ERR_INVALID);
    assert_non_null(strstr(failed.msg, "the old keyslots are still there"));
    assert_true(opens('z'));
    (void)bring(&fresh, 'a', DEVICES(X));
    assert_works(rotate(&err));
    assert_true(resumed);
    demand_done('a', 2, X);
    again(state, with_y);
    store(be_half_done);
    give_slot('z');
    assert_works(rotate(&err)); /* by the secrets' */
    assert_true(resumed);
    demand_done('a', 2, X);
}

/* What another one left to do first. */
static void a_removal_finishes_another_rotation(void **state UNUSED)
{
    store(be_half_done);
    give_slot('z');
    (void)bring(&fresh, 'b', DEVICES(Y));
    assert_works(remove_x(&err));
    assert_false(resumed);
    demand_done('b', 1, Y);
}

static void rotates(void **state UNUSED)
{
    struct error failed = ERROR_INIT;

    (void)bring(&fresh, 'b', DEVICES(Y));
    assert_int_equal(rotate(&failed), -1); /* all stay */
    (void)bring(&fresh, 'b', DEVICES(Y, X));
    assert_works(rotate(&err));
    assert_false(resumed);
    demand_done('b', 2, X);
    assert_int_equal(rotate(&failed), -1);
    assert_non_null(strstr(failed.msg, "the new key is the one that volume"));
}

int main(void)
{
#define TEST(f, make) cmocka_unit_test_setup_teardown(f, make, teardown)
    const struct CMUnitTest tests[] = {
        TEST(lists_by_the_session, client_setup),
        TEST(adds_what_the_device_wrapped, client_setup),
        TEST(another_volume_takes_none_of_it, client_setup),
        TEST(removes, with_y),
        TEST(the_last_one_stays, client_setup),
        TEST(refuses_what_does_not_fit, with_y),
        TEST(a_removal_may_fail_anywhere, with_y),
        TEST(an_interrupted_one_is_finished, with_y),
        TEST(a_removal_finishes_another_rotation, with_y),
        TEST(rotates, with_y),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
