/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/header.h"

#include "crypt/content.h"
#include "tests/unit/crypt/image.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define OTHER_UUID "ffffffff-4e5f-4607-8899-aabbccddeeff"
#define UUID_AT    168

static void put(int fd, off_t at, const void *data, size_t len)
{
    assert_int_equal(pwrite(fd, data, len, at), (ssize_t)len);
}

static void expect_refused(int fd, enum record_state state, const char *says)
{
    struct error err = ERROR_INIT;

    if (header_may_format(fd, IMAGE_UUID, state, &err) == 0)
        fail_msg("allowed: %s", says);
    assert_int_equal(err.code, state == RECORD_NEW || state == RECORD_FORMATTING
                                   ? ERR_DATA_LOSS
                                   : ERR_PRECONDITION);
    if (strstr(err.msg, says) == NULL)
        fail_msg("'%s' isn't in '%s'", says, err.msg);
}

/* --- new: nothing but zeros --- */

static void new_wants_zeros(void **state)
{
    static const off_t places[] = {
        0, 1, 4095, 4096, 32768, 806912, (off_t)GEOMETRY_DATA_OFFSET - 1
    };

    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        AUTO_CLOSE int fd = image_blank();
        char says[64];

        assert_int_equal(header_may_format(fd, IMAGE_UUID, RECORD_NEW, NULL), 0);
        put(fd, places[i], "\1", 1);
        (void)snprintf(says, sizeof(says), "isn't blank at byte %lld", (long long)places[i]);
        expect_refused(fd, RECORD_NEW, says);
    }
}

static void new_ignores_what_lies_behind_the_header(void **state)
{
    AUTO_CLOSE int fd = image_blank();

    put(fd, (off_t)GEOMETRY_DATA_OFFSET, "x", 1);
    assert_int_equal(header_may_format(fd, IMAGE_UUID, RECORD_NEW, NULL), 0);
}

static void new_names_foreign_content(void **state)
{
    AUTO_CLOSE int fd = image_blank();
    AUTO_CLOSE int luks = image_format(IMAGE_UUID, 'a');

    put(fd, 0, "XFSB\0\0\x10\0", 8);
    expect_refused(fd, RECORD_NEW, "");
    expect_refused(luks, RECORD_NEW, "crypto_LUKS");
}

static void an_error_is_not_blank(void **state)
{
    AUTO_CLOSE int fd = image_blank();
    struct error err = ERROR_INIT;

    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(header_may_format(fd, IMAGE_UUID, RECORD_NEW, &err), -1);
    assert_non_null(strstr(err.msg, "ends after 4096 bytes"));
    assert_int_equal(header_may_format(999, IMAGE_UUID, RECORD_NEW, &err), -1);
}

/* --- formatting: what a killed format leaves, and nothing else --- */

static void formatting_again_over_our_own(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    char zeros[4096] = { 0 };

    assert_int_equal(header_may_format(fd, IMAGE_UUID, RECORD_FORMATTING, NULL), 0);
    put(fd, GEOMETRY_METADATA_SIZE, zeros, sizeof(zeros)); /* only the primary was written */
    assert_int_equal(header_may_format(fd, IMAGE_UUID, RECORD_FORMATTING, NULL), 0);
    put(fd, IMAGE_CSUM_AT, zeros, 64); /* and that without its checksum yet */
    assert_int_equal(header_may_format(fd, IMAGE_UUID, RECORD_FORMATTING, NULL), 0);
    put(fd, 0, zeros, sizeof(zeros)); /* neither; random bytes in the keyslots */
    assert_int_equal(header_may_format(fd, IMAGE_UUID, RECORD_FORMATTING, NULL), 0);
}

static void formatting_refuses_another_volume(void **state)
{
    AUTO_CLOSE int primary = image_format(OTHER_UUID, 'a'),
                   secondary = image_format(OTHER_UUID, 'a');
    AUTO_CLOSE int longer = image_format(IMAGE_UUID, 'a'), luks1 = image_format(IMAGE_UUID, 'a');
    char zeros[4096] = { 0 };

    expect_refused(primary, RECORD_FORMATTING, "another volume at byte 0");
    put(secondary, 0, zeros, sizeof(zeros));
    expect_refused(secondary, RECORD_FORMATTING, "another volume at byte 16384");
    put(longer, UUID_AT + 36, "0", 1);
    expect_refused(longer, RECORD_FORMATTING, "another volume at byte 0");
    put(luks1, 6, "\0\1", 2);
    expect_refused(luks1, RECORD_FORMATTING, "LUKS header of another volume");
}

/* libcryptsetup looks for the secondary at every power of two up to 4 MiB */
static void formatting_refuses_a_stray_secondary(void **state)
{
    for (off_t at = 16384; at < (off_t)GEOMETRY_DATA_OFFSET; at *= 2) {
        AUTO_CLOSE int fd = image_blank();

        put(fd, at, "SKUL\xba\xbe\0\2", 8);
        expect_refused(fd, RECORD_FORMATTING, "another volume");
    }
}

static void formatting_refuses_foreign_content(void **state)
{
    AUTO_CLOSE int gpt = image_blank(), ext = image_blank();
    unsigned char super[1024] = { 0 };

    put(gpt, 510, "\x55\xaa", 2);
    put(gpt, 446 + 4, "\x83", 1); /* one partition: type, first sector, length */
    put(gpt, 446 + 8, "\1\0\0\0\1\0\0\0", 8);
    expect_refused(gpt, RECORD_FORMATTING, "dos partition table");
    memcpy(super + 0x38, "\x53\xef", 2);
    super[0x4c] = 1; /* ext2 of revision 1 */
    put(ext, 1024, super, sizeof(super));
    expect_refused(ext, RECORD_FORMATTING, "ext2");
}

static void other_states_never(void **state)
{
    static const enum record_state states[] = { RECORD_MINTING,  RECORD_READY,   RECORD_CLONING,
                                                RECORD_REKEYING, RECORD_REVOKED, RECORD_ERASED };
    AUTO_CLOSE int fd = image_blank();

    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        expect_refused(fd, states[i], "never formatted");
}

/* --- the copy --- */

static void seals_a_copy(void **state)
{
    AUTO_CLOSE int fd = image_blank();
    AUTO_CLOSE int copy = -1;
    char byte = 'x';

    put(fd, GEOMETRY_HEADER_READ - 1, "a", 1);
    put(fd, GEOMETRY_HEADER_READ, "b", 1);
    assert_int_equal(header_seal(fd, &copy, NULL), 0);
    assert_int_equal(lseek(copy, 0, SEEK_END), (off_t)GEOMETRY_DATA_OFFSET);
    assert_int_equal(pread(copy, &byte, 1, GEOMETRY_HEADER_READ - 1), 1);
    assert_int_equal(byte, 'a');
    assert_int_equal(pread(copy, &byte, 1, GEOMETRY_HEADER_READ), 1);
    assert_int_equal(byte, 0); /* beyond our slots nothing is copied */
    assert_int_equal(fcntl(copy, F_GET_SEALS),
                     F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
}

/* --- the backup --- */

static void saves_a_copy(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    AUTO_CLOSE int copy = -1, to = memfd_create("backup", MFD_CLOEXEC);
    AUTO_FREE char *was = header_aligned(GEOMETRY_HEADER_READ, NULL);
    AUTO_FREE char *saved = header_aligned(GEOMETRY_HEADER_READ, NULL);

    put(to, (off_t)GEOMETRY_DATA_OFFSET, "what an earlier one left", 24);
    assert_int_equal(header_seal(fd, &copy, NULL), 0);
    assert_int_equal(header_memfd_save(copy, to, NULL), 0);
    assert_int_equal(lseek(to, 0, SEEK_END), (off_t)GEOMETRY_DATA_OFFSET);
    assert_int_equal(header_memfd_read(copy, was, NULL), 0);
    assert_int_equal(header_memfd_read(to, saved, NULL), 0);
    assert_memory_equal(was, saved, GEOMETRY_HEADER_READ);
}

/* Restored, it would take the keyslots from a header that has them. */
static void what_was_not_written_has_no_length(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    AUTO_CLOSE int copy = -1, to = memfd_create("backup", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct error err = ERROR_INIT;

    assert_int_equal(ftruncate(to, (off_t)GEOMETRY_DATA_OFFSET), 0); /* an earlier one was whole */
    assert_int_equal(fcntl(to, F_ADD_SEALS, F_SEAL_WRITE), 0);
    assert_int_equal(header_seal(fd, &copy, NULL), 0);
    assert_int_equal(header_memfd_save(copy, to, &err), -1);
    assert_non_null(strstr(err.msg, "the header's backup"));
    assert_true(lseek(to, 0, SEEK_END) < (off_t)GEOMETRY_DATA_OFFSET);
}

/* A keyslot in it must not be left in blocks that are free. */
static void an_earlier_backup_is_overwritten_in_place(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    AUTO_CLOSE int copy = -1, to = memfd_create("backup", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    put(to, GEOMETRY_HEADER_READ - 1, "x", 1);
    assert_int_equal(fcntl(to, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    assert_int_equal(header_seal(fd, &copy, NULL), 0);
    assert_int_equal(header_memfd_save(copy, to, NULL), 0);
    assert_int_equal(lseek(to, 0, SEEK_END), (off_t)GEOMETRY_DATA_OFFSET);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_wants_zeros),
        cmocka_unit_test(new_ignores_what_lies_behind_the_header),
        cmocka_unit_test(new_names_foreign_content),
        cmocka_unit_test(an_error_is_not_blank),
        cmocka_unit_test(formatting_again_over_our_own),
        cmocka_unit_test(formatting_refuses_another_volume),
        cmocka_unit_test(formatting_refuses_a_stray_secondary),
        cmocka_unit_test(formatting_refuses_foreign_content),
        cmocka_unit_test(other_states_never),
        cmocka_unit_test(seals_a_copy),
        cmocka_unit_test(saves_a_copy),
        cmocka_unit_test(what_was_not_written_has_no_length),
        cmocka_unit_test(an_earlier_backup_is_overwritten_in_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
