/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/restore.h"

#include "tests/unit/volume/ready_record.h"
#include "tests/support/nomem.h"
#include "tests/support/skip.h"
#include "tests/support/unit.h"
#include "volume/geometry.h"

#define OTHER "00000000-e89b-42d3-a456-426614174000"
#define DM    "CRYPT-LUKS2-123e4567e89b42d3a456426614174000-coffer-" HASH "-3f0c12ab"

static struct record in_state(enum record_state state)
{
    struct record r = ready_record();

    r.state = state;
    memset(r.digest, 0, sizeof(r.digest));
    memset(r.mac, 0, sizeof(r.mac));
    if (state == RECORD_MINTING)
        memset(&r.key, 0, sizeof(r.key));
    return r;
}

static struct restore_there nothing(void)
{
    return (struct restore_there){ .found = RESTORE_NOTHING,
                                   .has_image = true,
                                   .image_bytes = GIB(1) + GEOMETRY_DATA_OFFSET };
}

static struct restore_there with(const struct record *r)
{
    struct restore_there t = nothing();

    t.found = RESTORE_RECORD;
    t.record = *r;
    return t;
}

static struct restore_there with_text(const char *text)
{
    struct restore_there t = nothing();

    assert_works(restore_read(text, strlen(text), ID, &t, &err));
    return t;
}

static struct record planned(const struct restore_there *t, const struct record *backup)
{
    struct record r = { .gen = 0 };
    struct error err = ERROR_INIT;

    if (restore_plan(t, backup, &r, &err) < 0)
        fail_msg("it was refused: %s", err.msg);
    return r;
}

static void refused(const struct restore_there *t, const struct record *backup,
                    enum error_code code, const char *word)
{
    struct error err = ERROR_INIT;
    struct record r = { .gen = 77 };

    assert_int_equal(restore_plan(t, backup, &r, &err), -1);
    if (err.code != code || strstr(err.msg, word) == NULL)
        fail_msg("%s: %s (expected %s, '%s')", error_code_name(err.code), err.msg,
                 error_code_name(code), word);
    assert_int_equal(r.gen, 77);
}

/* ---- what is written ---- */

static void test_record_is_gone(void **state UNUSED)
{
    const struct restore_there t = nothing();
    const struct record backup = ready_record();
    char fields[200];

    struct record r = planned(&t, &backup);
    assert_int_equal(r.gen, 4);
    restore_difference(&r, &backup, fields, sizeof(fields));
    assert_string_equal(fields, ""); /* all but gen */
}

static void test_generation_is_never_lowered(void **state UNUSED)
{
    const struct record backup = ready_record();
    struct record newer = ready_record();
    struct restore_there t;

    newer.gen = 9;
    t = with(&newer);
    assert_int_equal(planned(&t, &backup).gen, 10);
    newer.gen = 1;
    t = with(&newer);
    assert_int_equal(planned(&t, &backup).gen, 4);
    t = with_text("{\"v\":1,\"gen\":41,\"state\":\"ready\"}"); /* not a whole record */
    assert_int_equal(t.found, RESTORE_UNREADABLE);
    assert_int_equal(planned(&t, &backup).gen, 42);
}

static void test_generation_without_room(void **state UNUSED)
{
    struct record backup = ready_record();
    struct restore_there t = with_text("{\"gen\":9223372036854775807}");

    refused(&t, &backup, ERR_DATA_LOSS, "forged");
    t = nothing();
    backup.gen = INT64_MAX;
    refused(&t, &backup, ERR_DATA_LOSS, "forged");
}

static void test_size_follows_the_image(void **state UNUSED)
{
    struct restore_there t = nothing();
    const struct record backup = ready_record();

    t.image_bytes = GIB(2) + GEOMETRY_DATA_OFFSET + 4096; /* it was expanded after the backup */
    assert_int_equal(planned(&t, &backup).size, GIB(2));
    t.image_bytes = UINT64_MAX;
    assert_int_equal(planned(&t, &backup).size, GIB(1));
}

static void test_earlier_state_is_raised(void **state UNUSED)
{
    const enum record_state states[] = { RECORD_MINTING, RECORD_NEW, RECORD_FORMATTING };
    const struct record backup = ready_record();

    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        const struct record now = in_state(states[i]);
        const struct restore_there t = with(&now);
        assert_int_equal(planned(&t, &backup).state, RECORD_READY);
    }
}

/* ---- what is refused ---- */

/* Nothing but `ready` may come out, whatever is there: nothing else can lead to a format. */
static void test_only_ready_is_restored(void **state UNUSED)
{
    const enum record_state states[] = { RECORD_MINTING, RECORD_NEW, RECORD_FORMATTING,
                                         RECORD_ERASED };
    const struct record now = ready_record();
    const struct record also_new = in_state(RECORD_NEW);
    const struct restore_there places[] = { nothing(), with(&now), with(&also_new),
                                            with_text("garbage"), with_text("") };

    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        const struct record backup = in_state(states[i]);
        for (size_t k = 0; k < ARRAY_SIZE(places); k++)
            refused(&places[k], &backup, ERR_PRECONDITION, record_state_name(states[i]));
    }
}

static void test_erased_is_final(void **state UNUSED)
{
    const struct record backup = ready_record();
    struct record now = ready_record();
    struct restore_there t;

    now.state = RECORD_ERASED;
    t = with(&now);
    refused(&t, &backup, ERR_PRECONDITION, "final");
    t = with_text("{\"v\":1,\"state\":\"erased\"}");
    refused(&t, &backup, ERR_PRECONDITION, "final");
}

static void test_later_states_are_not_lowered(void **state UNUSED)
{
    static const char *const later[] = { "cloning", "rekeying", "revoked" };
    const struct record backup = ready_record();
    char text[64];

    for (size_t i = 0; i < ARRAY_SIZE(later); i++) {
        (void)snprintf(text, sizeof(text), "{\"v\":1,\"state\":\"%s\"}", later[i]);
        const struct restore_there t = with_text(text);
        refused(&t, &backup, ERR_PRECONDITION, later[i]);
    }
    const struct restore_there t = with_text("{\"v\":1,\"state\":\"blue\"}");
    assert_int_equal(planned(&t, &backup).gen, 4);
}

static void test_newer_record_stays(void **state UNUSED)
{
    const struct record backup = ready_record();
    const struct restore_there t = with_text("{\"v\":2,\"gen\":1}");

    refused(&t, &backup, ERR_PRECONDITION, "version 2");
}

static void test_another_creation(void **state UNUSED)
{
    const struct record backup = ready_record();
    struct record now = ready_record();
    struct restore_there t;

    (void)snprintf(now.uuid, sizeof(now.uuid), "%s", OTHER);
    t = with(&now);
    refused(&t, &backup, ERR_PRECONDITION, "another creation");
}

static void test_image_must_be_there(void **state UNUSED)
{
    const struct record backup = ready_record();
    struct restore_there t = nothing();

    t.image_bytes--;
    refused(&t, &backup, ERR_DATA_LOSS, "1077936127 bytes");
    t.has_image = false;
    refused(&t, &backup, ERR_PRECONDITION, "image is not there");
}

/* The newer record alone holds the key that opens the volume. */
static void test_key_of_before_a_rotation(void **state UNUSED)
{
    const struct record backup = ready_record();
    struct record now = ready_record();
    struct restore_there t;

    now.key.version = 2; /* rewrapped: the same storage key, so the same MAC */
    t = with(&now);
    assert_int_equal(planned(&t, &backup).gen, 4);
    now.mac[0] = 'f';
    t = with(&now);
    refused(&t, &backup, ERR_PRECONDITION, "the key was rotated");
    refused(&t, &backup, ERR_PRECONDITION, "or other recipients");
    now.stale_slots = true;
    t = with(&now);
    refused(&t, &backup, ERR_PRECONDITION, "the key was rotated");
    t.record.digest[0] = 'f'; /* not even the same volume key: not what a rotation leaves */
    assert_int_equal(planned(&t, &backup).gen, 4);
}

static void test_in_use(void **state UNUSED)
{
    const struct record backup = ready_record();
    struct record now = ready_record();
    struct restore_there t = nothing();

    (void)snprintf(t.dm_uuid, sizeof(t.dm_uuid), "%s", DM);
    assert_int_equal(planned(&t, &backup).gen, 4); /* the record went while it was mounted */
    t.dm_uuid[12] = '0';
    refused(&t, &backup, ERR_PRECONDITION, "in use with another record");

    t = with(&now);
    (void)snprintf(t.dm_uuid, sizeof(t.dm_uuid), "%s", DM);
    t.record.size = GIB(2);
    t.image_bytes = GIB(2) + GEOMETRY_DATA_OFFSET;
    assert_int_equal(planned(&t, &backup).size, GIB(2));
    t.record.digest[0] = 'f';
    refused(&t, &backup, ERR_PRECONDITION, "differs in digest");
    t.dm_uuid[0] = '\0';
    assert_int_equal(planned(&t, &backup).gen, 4);
}

static void test_record_of_another_volume_is_unreadable(void **state UNUSED)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(RECORD_MAX);
    struct restore_there t = nothing();
    struct record r = ready_record();

    assert_works(record_encode(&r, &text, &err));
    assert_works(restore_read(strbuf_text(&text), text.len, ID, &t, &err));
    assert_int_equal(t.found, RESTORE_RECORD);
    assert_works(restore_read(strbuf_text(&text), text.len, "slow.3f0c12ab." HASH, &t, &err));
    assert_int_equal(t.found, RESTORE_UNREADABLE);
    assert_non_null(strstr(t.problem, "'id'"));
}

static void test_difference(void **state UNUSED)
{
    struct record a = ready_record(), b = ready_record();
    char fields[200];

    b.gen = 77;
    restore_difference(&a, &b, fields, sizeof(fields));
    assert_string_equal(fields, "");
    b.key.version = 2;
    b.tenant[0] = 'x';
    restore_difference(&a, &b, fields, sizeof(fields));
    assert_string_equal(fields, "tenant, key");
}

/* Where each allocation fails once, a record that is whole isn't unreadable, what an unreadable one
 * says isn't lost, and two that differ aren't the same. */
static void test_no_memory(void **state UNUSED)
{
    static const char hints[] = "{\"v\":99,\"gen\":41,\"state\":\"ready\"}";
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(RECORD_MAX);
    const struct record r = ready_record();
    struct record other = ready_record();
    bool happened = true;
    char fields[200];

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    other.tenant[0] = 'x';
    assert_works(record_encode(&r, &text, &err));
    for (unsigned int n = 1; happened; n++) {
        struct restore_there whole = nothing(), half = nothing();
        struct error err = ERROR_INIT;

        nomem_arm(n);
        int rc = restore_read(strbuf_text(&text), text.len, ID, &whole, &err);
        happened = nomem_disarm();
        assert_true(rc == 0 ? whole.found == RESTORE_RECORD : error_is_memory(&err));
        nomem_arm(n);
        rc = restore_read(hints, strlen(hints), ID, &half, &err);
        happened |= nomem_disarm();
        assert_true(rc == 0 ? half.gen == 41 && half.version == 99 : error_is_memory(&err));
        nomem_arm(n);
        restore_difference(&r, &other, fields, sizeof(fields));
        happened |= nomem_disarm();
        assert_true(strcmp(fields, "tenant") == 0 || strcmp(fields, "?") == 0);
    }
    assert_string_equal(fields, "tenant");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_is_gone),
        cmocka_unit_test(test_generation_is_never_lowered),
        cmocka_unit_test(test_generation_without_room),
        cmocka_unit_test(test_size_follows_the_image),
        cmocka_unit_test(test_earlier_state_is_raised),
        cmocka_unit_test(test_only_ready_is_restored),
        cmocka_unit_test(test_erased_is_final),
        cmocka_unit_test(test_later_states_are_not_lowered),
        cmocka_unit_test(test_newer_record_stays),
        cmocka_unit_test(test_another_creation),
        cmocka_unit_test(test_image_must_be_there),
        cmocka_unit_test(test_key_of_before_a_rotation),
        cmocka_unit_test(test_in_use),
        cmocka_unit_test(test_record_of_another_volume_is_unreadable),
        cmocka_unit_test(test_difference),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
