/* SPDX-License-Identifier: Apache-2.0 */
/* Which keyslots come and go, and what the disk holds when the way back to it is cut anywhere. */
#include "common/base.h"
#include "crypt/rekey.h"
#include "crypt/rewrite.h"

#include "common/cleanup.h"
#include "tests/unit/crypt/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define SLOTS_AT (2u * GEOMETRY_METADATA_SIZE)

static struct luks loaded(int fd, const char *digest)
{
    struct luks l = LUKS_INIT;
    struct error err = ERROR_INIT;

    if (luks_load(fd, IMAGE_UUID, digest, &l, &err) < 0)
        fail_msg("the header is refused: %s", err.msg);
    return l;
}

static bool opens(struct luks *l, char fill)
{
    AUTO_SECRET struct secret *pass = image_passphrase(fill);
    struct error err = ERROR_INIT;

    if (luks_verify(l, pass, &err) == 0)
        return true;
    assert_int_equal(err.code, ERR_PRECONDITION);
    return false;
}

static bool disk_opens(int fd, char fill)
{
    AUTO_LUKS struct luks l = loaded(fd, NULL);

    return opens(&l, fill);
}

static unsigned count(const struct luks *l)
{
    return (unsigned)l->facts.slot[0] + l->facts.slot[1] + l->facts.slot[2];
}

static struct luks added(const struct luks *from, int fd, char current, char fresh)
{
    AUTO_SECRET struct secret *a = image_passphrase(current), *b = image_passphrase(fresh);
    struct luks l = LUKS_INIT;
    struct error err = ERROR_INIT;

    if (rekey_add(from, fd, IMAGE_UUID, a, b, &l, &err) < 0)
        fail_msg("%s", err.msg);
    return l;
}

static struct luks pruned(struct luks *from, int fd, char current)
{
    AUTO_SECRET struct secret *a = image_passphrase(current);
    struct luks l = LUKS_INIT;
    struct error err = ERROR_INIT;

    if (rekey_prune(from, fd, IMAGE_UUID, a, &l, &err) < 0)
        fail_msg("%s", err.msg);
    return l;
}

static void write_back(int fd, const struct luks *was, const struct luks *now)
{
    struct error err = ERROR_INIT;

    if (rewrite_header(fd, was, now, &err) < 0)
        fail_msg("%s", err.msg);
}

static void add_to_disk(int fd, char current, char fresh)
{
    AUTO_LUKS struct luks was = loaded(fd, NULL), now = added(&was, fd, current, fresh);

    write_back(fd, &was, &now);
}

/* --- what is made --- */

static void a_second_key_is_added(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    AUTO_LUKS struct luks was = loaded(fd, NULL), now = added(&was, fd, 'a', 'b');

    assert_string_equal(was.facts.digest, now.facts.digest); /* the volume key stays */
    assert_true(now.facts.slot[0] && now.facts.slot[1] && !now.facts.slot[2]);
    assert_int_equal(pwrite(now.memfd, "x", 1, 0), -1); /* finished is sealed */
    assert_false(disk_opens(fd, 'b'));                  /* nothing is written by itself */
    write_back(fd, &was, &now);
    assert_true(disk_opens(fd, 'a') && disk_opens(fd, 'b'));
}

static void adding_again_adds_nothing(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');

    add_to_disk(fd, 'a', 'b');
    add_to_disk(fd, 'a', 'b');
    AUTO_LUKS struct luks l = loaded(fd, NULL);
    assert_int_equal(count(&l), 2);
}

/* Two killed rotations left two keys that no record names; the third finds room. */
static void orphans_make_room(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');

    add_to_disk(fd, 'a', 'b');
    add_to_disk(fd, 'a', 'c');
    AUTO_LUKS struct luks full = loaded(fd, NULL);
    assert_int_equal(count(&full), 3);
    add_to_disk(fd, 'a', 'd');
    assert_true(disk_opens(fd, 'a') && disk_opens(fd, 'd') && disk_opens(fd, 'c'));
    assert_false(disk_opens(fd, 'b'));
}

/* What a rotation leaves has its keyslot anywhere: each of the numbers is the last one once. */
static void rotates_on_and_on(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');

    for (char c = 'a'; c < 'h'; c++) {
        add_to_disk(fd, c, (char)(c + 1));
        AUTO_LUKS struct luks was = loaded(fd, NULL), now = pruned(&was, fd, (char)(c + 1));
        write_back(fd, &was, &now);
        AUTO_LUKS struct luks after = loaded(fd, was.facts.digest);
        assert_int_equal(count(&after), 1);
        assert_true(opens(&after, (char)(c + 1)) && !opens(&after, c));
    }
}

static void a_wrong_present_key_changes_nothing(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    AUTO_SECRET struct secret *wrong = image_passphrase('x'), *fresh = image_passphrase('b');
    AUTO_LUKS struct luks was = loaded(fd, NULL);
    struct luks now = LUKS_INIT;
    struct error err = ERROR_INIT;

    assert_int_equal(rekey_add(&was, fd, IMAGE_UUID, wrong, fresh, &now, &err), -1);
    assert_int_equal(rekey_prune(&was, fd, IMAGE_UUID, wrong, &now, &err), -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
    assert_true(now.memfd == -1 && disk_opens(fd, 'a'));
}

/* --- cut anywhere --- */

/* A disk on which only some parts of `to` replaced those of `from`. */
static int cut_at(int from, int to, unsigned parts, unsigned torn)
{
    static const struct {
        size_t at, len;
    } areas[] = { { 0, GEOMETRY_METADATA_SIZE },
                  { GEOMETRY_METADATA_SIZE, GEOMETRY_METADATA_SIZE },
                  { SLOTS_AT, GEOMETRY_SLOTS * GEOMETRY_SLOT_SIZE } };
    AUTO_FREE char *area = header_aligned(GEOMETRY_HEADER_READ, NULL);
    int fd = image_blank();

    for (size_t i = 0; i < ARRAY_SIZE(areas); i++) {
        int source = (parts >> i & 1) != 0 ? to : from;

        assert(pread(source, area, areas[i].len, (off_t)areas[i].at) == (ssize_t)areas[i].len);
        assert(pwrite(fd, area, areas[i].len, (off_t)areas[i].at) == (ssize_t)areas[i].len);
        if ((torn >> i & 1) != 0) /* half of it is the other's */
            assert(pwrite(fd, "torn", 4, (off_t)areas[i].at + IMAGE_JSON_AT) == 4);
    }
    return fd;
}

#define P (1u << 0) /* primary metadata */
#define S (1u << 1) /* secondary */
#define K (1u << 2) /* keyslots */

static const struct {
    unsigned parts, torn;
    bool fresh; /* the new key opens already */
} cuts[] = {
    { K, 0, false },        { K | S, S, false },    { K | S, 0, true },
    { K | S | P, P, true }, { K | S | P, 0, true },
};

/* At each of these the present key opens, and beginning again comes to the end. */
static void adding_may_be_cut_anywhere(void **state)
{
    AUTO_CLOSE int before = image_format(IMAGE_UUID, 'a');
    AUTO_CLOSE int after = cut_at(before, before, 0, 0);

    add_to_disk(after, 'a', 'b');
    for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
        AUTO_CLOSE int fd = cut_at(before, after, cuts[i].parts, cuts[i].torn);

        assert_true(disk_opens(fd, 'a'));
        assert_int_equal(disk_opens(fd, 'b'), cuts[i].fresh);
        add_to_disk(fd, 'a', 'b');
        assert_true(disk_opens(fd, 'a') && disk_opens(fd, 'b'));
        add_to_disk(fd, 'a', 'c'); /* another key, as after a killed rotation */
        assert_true(disk_opens(fd, 'a') && disk_opens(fd, 'c'));
    }
}

static void pruning_may_be_cut_anywhere(void **state)
{
    AUTO_CLOSE int before = image_format(IMAGE_UUID, 'a');

    add_to_disk(before, 'a', 'b');
    AUTO_CLOSE int after = cut_at(before, before, 0, 0);
    AUTO_LUKS struct luks was = loaded(after, NULL), now = pruned(&was, after, 'b');
    write_back(after, &was, &now);
    assert_int_equal(rewrite_unused(after, &now.facts, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
        /* metadata first, areas last */
        AUTO_CLOSE int fd = cut_at(before, after, cuts[i].parts & ~K, cuts[i].torn);
        AUTO_LUKS struct luks cut = loaded(fd, NULL);

        assert_true(opens(&cut, 'b'));
        AUTO_LUKS struct luks again = pruned(&cut, fd, 'b');
        write_back(fd, &cut, &again);
        assert_true(disk_opens(fd, 'b') && !disk_opens(fd, 'a'));
    }
}

/* The copy that the disk rests on is written last, whichever it is. */
static void the_good_copy_goes_last(void **state)
{
    static const struct {
        unsigned parts, torn;
        bool primary_stale;
    } rows[] = {
        { P | S | K, 0, false }, { P | S | K, P, true }, { P | S | K, S, false },
        { S | K, 0, true },      { P | K, 0, false },
    };
    AUTO_CLOSE int before = image_format(IMAGE_UUID, 'a');
    AUTO_CLOSE int after = cut_at(before, before, 0, 0);

    add_to_disk(after, 'a', 'b');
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_CLOSE int fd = cut_at(before, after, rows[i].parts, rows[i].torn);
        AUTO_LUKS struct luks was = loaded(fd, NULL), now = added(&was, fd, 'a', 'b');

        assert_int_equal(now.primary_stale, rows[i].primary_stale);
        write_back(fd, &was, &now);
        for (size_t k = 0; k < 2; k++) { /* both copies are whole again */
            AUTO_CLOSE int one = cut_at(fd, fd, 0, k == 0 ? P : S);
            assert_true(disk_opens(one, 'a') && disk_opens(one, 'b'));
        }
    }
}

/* --- what was there is gone --- */

static bool same_area(int a, int b, unsigned slot)
{
    static char x[GEOMETRY_SLOT_SIZE], y[GEOMETRY_SLOT_SIZE];
    const off_t at = (off_t)(SLOTS_AT + slot * GEOMETRY_SLOT_SIZE);

    assert(pread(a, x, sizeof(x), at) == (ssize_t)sizeof(x));
    assert(pread(b, y, sizeof(y), at) == (ssize_t)sizeof(y));
    return memcmp(x, y, sizeof(x)) == 0;
}

static void unused_areas_are_overwritten(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    AUTO_CLOSE int both = -1, blank = image_blank();

    add_to_disk(fd, 'a', 'b');
    both = cut_at(fd, fd, 0, 0);
    AUTO_LUKS struct luks was = loaded(fd, NULL), now = pruned(&was, fd, 'b');
    write_back(fd, &was, &now);
    assert_true(same_area(fd, both, 0)); /* so far nothing but the metadata changed */
    assert_int_equal(rewrite_unused(fd, &now.facts, NULL), 0);
    assert_false(same_area(fd, both, 0));
    assert_true(same_area(fd, both, 1));
    assert_false(same_area(fd, blank, 2));
    assert_true(disk_opens(fd, 'b') && !disk_opens(fd, 'a'));
    /* the old metadata over what is there now opens nothing by the old key either */
    AUTO_CLOSE int rolled_back = cut_at(both, fd, K, 0);
    assert_false(disk_opens(rolled_back, 'a'));
}

static void keyslots_that_stay_are_not_written(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    AUTO_LUKS struct luks was = loaded(fd, NULL), now = added(&was, fd, 'a', 'b');
    char mark[4096];

    memset(mark, 'm', sizeof(mark)); /* would be gone if the area were written again */
    assert_int_equal(pwrite(fd, mark, sizeof(mark), SLOTS_AT), sizeof(mark));
    write_back(fd, &was, &now);
    char found[sizeof(mark)];
    assert_int_equal(pread(fd, found, sizeof(found), SLOTS_AT), sizeof(found));
    assert_memory_equal(found, mark, sizeof(mark));
}

static void a_write_error_is_an_error(void **state)
{
    AUTO_CLOSE int fd = image_format(IMAGE_UUID, 'a');
    AUTO_LUKS struct luks was = loaded(fd, NULL), now = added(&was, fd, 'a', 'b');
    struct error err = ERROR_INIT;

    assert_int_equal(rewrite_header(now.memfd, &was, &now, &err), -1); /* sealed */
    assert_non_null(strstr(err.msg, "write the volume's header area at byte"));
    assert_int_equal(rewrite_unused(999, &now.facts, &err), -1);
}

static int setup(void **state)
{
    return luks_setup(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_key_is_added),
        cmocka_unit_test(adding_again_adds_nothing),
        cmocka_unit_test(orphans_make_room),
        cmocka_unit_test(rotates_on_and_on),
        cmocka_unit_test(a_wrong_present_key_changes_nothing),
        cmocka_unit_test(adding_may_be_cut_anywhere),
        cmocka_unit_test(pruning_may_be_cut_anywhere),
        cmocka_unit_test(the_good_copy_goes_last),
        cmocka_unit_test(unused_areas_are_overwritten),
        cmocka_unit_test(keyslots_that_stay_are_not_written),
        cmocka_unit_test(a_write_error_is_an_error),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
