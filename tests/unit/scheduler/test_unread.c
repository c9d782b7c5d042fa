/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/unread.h"

#include "tests/support/unit.h"

#define ID    "0123456789abcdef0123456789abcdef"
#define OTHER "ffffffffffffffffffffffffffffffff"

static int names; /* how often a volume was named */

static int volume_id(struct driver *d UNUSED, const char *id, const char *node,
                     char ret[CLOUD_HANDLE_MAX + 1], struct error *err)
{
    names++;
    if (strcmp(node, "untold") == 0)
        return error_set(err, ERR_UNAVAILABLE, "node '%s' hasn't told of its pool yet", node);
    (void)snprintf(ret, CLOUD_HANDLE_MAX + 1, "%s/%s", node, id);
    return 0;
}

static const struct driver_ops naming = { .names_volumes = true, .volume_id = volume_id };
static const struct driver_ops nameless = { .names_volumes = false };

static void add(struct unread_list *l, const char *id, const char *volume, const char *node)
{
    struct cloud c = { .unread = true };

    assert_in_range(snprintf(c.id, sizeof(c.id), "%s", id), 0, CLOUD_ID_LEN);
    assert_in_range(snprintf(c.volume, sizeof(c.volume), "%s", volume), 0, CLOUD_HANDLE_MAX);
    assert_in_range(snprintf(c.node, sizeof(c.node), "%s", node), 0, NODE_NAME_MAX);
    (void)snprintf(c.reason, sizeof(c.reason), "why %s", node);
    assert_works(unread_list_add(l, &c, &err));
}

/* As the first round that ends well says it, at 100. */
static void begin(struct unread_list *l)
{
    const struct unread_list none = { .items = NULL };

    unread_list_follow(l, &none, 100, true, NULL, NULL);
}

static const struct unread *find(const struct unread_list *l, const char *volume, const char *node)
{
    const struct unread_question q = {
        .id = ID, .volume = volume, .node = node, .at = UINT64_MAX, .ops = &naming
    };

    return unread_find(l, &q);
}

static void test_nothing_hides_nothing(void **state UNUSED)
{
    const struct unread_list none = { .items = NULL };

    assert_null(find(&none, "", ""));
    assert_null(find(&none, "v", "n1"));
}

/* A record that can't be read: its volume's id says whose it is. */
static void test_a_volume(void **state UNUSED)
{
    AUTO_UNREAD_LIST struct unread_list l = { .items = NULL };

    add(&l, "", "n1/" OTHER, "n1");
    add(&l, "", "n2/" ID, "n2");
    begin(&l);
    assert_ptr_equal(find(&l, "", ""), &l.items[1]);
    assert_string_equal(l.items[1].reason, "why n2");
    /* a cloud that was seen is what it was seen as */
    assert_null(find(&l, "n1/" ID, "n1"));
    assert_ptr_equal(find(&l, "n2/" ID, "n2"), &l.items[1]);
    assert_false(unread_is_node(&l.items[0]));
}

static void test_a_volume_whose_cloud_is_known(void **state UNUSED)
{
    AUTO_UNREAD_LIST struct unread_list l = { .items = NULL };

    add(&l, OTHER, "v1", "n1");
    begin(&l);
    assert_null(find(&l, "", ""));
    assert_null(find(&l, "v1", "n1")); /* the id is what counts */
    add(&l, ID, "", "");
    assert_ptr_equal(find(&l, "", ""), &l.items[1]);
    assert_ptr_equal(find(&l, "v2", "n2"), &l.items[1]);
    assert_false(unread_is_node(&l.items[1]));
}

/* When it can't be told whose it is, it may be anybody's whose volume isn't known. */
static void test_a_volume_that_cant_be_named(void **state UNUSED)
{
    AUTO_UNREAD_LIST struct unread_list l = { .items = NULL };
    struct unread_question q = {
        .id = ID, .volume = "", .node = "", .at = UINT64_MAX, .ops = &nameless
    };

    add(&l, "", "v1", "untold");
    begin(&l);
    assert_non_null(find(&l, "", ""));
    assert_null(find(&l, "v2", "n1"));
    assert_non_null(unread_find(&l, &q));
}

/* A volume is named once for all rows of a node. */
static void test_many_volumes(void **state UNUSED)
{
    AUTO_UNREAD_LIST struct unread_list l = { .items = NULL };

    for (unsigned int i = 0; i < UNREAD_MAX; i++)
        add(&l, "", "other", i < UNREAD_MAX / 2 ? "n1" : "n2");
    begin(&l);
    names = 0;
    assert_null(find(&l, "", ""));
    assert_int_equal(names, 2);
    const struct cloud more = { .volume = "v", .unread = true };
    assert_fails(unread_list_add(&l, &more, &err), ERR_EXHAUSTED,
                 "the facts of more than 4096 clouds can't be read");
    assert_int_equal(l.n, UNREAD_MAX);
}

/* One that was read before hides what was seen there, when it has been silent long enough; one that
 * never was may have any cloud that isn't seen elsewhere. */
static void test_a_node(void **state UNUSED)
{
    AUTO_UNREAD_LIST struct unread_list never = { .items = NULL }, before = { .items = NULL };
    const struct unread_list none = { .items = NULL };
    struct unread_question q = { .id = ID, .volume = "v", .node = "n1", .at = 99, .ops = &naming };

    add(&never, "", "", "n1");
    begin(&never);
    assert_true(unread_is_node(&never.items[0]) && never.items[0].never_read);
    assert_non_null(find(&never, "", ""));
    assert_non_null(unread_find(&never, &q));
    assert_null(find(&never, "v", "n2"));
    add(&before, "", "", "n1");
    unread_list_follow(&before, &none, 100, false, NULL, NULL);
    assert_false(before.items[0].never_read);
    assert_null(find(&before, "", ""));
    assert_null(find(&before, "v", "n2"));
    assert_non_null(find(&before, "v", "n1"));
    assert_non_null(find(&before, "", "n1")); /* what a failed create may have left */
    assert_null(unread_find(&before, &q));
    q.at = 100;
    assert_non_null(unread_find(&before, &q));
}

/* ---- from round to round ---- */

struct heard {
    char text[256];
};

static void hear(void *ctx, const struct unread *u, bool is_new)
{
    struct heard *h = ctx;
    size_t len = strlen(h->text);

    (void)snprintf(h->text + len, sizeof(h->text) - len, "%c%s%s%s ", is_new ? '+' : '-', u->id,
                   u->volume, u->node);
}

static void test_what_begins_and_ends(void **state UNUSED)
{
    AUTO_UNREAD_LIST struct unread_list first = { .items = NULL }, second = { .items = NULL };
    const struct unread_list none = { .items = NULL };
    struct heard h = { .text = "" };

    add(&first, "", "v1", "n1");
    add(&first, "", "v2", "n1");
    add(&first, "", "", "n2");
    unread_list_follow(&first, &none, 100, true, hear, &h);
    assert_string_equal(h.text, "+v1n1 +v2n1 +n2 ");
    assert_false(first.items[0].never_read); /* a record isn't a node */
    h.text[0] = '\0';
    add(&second, "", "", "n3");
    add(&second, "", "", "n2"); /* another order */
    add(&second, "", "v2", "n1");
    unread_list_follow(&second, &first, 200, false, hear, &h);
    assert_string_equal(h.text, "+n3 -v1n1 ");
    assert_int_equal(second.items[0].since, 200);
    assert_int_equal(second.items[1].since, 100);
    assert_int_equal(second.items[2].since, 100);
    assert_false(second.items[0].never_read);
    assert_true(second.items[1].never_read); /* it still wasn't */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_hides_nothing),
        cmocka_unit_test(test_a_volume),
        cmocka_unit_test(test_a_volume_whose_cloud_is_known),
        cmocka_unit_test(test_a_volume_that_cant_be_named),
        cmocka_unit_test(test_many_volumes),
        cmocka_unit_test(test_a_node),
        cmocka_unit_test(test_what_begins_and_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
