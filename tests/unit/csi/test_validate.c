/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "csi/validate.h"
#include "csi/protowire.h"

#include "coffer_admin.pb-c.h"
#include "csi.pb-c.h"

#define STAGE   (&csi__v1__node_stage_volume_request__descriptor)
#define CREATE  (&csi__v1__create_volume_request__descriptor)
#define PUBLISH (&csi__v1__node_publish_volume_request__descriptor)
#define REMOVE  (&coffer__v1__remove_recipient_request__descriptor)

static char filler[8192];

static int check(const ProtobufCMessageDescriptor *desc, const struct strbuf *sb, struct error *err)
{
    assert_false(sb->failed);
    return validate_wire(desc, strbuf_text(sb), sb->len, err);
}

#define ASSERT_REFUSED(desc, sb, text)                    \
    do {                                                  \
        struct error err_ = ERROR_INIT;                   \
        assert_int_equal(check((desc), (sb), &err_), -1); \
        assert_int_equal(err_.code, ERR_INVALID);         \
        assert_string_equal(err_.msg, (text));            \
    } while (0)

#define ASSERT_FINE(desc, sb)               \
    do {                                    \
        struct error err_ = ERROR_INIT;     \
        if (check((desc), (sb), &err_) < 0) \
            fail_msg("%s", err_.msg);       \
    } while (0)

static void put_entry(struct strbuf *sb, uint32_t field, const char *key, size_t key_len,
                      size_t value_len)
{
    AUTO_STRBUF struct strbuf entry = STRBUF_INIT(65536);
    protowire_put_bytes(&entry, 1, key, key_len);
    protowire_put_bytes(&entry, 2, filler, value_len);
    protowire_put_bytes(sb, field, strbuf_text(&entry), entry.len);
}

static void strings_have_limits_by_field(void **state)
{
    static const struct {
        uint32_t field;
        size_t limit;
        const char *text;
    } cases[] = {
        { 1, 128, "volume_id is longer than 128 bytes" },
        { 3, 4095, "staging_target_path is longer than 4095 bytes" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_STRBUF struct strbuf sb = STRBUF_INIT(65536);
        protowire_put_bytes(&sb, cases[i].field, filler, cases[i].limit);
        ASSERT_FINE(STAGE, &sb);
        strbuf_clear(&sb);
        protowire_put_bytes(&sb, cases[i].field, filler, cases[i].limit + 1);
        ASSERT_REFUSED(STAGE, &sb, cases[i].text);
    }
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(65536);
    protowire_put_bytes(&sb, 2, filler, 256);
    ASSERT_FINE(&csi__v1__controller_publish_volume_request__descriptor, &sb);
    protowire_put_bytes(&sb, 2, filler, 257);
    ASSERT_REFUSED(&csi__v1__controller_publish_volume_request__descriptor, &sb,
                   "node_id is longer than 256 bytes");
}

static void strings_are_text(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *text;
    } cases[] = {
        { "a\0b", 3, "volume_id contains a NUL byte" },
        { "\0", 1, "volume_id contains a NUL byte" },
        { "\xff", 1, "volume_id is not valid UTF-8" },
        { "\xc0\x80", 2, "volume_id is not valid UTF-8" },     /* overlong NUL */
        { "\xed\xa0\x80", 3, "volume_id is not valid UTF-8" }, /* surrogate */
        { "ab\xc3", 3, "volume_id is not valid UTF-8" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_STRBUF struct strbuf sb = STRBUF_INIT(65536);
        protowire_put_bytes(&sb, 1, cases[i].bytes, cases[i].len);
        ASSERT_REFUSED(STAGE, &sb, cases[i].text);
    }
}

static void names_have_no_control_characters(void **state)
{
    static const char *const bad[] = { "a\x01", "\x08",     "\x0b",    "\x1f",
                                       "\x7f",  "\xc2\x80", "\xc2\x9f" };
    static const char *const good[] = { "a b", "\t\n\r", "\xc2\xa0", "\xe2\x82\xac", "../../etc" };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        AUTO_STRBUF struct strbuf sb = STRBUF_INIT(65536);
        protowire_put_bytes(&sb, 1, bad[i], strlen(bad[i]));
        ASSERT_REFUSED(CREATE, &sb, "name contains a control character");
        ASSERT_FINE(STAGE, &sb); /* a volume_id may */
    }
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        AUTO_STRBUF struct strbuf sb = STRBUF_INIT(65536);
        protowire_put_bytes(&sb, 1, good[i], strlen(good[i]));
        ASSERT_FINE(CREATE, &sb);
    }
}

static void a_map_has_a_total(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(65536);
    put_entry(&sb, 4, "k", 1, 2047);
    put_entry(&sb, 4, "l", 1, 2047);
    put_entry(&sb, 5, "k", 1, 4095); /* another map has a total of its own */
    ASSERT_FINE(CREATE, &sb);
    put_entry(&sb, 4, "", 0, 1);
    ASSERT_REFUSED(CREATE, &sb, "parameters holds more than 4096 bytes");
}

/* A pod's token and what changes a list of devices come together. */
static void secrets_of_publish_hold_more(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(65536);
    for (int i = 0; i < 3; i++)
        put_entry(&sb, 7, "k", 1, 4095);
    put_entry(&sb, 8, "k", 1, 4095);
    ASSERT_FINE(PUBLISH, &sb);
    put_entry(&sb, 7, "", 0, 1);
    ASSERT_REFUSED(PUBLISH, &sb, "secrets holds more than 12288 bytes");
    strbuf_clear(&sb);
    put_entry(&sb, 8, "k", 1, 4096);
    ASSERT_REFUSED(PUBLISH, &sb, "volume_context holds more than 4096 bytes");
}

/* It has a wrapped key for each recipient. */
static void new_secrets_hold_more(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(65536);
    put_entry(&sb, 5, "k", 1, 4095);
    put_entry(&sb, 5, "l", 1, 4095);
    put_entry(&sb, 4, "k", 1, 4095);
    ASSERT_FINE(REMOVE, &sb);
    put_entry(&sb, 5, "", 0, 1);
    ASSERT_REFUSED(REMOVE, &sb, "new_secrets holds more than 8192 bytes");
    strbuf_clear(&sb);
    put_entry(&sb, 4, "k", 1, 4096);
    ASSERT_REFUSED(REMOVE, &sb, "secrets holds more than 4096 bytes");
}

static void a_map_names_itself_not_its_value(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(65536);
    put_entry(&sb, 5, "a\0b", 3, 1);
    ASSERT_REFUSED(CREATE, &sb, "secrets contains a NUL byte");
}

static void put_flags(struct strbuf *sb, size_t n, size_t len)
{
    AUTO_STRBUF struct strbuf mount = STRBUF_INIT(65536);
    AUTO_STRBUF struct strbuf cap = STRBUF_INIT(65536);
    for (size_t i = 0; i < n; i++)
        protowire_put_bytes(&mount, 2, filler, len);
    protowire_put_bytes(&cap, 2, strbuf_text(&mount), mount.len);
    protowire_put_bytes(sb, 4, strbuf_text(&cap), cap.len);
}

static void mount_flags_have_a_total(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(65536);
    put_flags(&sb, 16, 256);
    ASSERT_FINE(STAGE, &sb);
    strbuf_clear(&sb);
    put_flags(&sb, 17, 256);
    ASSERT_REFUSED(STAGE, &sb, "mount_flags holds more than 4096 bytes");
}

static void malformed_bytes_are_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        { "\x0a", 1 }, /* string without length */
        { "\x0a\x7f"
          "a",
          3 },                         /* longer than the message */
        { "\x08\x01", 2 },             /* a number where a string belongs */
        { "\x32\x02\x0a\x05", 4 },     /* map entry cut */
        { "\x22\x03\x1a\x01\x01", 5 }, /* access_mode is not a message */
        { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 10 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = ERROR_INIT;
        assert_int_equal(validate_wire(STAGE, cases[i].bytes, cases[i].len, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.msg, "is not a well-formed csi.v1."));
    }
}

static void unknown_fields_are_few(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(65536);
    for (size_t i = 0; i < VALIDATE_UNKNOWN_MAX; i++)
        protowire_put_bytes(&sb, 1000, "\xff\x00", 2); /* not text: nobody knows what it is */
    ASSERT_FINE(STAGE, &sb);
    protowire_put_varint(&sb, 1001, 1);
    ASSERT_REFUSED(STAGE, &sb, "the request has more than 64 unknown fields");
}

static void the_number_of_fields_is_bounded(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(1 << 20);
    for (size_t i = 0; i <= VALIDATE_FIELDS_MAX; i++)
        protowire_put_bytes(&sb, 3, "",
                            0); /* empty volume_capabilities: two bytes each, a struct each */
    ASSERT_REFUSED(CREATE, &sb, "the request has more than 20000 fields");
}

static void knows_a_map_entry(void **state)
{
    assert_true(
        descriptor_is_map_entry(&csi__v1__create_volume_request__secrets_entry__descriptor));
    assert_false(descriptor_is_map_entry(&csi__v1__capacity_range__descriptor));
    assert_false(descriptor_is_map_entry(&csi__v1__list_volumes_response__entry__descriptor));
    assert_false(descriptor_is_map_entry(&csi__v1__probe_request__descriptor));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_have_limits_by_field),
        cmocka_unit_test(strings_are_text),
        cmocka_unit_test(names_have_no_control_characters),
        cmocka_unit_test(a_map_has_a_total),
        cmocka_unit_test(new_secrets_hold_more),
        cmocka_unit_test(secrets_of_publish_hold_more),
        cmocka_unit_test(a_map_names_itself_not_its_value),
        cmocka_unit_test(mount_flags_have_a_total),
        cmocka_unit_test(malformed_bytes_are_refused),
        cmocka_unit_test(unknown_fields_are_few),
        cmocka_unit_test(the_number_of_fields_is_bounded),
        cmocka_unit_test(knows_a_map_entry),
    };
    memset(filler, 'x', sizeof(filler));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
