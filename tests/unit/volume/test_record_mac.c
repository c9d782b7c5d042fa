/* SPDX-License-Identifier: Apache-2.0 */
/* What of a record is under its MAC. */
#include "common/base.h"
#include "volume/record.h"

#include "common/cleanup.h"
#include "tests/unit/volume/ready_record.h"
#include "tests/support/unit.h"

static void test_mac_input(void **state UNUSED)
{
    static const char wanted[] =
        "{\"created\":\"2026-11-22T01:02:03Z\",\"crypt\":{\"cipher\":\"aes-xts-plain64\","
        "\"data_offset\":4194304,\"key_bits\":512,\"sector\":4096},\"digest\":\"" HEX64
        "\",\"fs\":\"ext4\","
        "\"id\":\"" ID
        "\",\"keySource\":\"vault\",\"kms\":\"lab\",\"name\":\"pvc-1\",\"recipients\":[],"
        "\"sealed\":false,\"source\":null,\"tenant\":\"team-a\",\"uuid\":\"" UUID "\",\"v\":1}";
    struct record r = ready_record();
    AUTO_STRBUF struct strbuf a = STRBUF_INIT(RECORD_MAX), b = STRBUF_INIT(RECORD_MAX);

    assert_works(record_mac_input(&r, &a, &err));
    assert_string_equal(strbuf_text(&a), wanted);
    /* what changes over a volume's life is outside */
    r.gen = 99;
    r.size = GIB(2);
    r.state = RECORD_ERASED;
    memset(r.mac, 'f', 64);
    r.key.version = 5;
    memcpy(r.key.ciphertext, "other", 6);
    assert_works(record_mac_input(&r, &b, &err));
    assert_string_equal(strbuf_text(&b), wanted);
}

/* Each field under the MAC, changed alone, changes its input. */
static void test_mac_covers(void **state UNUSED)
{
    struct record r = ready_record();
    char *const fields[] = { r.id,  r.name,       r.uuid,   r.tenant, r.fs,
                             r.kms, r.key_source, r.digest, r.created };
    AUTO_STRBUF struct strbuf before = STRBUF_INIT(RECORD_MAX), after = STRBUF_INIT(RECORD_MAX);

    assert_works(record_mac_input(&r, &before, &err));
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        fields[i][0]++;
        strbuf_clear(&after);
        assert_works(record_mac_input(&r, &after, &err));
        assert_string_not_equal(strbuf_text(&before), strbuf_text(&after));
        fields[i][0]--;
    }
    bool *const flags[] = { &r.sealed, &r.discard, &r.pod, &r.stale_slots };
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        *flags[i] = true;
        strbuf_clear(&after);
        assert_works(record_mac_input(&r, &after, &err));
        assert_string_not_equal(strbuf_text(&before), strbuf_text(&after));
        *flags[i] = false;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mac_input),
        cmocka_unit_test(test_mac_covers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
