/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/error.h"

#include "common/parse.h"
#include "tests/support/unit.h"

#include <errno.h>

static void test_set(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    assert_int_equal(error_set(&err, ERR_INVALID, "field '%s' is %d", "x", 7), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(err.sys_errno, 0);
    assert_string_equal(err.msg, "field 'x' is 7");
    assert_int_equal(error_set(NULL, ERR_INVALID, "x"), -1);
    assert_int_equal(error_errno(NULL, EIO, "x"), -1);
    assert_int_equal(error_prefix(NULL, "x"), -1);
    assert_int_equal(error_recode(NULL, ERR_ABORTED), -1);
}

static void test_errno(void **state UNUSED)
{
    const struct {
        int sys_errno;
        enum error_code code;
    } rows[] = {
        { ENOSPC, ERR_EXHAUSTED }, { EDQUOT, ERR_EXHAUSTED }, { ENOMEM, ERR_EXHAUSTED },
        { EMFILE, ERR_EXHAUSTED }, { ENFILE, ERR_EXHAUSTED }, { EACCES, ERR_PERMISSION },
        { EPERM, ERR_PERMISSION }, { ENOENT, ERR_NOT_FOUND }, { EBUSY, ERR_ABORTED },
        { EIO, ERR_INTERNAL },     { ENOTDIR, ERR_INTERNAL },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct error err = ERROR_INIT;

        assert_int_equal(error_errno(&err, rows[i].sys_errno, "open '%s'", "/x"), -1);
        assert_int_equal(err.code, rows[i].code);
        assert_int_equal(err.sys_errno, rows[i].sys_errno);
    }
    struct error err = ERROR_INIT;

    (void)error_errno(&err, EACCES, "open '%s'", "/x/y");
    assert_string_equal(err.msg, "open '/x/y': Permission denied");
}

static void test_prefix(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    (void)error_errno(&err, EBUSY, "lock");
    assert_int_equal(error_prefix(&err, "stage volume '%s'", "v"), -1);
    assert_string_equal(err.msg, "stage volume 'v': lock: Device or resource busy");
    assert_int_equal(err.code, ERR_ABORTED);
    assert_int_equal(err.sys_errno, EBUSY);
    struct error copy = ERROR_INIT;
    assert_int_equal(error_pass(&copy, &err), -1);
    assert_memory_equal(&copy, &err, sizeof(err));
    assert_int_equal(error_pass(NULL, &err), -1);
    assert_int_equal(error_recode(&err, ERR_UNAVAILABLE), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_string_equal(err.msg, "stage volume 'v': lock: Device or resource busy");
    /* an argument may be the old text */
    (void)error_set(&err, ERR_INTERNAL, "again: %s", err.msg);
    assert_string_equal(err.msg, "again: stage volume 'v': lock: Device or resource busy");
}

static void test_not_final(void **state UNUSED)
{
    static const struct {
        enum error_code was, is;
    } rows[] = {
        { ERR_INTERNAL, ERR_ABORTED },    { ERR_PRECONDITION, ERR_ABORTED },
        { ERR_DATA_LOSS, ERR_ABORTED },   { ERR_ABORTED, ERR_ABORTED },
        { ERR_EXHAUSTED, ERR_EXHAUSTED }, { ERR_UNAVAILABLE, ERR_UNAVAILABLE },
        { ERR_DEADLINE, ERR_DEADLINE },   { ERR_CANCELED, ERR_CANCELED },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct error err = ERROR_INIT;

        (void)error_set(&err, rows[i].was, "text");
        assert_int_equal(error_not_final(&err), -1);
        assert_int_equal(err.code, rows[i].is);
        assert_string_equal(err.msg, "text");
    }
    assert_int_equal(error_not_final(NULL), -1);
}

/* What was lacking is no verdict, whoever has one to give. */
static void test_lacking(void **state UNUSED)
{
    static const int lacking[] = { EMFILE, ENFILE };
    static const enum error_code final[] = { ERR_INVALID, ERR_INTERNAL, ERR_DATA_LOSS,
                                             ERR_PRECONDITION, ERR_NOT_FOUND };
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(lacking); i++) {
        for (size_t k = 0; k < ARRAY_SIZE(final); k++) {
            (void)error_errno(&err, lacking[i], "open");
            assert_int_equal(error_recode(&err, final[k]), -1);
            assert_int_equal(err.code, ERR_EXHAUSTED);
        }
        assert_int_equal(error_recode(&err, ERR_UNAVAILABLE), -1);
        assert_int_equal(err.code, ERR_UNAVAILABLE);
    }
    (void)error_memory(&err);
    (void)error_recode(&err, ERR_UNAVAILABLE);
    assert_int_equal(err.code, ERR_EXHAUSTED);
    (void)error_errno(&err, ENOSPC, "write");
    (void)error_recode(&err, ERR_DATA_LOSS);
    assert_int_equal(err.code, ERR_DATA_LOSS);
}

static void test_cut(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    char longest[sizeof(err.msg)], text[1200];

    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    (void)error_set(&err, ERR_INVALID, "%s", longest);
    assert_string_equal(err.msg, longest);
    (void)error_set(&err, ERR_INVALID, "%sb", longest);
    assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
    assert_string_equal(err.msg + sizeof(err.msg) - 4, "...");
    (void)error_prefix(&err, "%s", longest);
    assert_memory_equal(err.msg, longest, 500);
    assert_string_equal(err.msg + sizeof(err.msg) - 4, "...");

    /* however the cut falls, the text stays UTF-8 */
    for (size_t shift = 0; shift < 4; shift++) {
        size_t n = shift;

        memset(text, 'x', shift);
        for (; n + 4 < sizeof(text); n += 4)
            memcpy(text + n, "\xf0\x9f\x94\x92", 4);
        text[n] = '\0';
        (void)error_set(&err, ERR_INVALID, "%s", text);
        assert_true(utf8_valid(err.msg, strlen(err.msg)));
        assert_null(strchr(err.msg, '?'));
        assert_non_null(strstr(err.msg, "..."));
    }
}

static void test_malformed(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    (void)error_set(&err, ERR_INVALID, "name '%s'", "a\xff\xc3z\xc3\xa9");
    assert_string_equal(err.msg, "name 'a??z\xc3\xa9'");
    (void)error_set(&err, ERR_INVALID, "cut '%.2s'", "a\xc3\xa9");
    assert_string_equal(err.msg, "cut 'a?'");
}

/* A quoted name can't write a line of its own or drive the reader's terminal. */
static void test_unsafe(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    (void)error_set(&err, ERR_INVALID, "field '%s'", "a\n\x1b[2J\t\x7f\xc2\x9bz");
    assert_string_equal(err.msg, "field 'a??[2J????z'");
    (void)error_set(&err, ERR_INVALID, "x\xe2\x80\xae\xe2\x81\xa6\xe2\x80\xa8\xe2\x82\xac");
    assert_string_equal(err.msg, "x?????????\xe2\x82\xac");
    (void)error_prefix(&err, "%s", "b\r");
    assert_string_equal(err.msg, "b?: x?????????\xe2\x82\xac");
}

static void test_names(void **state UNUSED)
{
    for (unsigned int i = 0; i < ERR_CODE_COUNT; i++) {
        const char *name = error_code_name((enum error_code)i);

        assert_non_null(name);
        assert_int_equal(error_code_from_name(name), i);
    }
    assert_string_equal(error_code_name(ERR_CANCELED), "CANCELLED");
    assert_string_equal(error_code_name(ERR_DATA_LOSS), "DATA_LOSS");
    assert_string_equal(error_code_name((enum error_code)99), "UNKNOWN");
    assert_int_equal(error_code_from_name("NOPE"), ERR_INTERNAL);
    assert_int_equal(error_code_from_name(NULL), ERR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),       cmocka_unit_test(test_errno),
        cmocka_unit_test(test_prefix),    cmocka_unit_test(test_cut),
        cmocka_unit_test(test_not_final), cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_unsafe),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_lacking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
