/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/luks.h"

#include "tests/unit/crypt/attacks.h"
#include "tests/unit/crypt/image.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define OTHER_UUID "ffffffff-4e5f-4607-8899-aabbccddeeff"

static void formats_what_it_accepts(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    AUTO_SECRET struct secret *pass = image_passphrase('a'), *wrong = image_passphrase('b');
    AUTO_LUKS struct luks l = LUKS_INIT;
    struct error err = ERROR_INIT;

    assert_int_equal(luks_load(fd, IMAGE_UUID, NULL, &l, &err), 0);
    assert_true(l.facts.slot[0] && !l.facts.slot[1] && !l.facts.slot[2]);
    assert_int_equal(strlen(l.facts.digest), 64);
    assert_int_equal(luks_verify(&l, pass, &err), 0);
    assert_int_equal(luks_verify(&l, wrong, &err), -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
}

static void copy_is_sealed(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    AUTO_SECRET struct secret *pass = image_passphrase('a');
    AUTO_LUKS struct luks l = LUKS_INIT;
    char zeros[4096] = { 0 };

    assert_int_equal(luks_load(fd, IMAGE_UUID, NULL, &l, NULL), 0);
    assert_int_equal(pwrite(l.memfd, "x", 1, 0), -1);
    assert_int_equal(errno, EPERM);
    for (off_t at = 0; at < (off_t)GEOMETRY_HEADER_READ;
         at += 4096) /* the disk's header goes away … */
        assert_int_equal(pwrite(fd, zeros, sizeof(zeros), at), sizeof(zeros));
    assert_int_equal(luks_verify(&l, pass, NULL), 0); /* … and isn't missed */
}

static void survives_one_lost_copy(void **state)
{
    static const off_t copies[] = { 0, GEOMETRY_METADATA_SIZE };
    char zeros[GEOMETRY_METADATA_SIZE] = { 0 };

    for (size_t i = 0; i < ARRAY_SIZE(copies); i++) {
        AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
        AUTO_LUKS struct luks l = LUKS_INIT;

        assert_int_equal(pwrite(fd, zeros, sizeof(zeros), copies[i]), sizeof(zeros));
        assert_int_equal(luks_load(fd, IMAGE_UUID, NULL, &l, NULL), 0);
    }
}

static void digest_is_compared(void **state)
{
    AUTO_CLOSE int mine = image_format(IMAGE_UUID, 'a'), theirs = image_format(IMAGE_UUID, 'a');
    AUTO_LUKS struct luks l = LUKS_INIT, other = LUKS_INIT;
    struct error err = ERROR_INIT;

    assert_int_equal(luks_load(mine, IMAGE_UUID, NULL, &l, &err), 0);
    /* the same uuid and the same passphrase, another volume key */
    assert_int_equal(luks_load(theirs, IMAGE_UUID, l.facts.digest, &other, &err), -1);
    assert_int_equal(err.code, ERR_DATA_LOSS);
    assert_non_null(strstr(err.msg, "another volume key"));
    assert_int_equal(luks_load(mine, IMAGE_UUID, l.facts.digest, &other, &err), 0);
}

static void digest_ignores_lists_of_slots(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    AUTO_LUKS struct luks l = LUKS_INIT, again = LUKS_INIT;
    json_t *root = image_json(fd);

    assert_int_equal(luks_load(fd, IMAGE_UUID, NULL, &l, NULL), 0);
    json_edit(root, "keyslots.2", "{}");
    assert_int_equal(json_object_update(json_object_get(json_object_get(root, "keyslots"), "2"),
                                        json_object_get(json_object_get(root, "keyslots"), "0")),
                     0);
    json_edit(root, "keyslots.2.area",
              "{\"type\":\"raw\",\"offset\":\"548864\",\"size\":\"258048\","
              "\"encryption\":\"aes-xts-plain64\",\"key_size\":64}");
    json_edit(root, "digests.0.keyslots", "[\"0\",\"2\"]");
    image_put_json(fd, root);
    json_decref(root);
    assert_int_equal(luks_load(fd, IMAGE_UUID, l.facts.digest, &again, NULL), 0);
    assert_true(again.facts.slot[0] && !again.facts.slot[1] && again.facts.slot[2]);
}

static void refuses_uuid(void **state)
{
    AUTO_CLOSE int fd = image_format(OTHER_UUID, 'a');
    AUTO_LUKS struct luks l = LUKS_INIT;
    struct error err = ERROR_INIT;

    assert_int_equal(luks_load(fd, IMAGE_UUID, NULL, &l, &err), -1);
    assert_int_equal(err.code, ERR_DATA_LOSS);
    assert_non_null(strstr(err.msg, OTHER_UUID));
}

static void refuses_no_header(void **state)
{
    AUTO_CLOSE int fd = image_blank();
    AUTO_LUKS struct luks l = LUKS_INIT;
    struct error err = ERROR_INIT;

    assert_int_equal(luks_load(fd, IMAGE_UUID, NULL, &l, &err), -1);
    assert_int_equal(err.code, ERR_DATA_LOSS);
    assert_non_null(strstr(err.msg, "no usable LUKS2 header"));
}

static void refuses_bad_checksums(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    AUTO_LUKS struct luks l = LUKS_INIT;
    struct error err = ERROR_INIT;

    assert_int_equal(pwrite(fd, "\1", 1, IMAGE_CSUM_AT), 1);
    assert_int_equal(pwrite(fd, "\1", 1, GEOMETRY_METADATA_SIZE + IMAGE_CSUM_AT), 1);
    assert_int_equal(luks_load(fd, IMAGE_UUID, NULL, &l, &err), -1);
    assert_int_equal(err.code, ERR_DATA_LOSS);
}

static void refuses_short_device(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    AUTO_LUKS struct luks l = LUKS_INIT;
    struct error err = ERROR_INIT;

    assert_int_equal(ftruncate(fd, 65536), 0);
    assert_int_equal(luks_load(fd, IMAGE_UUID, NULL, &l, &err), -1);
    assert_int_equal(err.code, ERR_DATA_LOSS);
    assert_non_null(strstr(err.msg, "ends after 65536 bytes"));
}

/* The control: the same tools, nothing changed. Without it the attacks below could fail for their
 * checksums. */
static void rewriting_alone_is_harmless(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    AUTO_SECRET struct secret *pass = image_passphrase('a');
    AUTO_LUKS struct luks l = LUKS_INIT;
    json_t *root = image_json(fd);

    image_put_json(fd, root);
    json_decref(root);
    assert_int_equal(luks_load(fd, IMAGE_UUID, NULL, &l, NULL), 0);
    assert_int_equal(luks_verify(&l, pass, NULL), 0);
}

static void refuses_every_attack(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    json_t *good = image_json(fd);
    size_t past_the_library = 0;

    for (size_t i = 0; i < ARRAY_SIZE(attacks); i++) {
        AUTO_LUKS struct luks l = LUKS_INIT;
        struct error err = ERROR_INIT;
        json_t *root = json_deep_copy(good);

        for (size_t k = 0; k < 2 && attacks[i].edit[k].path != NULL; k++)
            json_edit(root, attacks[i].edit[k].path, attacks[i].edit[k].value);
        image_put_json(fd, root);
        json_decref(root);
        if (luks_load(fd, IMAGE_UUID, NULL, &l, &err) == 0)
            fail_msg("accepted: %s", attacks[i].name);
        assert_int_equal(err.code, ERR_DATA_LOSS);
        past_the_library += strstr(err.msg, attacks[i].says) != NULL;
    }
    json_decref(good);
    /* libcryptsetup itself refuses the rest; if it refused all, this test would say nothing about
     * us */
    assert_true(past_the_library > 20);
}

static int setup(void **state)
{
    return luks_setup(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_what_it_accepts),
        cmocka_unit_test(copy_is_sealed),
        cmocka_unit_test(survives_one_lost_copy),
        cmocka_unit_test(digest_is_compared),
        cmocka_unit_test(digest_ignores_lists_of_slots),
        cmocka_unit_test(refuses_uuid),
        cmocka_unit_test(refuses_no_header),
        cmocka_unit_test(refuses_bad_checksums),
        cmocka_unit_test(refuses_short_device),
        cmocka_unit_test(rewriting_alone_is_harmless),
        cmocka_unit_test(refuses_every_attack),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
