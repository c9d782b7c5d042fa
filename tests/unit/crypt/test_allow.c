/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/allow.h"

#include "tests/unit/crypt/attacks.h"
#include "tests/unit/crypt/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define GOOD                                                                                      \
    "{\"keyslots\":{\"0\":{\"type\":\"luks2\",\"key_size\":64,\"af\":{\"type\":\"luks1\","        \
    "\"stripes\":4000,"                                                                           \
    "\"hash\":\"sha256\"},\"area\":" SLOT_0_AREA                                                  \
    ",\"kdf\":{\"type\":\"pbkdf2\",\"hash\":\"sha256\","                                          \
    "\"iterations\":1000,\"salt\":" B64_32 "}}},\"tokens\":{},\"segments\":{\"0\":" GOOD_SEGMENT( \
        "4194304") "},"                                                                           \
                   "\"digests\":{\"0\":{\"type\":\"pbkdf2\",\"keyslots\":[\"0\"],\"segments\":["  \
                   "\"0\"],\"hash\":\"sha256\","                                                  \
                   "\"iterations\":1000,\"salt\":" B64_32 ",\"digest\":" B64_32 "}},"             \
                   "\"config\":{\"json_size\":\"12288\",\"keyslots_size\":\"4161536\"}}"

static int allow(json_t *root, struct header_facts *facts, struct error *err)
{
    char *text = json_text(root, JSON_COMPACT);
    int r;

    assert_non_null(text);
    r = allow_metadata(text, strlen(text), facts, err);
    free(text);
    return r;
}

static json_t *good(void)
{
    json_t *root = json_own(GOOD);

    assert_non_null(root);
    return root;
}

static void accepts_ours(void **state)
{
    json_t *root = good();
    struct header_facts f;

    assert_int_equal(allow(root, &f, NULL), 0);
    assert_true(f.slot[0] && !f.slot[1] && !f.slot[2]);
    json_decref(root);
}

/* sha256 of {"digest":"AAA…=","hash":"sha256","iterations":1000,"salt":"AAA…=","type":"pbkdf2"}, by
 * sha256sum */
static void digest_is_canonical(void **state)
{
    struct header_facts f, again;
    json_t *root = good();

    assert_int_equal(allow(root, &f, NULL), 0);
    assert_string_equal(f.digest,
                        "b4bf11fcf2fb925be4a8e59be73196f74081eea3f552f6b9031eacec0653ecf3");
    json_edit(root, "digests.0.iterations", "1001");
    assert_int_equal(allow(root, &again, NULL), 0);
    assert_string_not_equal(f.digest, again.digest);
    json_decref(root);
}

static void names_what_each_attack_does(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(attacks); i++) {
        json_t *root = good();
        struct header_facts f = { .digest = "untouched" };
        struct error err = ERROR_INIT;

        for (size_t k = 0; k < 2 && attacks[i].edit[k].path != NULL; k++)
            json_edit(root, attacks[i].edit[k].path, attacks[i].edit[k].value);
        if (allow(root, &f, &err) == 0)
            fail_msg("accepted: %s", attacks[i].name);
        if (strstr(err.msg, attacks[i].says) == NULL)
            fail_msg("%s: '%s' isn't in '%s'", attacks[i].name, attacks[i].says, err.msg);
        assert_int_equal(err.code, ERR_DATA_LOSS);
        assert_string_equal(f.digest, "untouched");
        json_decref(root);
    }
}

/* Every field of a good header is needed, and none may be of another type. */
static void every_field_counts(void **state)
{
    static const char *const paths[] = {
        "keyslots",
        "tokens",
        "segments",
        "digests",
        "config",
        "keyslots.0.type",
        "keyslots.0.key_size",
        "keyslots.0.af",
        "keyslots.0.area",
        "keyslots.0.kdf",
        "keyslots.0.af.type",
        "keyslots.0.af.stripes",
        "keyslots.0.af.hash",
        "keyslots.0.area.type",
        "keyslots.0.area.offset",
        "keyslots.0.area.size",
        "keyslots.0.area.encryption",
        "keyslots.0.area.key_size",
        "keyslots.0.kdf.type",
        "keyslots.0.kdf.hash",
        "keyslots.0.kdf.iterations",
        "keyslots.0.kdf.salt",
        "segments.0.type",
        "segments.0.offset",
        "segments.0.size",
        "segments.0.iv_tweak",
        "segments.0.encryption",
        "segments.0.sector_size",
        "digests.0.type",
        "digests.0.keyslots",
        "digests.0.segments",
        "digests.0.hash",
        "digests.0.iterations",
        "digests.0.salt",
        "digests.0.digest",
        "config.json_size",
        "config.keyslots_size",
    };
    static const char *const values[] = { NULL, "null", "true", "7", "\"x\"", "[1]", "{\"x\":{}}" };

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        for (size_t k = 0; k < ARRAY_SIZE(values); k++) {
            json_t *root = good();
            struct header_facts f;
            struct error err = ERROR_INIT;
            bool in_range = strstr(paths[i], "iterations") != NULL && k == 3;

            json_edit(root, paths[i], values[k]);
            if ((allow(root, &f, &err) == 0) != in_range)
                fail_msg("%s = %s", paths[i], values[k] != NULL ? values[k] : "(absent)");
            json_decref(root);
        }
    }
}

static void refuses_what_is_no_json(void **state)
{
    static const char *const texts[] = { "",     "{",    "[]",
                                         "null", "{}{}", "{\"keyslots\":{},\"keyslots\":{}}",
                                         "\xff" };
    struct header_facts f;

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct error err = ERROR_INIT;

        assert_int_equal(allow_metadata(texts[i], strlen(texts[i]), &f, &err), -1);
        assert_int_equal(err.code, ERR_DATA_LOSS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_ours),
        cmocka_unit_test(digest_is_canonical),
        cmocka_unit_test(every_field_counts),
        cmocka_unit_test(names_what_each_attack_does),
        cmocka_unit_test(refuses_what_is_no_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
