/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/textdiff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void expect(const char *before, const char *after, const char *diff)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(65536);

    textdiff(before, after, &sb);
    assert_string_equal(strbuf_text(&sb), diff);
}

static void test_lines(void **state UNUSED)
{
    expect("a\nb\nc\n", "a\nb\nc\n", "");
    expect("", "a\nb\n", "+a\n+b\n");
    expect("a\nb\n", "", "-a\n-b\n");
    expect("a\nb\nc\n", "a\nx\nc\n", "-b\n+x\n");
    expect("a\nb\nc\nd\n", "b\nc\ne\nd\n", "-a\n+e\n");
    expect("a\n\nb\n", "a\nb\n", "-\n");
    expect("a", "a\n", ""); /* the line end at the end of a text is no line */
}

/* Texts that are too long for a table are said to be replaced. */
static void test_long(void **state UNUSED)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(65536);

    for (unsigned i = 0; i <= TEXTDIFF_LINES_MAX; i++)
        strbuf_adds(&text, "x\n");
    expect("a\n", strbuf_text(&text), "-(2 bytes)\n+(2002 bytes)\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
