/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/key_ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define AUTH "\"ca\":\"/ca\",\"auth\":{\"method\":\"cert\"}"
#define POOLS                                              \
    "{\"pools\":{\"p\":{\"backend\":\"file\",\"path\":\"/" \
    "p\",\"allocate\":\"full\",\"kms\":[\"t\"]}},\"kms\":{"

static const char text[] =
    POOLS "\"t\":{\"uri\":\"hcvault://v:1/transit/keys/c-{tenant}\"," AUTH "},"
          "\"same\":{\"uri\":\"hcvault://w:1/transit/keys/c-{tenant}\"," AUTH "},"
          "\"mount\":{\"uri\":\"hcvault://v:1/other/keys/c-{tenant}\"," AUTH "},"
          "\"one\":{\"uri\":\"hcvault://v:1/transit/keys/all\"," AUTH "},"
          "\"k\":{\"uri\":\"hcvault+kv://v:1/kv/v\"," AUTH "},"
          "\"f\":{\"uri\":\"file:///m\"}}}";

static struct config *configuration(void)
{
    struct config *c = NULL;
    struct error err = ERROR_INIT;

    if (config_decode(text, strlen(text), &c, &err) < 0)
        fail_msg("%s", err.msg);
    return c;
}

static struct record record_of(const char *kms, const char *kind, const char *tenant,
                               uint64_t version)
{
    struct record r = { .state = RECORD_READY, .key = { .version = version } };

    (void)snprintf(r.id, sizeof(r.id), "p.00000000.00000000000000000000000000000000");
    (void)snprintf(r.kms, sizeof(r.kms), "%s", kms);
    (void)snprintf(r.tenant, sizeof(r.tenant), "%s", tenant);
    (void)snprintf(r.key.kind, sizeof(r.key.kind), "%s", kind);
    return r;
}

static void add(struct key_ring *ring, const struct config *c, const struct record *r,
                enum ring_create create)
{
    struct error err = ERROR_INIT;

    if (key_ring_add(ring, c, r, create, &err) < 0)
        fail_msg("%s", err.msg);
}

static void add_ready(struct key_ring *ring, const struct config *c, const char *kms,
                      const char *tenant, uint64_t version)
{
    struct record r = record_of(kms, "transit", tenant, version);

    add(ring, c, &r, RING_UNFINISHED);
}

static void test_versions(void **state UNUSED)
{
    AUTO_CONFIG struct config *c = configuration();
    AUTO_KEY_RING struct key_ring ring = { .keys = NULL };

    assert_int_equal(key_ring_init(&ring, NULL), 0);
    for (size_t i = 0; i < 5; i++)
        add_ready(&ring, c, "t", "a", (uint64_t[]){ 3, 1, 12, 1, 2 }[i]);
    assert_int_equal(ring.n, 1);
    const struct ring_key *k = &ring.keys[0];
    assert_string_equal(k->name, "c-a");
    assert_int_equal(k->n_versions, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(k->versions[i].version, ((int[]){ 1, 2, 3, 12 })[i]);
        assert_int_equal(k->versions[i].volumes, i == 0 ? 2 : 1);
    }
    assert_int_equal(ring_key_below(k, 1), 0);
    assert_int_equal(ring_key_below(k, 3), 3);
    assert_int_equal(ring_key_below(k, 99), 5);
}

/* Two names of one key count together; the same name in another mount is another key. */
static void test_which_key(void **state UNUSED)
{
    AUTO_CONFIG struct config *c = configuration();
    AUTO_KEY_RING struct key_ring ring = { .keys = NULL };
    struct ring_key *k;

    assert_int_equal(key_ring_init(&ring, NULL), 0);
    add_ready(&ring, c, "t", "a", 1);
    add_ready(&ring, c, "same", "a", 2);
    add_ready(&ring, c, "mount", "a", 1);
    add_ready(&ring, c, "one", "a", 1);
    add_ready(&ring, c, "one", "b", 1);
    add_ready(&ring, c, "t", "b", 1);
    assert_int_equal(ring.n, 4);
    assert_int_equal(ring.keys[0].n_versions, 2);
    assert_int_equal(ring.keys[2].versions[0].volumes, 2);
    assert_int_equal(key_ring_want(&ring, config_kms(c, "t"), "b", &k, NULL), 0);
    assert_ptr_equal(k, &ring.keys[3]);
    assert_int_equal(key_ring_want(&ring, config_kms(c, "t"), "z", &k, NULL), 0);
    assert_int_equal(ring.n, 5);
    assert_int_equal(k->n_versions, 0);
}

static void test_others(void **state UNUSED)
{
    AUTO_CONFIG struct config *c = configuration();
    AUTO_KEY_RING struct key_ring ring = { .keys = NULL };
    struct record kv = record_of("k", "kv", "a", 1), file = record_of("f", "file", "a", 1);
    struct record lent = record_of("t", "client", "a", 1);
    struct record erased = record_of("t", "transit", "a", 1), minting = record_of("t", "", "a", 0);

    assert_int_equal(key_ring_init(&ring, NULL), 0);
    erased.state = RECORD_ERASED;
    minting.state = RECORD_MINTING;
    add(&ring, c, &kv, RING_UNFINISHED);
    add(&ring, c, &file, RING_UNFINISHED);
    add(&ring, c, &erased, RING_UNFINISHED);
    (void)snprintf(lent.key_source, sizeof(lent.key_source), "client");
    add(&ring, c, &lent, RING_UNFINISHED);
    assert_int_equal(ring.client, 1);
    assert_int_equal(ring.n, 0);
    add(&ring, c, &minting, RING_IN_FLIGHT);
    add(&ring, c, &minting, RING_UNFINISHED);
    add(&ring, c, &minting, RING_UNFINISHED);
    assert_true(ring.kv == 1 && ring.file == 1 && ring.erased == 1 && ring.n == 1);
    assert_true(ring.keys[0].in_flight == 1 && ring.keys[0].unfinished == 2 &&
                ring.keys[0].n_versions == 0);
    assert_int_equal(json_array_size(ring.gaps), 0);
}

/* What can't be told is never "none". */
static void test_gaps(void **state UNUSED)
{
    AUTO_CONFIG struct config *c = configuration();
    AUTO_KEY_RING struct key_ring ring = { .keys = NULL };
    struct record stranger = record_of("gone", "transit", "a", 1);
    struct record other_kind = record_of("k", "transit", "a", 1);
    struct record minting = record_of("gone", "", "a", 0);

    assert_int_equal(key_ring_init(&ring, NULL), 0);
    minting.state = RECORD_MINTING;
    add(&ring, c, &stranger, RING_UNFINISHED);
    add(&ring, c, &other_kind, RING_UNFINISHED);
    add(&ring, c, &minting, RING_IN_FLIGHT);
    assert_int_equal(json_array_size(ring.gaps), 3);
    assert_int_equal(ring.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_versions),
                                        cmocka_unit_test(test_which_key),
                                        cmocka_unit_test(test_others),
                                        cmocka_unit_test(test_gaps) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
