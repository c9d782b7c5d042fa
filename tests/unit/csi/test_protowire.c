/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "csi/protowire.h"

#define READ(bytes, f) read_one(bytes, sizeof(bytes) - 1, f)

static int read_one(const char *bytes, size_t len, struct protowire_field *f)
{
    struct protowire_reader r = protowire_reader_of(bytes, len);
    return protowire_next(&r, f);
}

static void reads_what_it_wrote(void **state)
{
    static const uint64_t values[] = { 0, 1, 127, 128, 300, UINT32_MAX, INT64_MAX, UINT64_MAX };
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(4096);
    for (size_t i = 0; i < ARRAY_SIZE(values); i++)
        protowire_put_varint(&sb, (uint32_t)i + 1, values[i]);
    protowire_put_bytes(&sb, 536870911, "hello", 5);
    protowire_put_fixed(&sb, 9, PROTOWIRE_64BIT, 0x0102030405060708u);
    protowire_put_fixed(&sb, 10, PROTOWIRE_32BIT, 0x01020304u);
    struct protowire_reader r = protowire_reader_of(strbuf_text(&sb), sb.len);
    struct protowire_field f;
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        assert_int_equal(protowire_next(&r, &f), 1);
        assert_int_equal(f.number, i + 1);
        assert_int_equal(f.type, PROTOWIRE_VARINT);
        assert_true(f.value == values[i]);
    }
    assert_int_equal(protowire_next(&r, &f), 1);
    assert_int_equal(f.number, 536870911);
    assert_int_equal(f.len, 5);
    assert_memory_equal(f.bytes, "hello", 5);
    assert_int_equal(protowire_next(&r, &f), 1);
    assert_true(f.type == PROTOWIRE_64BIT && f.value == 0x0102030405060708u);
    assert_int_equal(protowire_next(&r, &f), 1);
    assert_true(f.type == PROTOWIRE_32BIT && f.value == 0x01020304u);
    assert_int_equal(protowire_next(&r, &f), 0);
}

static void refuses_malformed_fields(void **state)
{
    struct protowire_field f;
    assert_int_equal(READ("\x08", &f), -1);     /* no value */
    assert_int_equal(READ("\x08\x80", &f), -1); /* value cut */
    assert_int_equal(READ("\x80", &f), -1);     /* tag cut */
    assert_int_equal(READ("\x00\x01", &f), -1); /* field number 0 */
    assert_int_equal(READ("\x0b", &f), -1);     /* group start */
    assert_int_equal(READ("\x0c", &f), -1);     /* group end */
    assert_int_equal(READ("\x0e\x00", &f), -1); /* wire type 6 */
    assert_int_equal(READ("\x0a\x05"
                          "abcd",
                          &f),
                     -1); /* longer than what is there */
    assert_int_equal(READ("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &f),
                     -1);                               /* length 2^64 - 1 */
    assert_int_equal(READ("\x0d\x01\x02\x03", &f), -1); /* three of four bytes */
    assert_int_equal(READ("\x09\x01\x02\x03\x04\x05\x06\x07", &f), -1);
    assert_int_equal(READ("\x80\x80\x80\x80\x10\x01", &f), -1); /* field number 2^29 */
}

static void bounds_a_varint(void **state)
{
    struct protowire_field f;
    assert_int_equal(READ("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &f), 1);
    assert_true(f.value == UINT64_MAX);
    assert_int_equal(READ("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", &f),
                     -1); /* more than 64 bits */
    assert_int_equal(READ("\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", &f),
                     -1); /* eleven bytes */
}

static void an_empty_message_has_no_field(void **state)
{
    struct protowire_reader r = protowire_reader_of(NULL, 0);
    struct protowire_field f;
    assert_int_equal(protowire_next(&r, &f), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_it_wrote),
        cmocka_unit_test(refuses_malformed_fields),
        cmocka_unit_test(bounds_a_varint),
        cmocka_unit_test(an_empty_message_has_no_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
