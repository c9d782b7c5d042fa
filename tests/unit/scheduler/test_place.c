/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/place.h"

#include "common/cleanup.h"
#include "tests/support/unit.h"

#define NODES  40
#define ROUNDS 4000

static uint64_t seed = 88172645463325252u; /* xorshift: the same cases in each run */

static uint64_t draw(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

static struct place_node node(const char *name, uint64_t memory, uint64_t used)
{
    struct place_node ret = {
        .schedulable = true, .memory = memory, .memory_used = used, .storage_free = 1000
    };

    assert_int_equal(str_copy(ret.name, sizeof(ret.name), name), 0);
    return ret;
}

static struct place_request request(const char *volume_node)
{
    return (struct place_request){ .volume_node = volume_node, .memory = 10, .storage = 5 };
}

static void draw_nodes(struct place_node *nodes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        nodes[i] = node("", 50 + draw(200), draw(200));
        (void)snprintf(nodes[i].name, sizeof(nodes[i].name), "n%zu", i);
        nodes[i].schedulable = draw(8) != 0;
        nodes[i].storage_free = draw(20);
        nodes[i].vms = (uint32_t)draw(10);
        nodes[i].vms_max = (uint32_t)draw(10);
    }
}

static double share(const struct place_node *n)
{
    return (double)n->memory_used / (double)n->memory;
}

/* What the header promises of the node that was taken, said once more in other words. */
static void assert_right(const struct place_node *nodes, size_t n, const struct place_request *r,
                         size_t chosen)
{
    const struct place_node *c = &nodes[chosen];

    assert_true(c->schedulable);
    assert_true(c->memory_used + r->memory <= c->memory - c->memory / 100 * r->headroom_percent);
    assert_true(c->storage_free >= r->storage);
    assert_true(c->vms_max == 0 || c->vms < c->vms_max);
    for (size_t i = 0; i < n; i++) {
        if (place_judge(&nodes[i], r) != PLACE_FITS)
            continue;
        if (r->spread)
            assert_true(share(c) <= share(&nodes[i]));
        else
            assert_true(share(c) >= share(&nodes[i]));
    }
}

static bool all_closed(const struct place_node *nodes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (nodes[i].schedulable)
            return false;
    }
    return n > 0;
}

/* Never over capacity, the fullest or the emptiest, none only when none fits, any order of the
 * nodes gives the same one. */
static void test_properties(void **state UNUSED)
{
    struct place_node nodes[NODES], turned[NODES];
    size_t fitted = 0;

    for (size_t round = 0; round < ROUNDS; round++) {
        size_t n = draw(NODES + 1), chosen = NODES, again = NODES, by = n > 0 ? draw(n) : 0;
        struct place_request r = request("");
        struct error why = ERROR_INIT;

        draw_nodes(nodes, n);
        for (size_t i = 0; i < n; i++)
            turned[i] = nodes[(i + by) % n];
        r.headroom_percent = (uint32_t)draw(91);
        r.spread = draw(2) != 0;
        if (place(nodes, n, &r, &chosen, &why) < 0) {
            assert_int_equal(why.code, all_closed(nodes, n) ? ERR_UNAVAILABLE : ERR_EXHAUSTED);
            assert_int_equal(chosen, NODES);
            for (size_t i = 0; i < n; i++)
                assert_int_not_equal(place_judge(&nodes[i], &r), PLACE_FITS);
            continue;
        }
        fitted++;
        assert_right(nodes, n, &r, chosen);
        assert_works(place(turned, n, &r, &again, &err));
        assert_string_equal(turned[again].name, nodes[chosen].name);
    }
    assert_in_range(fitted, ROUNDS / 10, ROUNDS - 1);
}

static void test_order(void **state UNUSED)
{
    struct place_node nodes[] = { node("c", 100, 40), node("b", 200, 100), node("a", 100, 40),
                                  node("d", 100, 95), node("e", 1000, 30) };
    struct place_request r = request("");
    size_t chosen = 9;

    assert_works(place(nodes, ARRAY_SIZE(nodes), &r, &chosen, &err));
    assert_int_equal(chosen, 1); /* half full; d is fuller and has no room */
    r.spread = true;
    assert_works(place(nodes, ARRAY_SIZE(nodes), &r, &chosen, &err));
    assert_int_equal(chosen, 4);
    assert_works(place(nodes, 1, &r, &chosen, &err));
    r.spread = false;
    nodes[1].schedulable = false;
    assert_works(place(nodes, ARRAY_SIZE(nodes), &r, &chosen, &err));
    assert_int_equal(chosen, 2); /* equals go by name */
}

static void test_fills_one_node_before_the_next(void **state UNUSED)
{
    struct place_node nodes[3] = { node("a", 100, 0), node("b", 100, 0), node("c", 100, 0) };
    struct place_request r = request("");

    r.headroom_percent = 20;
    for (size_t i = 0; i < 24; i++) {
        size_t chosen = 9;

        assert_works(place(nodes, 3, &r, &chosen, &err));
        assert_int_equal(chosen, i / 8);
        nodes[chosen].memory_used += r.memory;
    }
    assert_fails(place(nodes, 3, &r, &(size_t){ 0 }, &err), ERR_EXHAUSTED,
                 "no node has room: 3 too little memory");
}

/* Where the volume is, or nowhere: also into the headroom, without room for another volume. */
static void test_sticky(void **state UNUSED)
{
    struct place_node nodes[] = { node("a", 100, 0), node("b", 100, 90), node("c", 100, 50) };
    struct place_request r = request("b");
    size_t chosen = 9;

    r.headroom_percent = 50;
    nodes[1].storage_free = 0;
    assert_works(place(nodes, 3, &r, &chosen, &err));
    assert_int_equal(chosen, 1);
    nodes[1].memory_used = 91;
    assert_fails(place(nodes, 3, &r, &chosen, &err), ERR_EXHAUSTED,
                 "node 'b', where the volume is: too little memory");
    nodes[1].schedulable = false;
    assert_fails(place(nodes, 3, &r, &chosen, &err), ERR_UNAVAILABLE,
                 "node 'b', where the volume is: takes no VMs now");
    assert_fails(place(nodes, 1, &r, &chosen, &err), ERR_UNAVAILABLE,
                 "node 'b', where the volume is, isn't there");
    assert_int_equal(chosen, 1);
}

static void test_verdicts(void **state UNUSED)
{
    struct place_request here = request("a"), there = request("b"), new = request("");
    struct place_node n = node("a", 100, 0);

    new.headroom_percent = 10;
    assert_int_equal(place_judge(&n, &new), PLACE_FITS);
    assert_int_equal(place_judge(&n, &here), PLACE_FITS);
    assert_int_equal(place_judge(&n, &there), PLACE_OTHER_NODE);
    n.vms = n.vms_max = 3;
    assert_int_equal(place_judge(&n, &new), PLACE_TOO_MANY);
    n.storage_free = 4;
    assert_int_equal(place_judge(&n, &new), PLACE_NO_STORAGE);
    n.memory_used = 81;
    assert_int_equal(place_judge(&n, &new), PLACE_NO_MEMORY);
    n.schedulable = false;
    assert_int_equal(place_judge(&n, &new), PLACE_CLOSED);
}

/* More taken than there is (a node that shrank), sizes near the end of the range. */
static void test_extremes(void **state UNUSED)
{
    struct place_node nodes[] = { node("a", 100, 300), node("b", UINT64_MAX, UINT64_MAX - 5),
                                  node("c", UINT64_MAX, UINT64_MAX - 10), node("d", 0, 0) };
    struct place_request r = request("");
    size_t chosen = 9;

    assert_works(place(nodes, 4, &r, &chosen, &err));
    assert_int_equal(chosen, 2);
    r.memory = UINT64_MAX;
    assert_fails(place(nodes, 4, &r, &chosen, &err), ERR_EXHAUSTED,
                 "no node has room: 4 too little memory");
    assert_fails(place(nodes, 0, &r, &chosen, &err), ERR_EXHAUSTED,
                 "no node has room: there is none");
    nodes[0].schedulable = false;
    assert_fails(place(nodes, 4, &r, &chosen, &err), ERR_EXHAUSTED,
                 "no node has room: 1 takes no VMs now, 3 too little memory");
    for (size_t i = 0; i < 4; i++)
        nodes[i].schedulable = false;
    assert_fails(place(nodes, 4, &r, &chosen, &err), ERR_UNAVAILABLE,
                 "no node has room: 4 takes no VMs now");
}

static void assert_explained(const struct place_node *nodes, size_t n,
                             const struct place_request *r, const char *expected)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(65536);

    assert_works(place_explain(nodes, n, r, &text, &err));
    assert_string_equal(strbuf_text(&text), expected);
}

static void test_explain(void **state UNUSED)
{
    struct place_node nodes[] = { node("a", GIB(4), GIB(1)), node("b", GIB(4), GIB(2)),
                                  node("c", GIB(4), GIB(4)) };
    struct place_request r = request("");

    nodes[0].vms = 3;
    nodes[1].vms_max = 9;
    nodes[1].storage_free = GIB(7);
    assert_explained(
        nodes, 3, &r,
        "* b: fits (2048 of 4096 MiB of memory taken, 7168 MiB free for volumes, 0 VMs of at "
        "most 9)\n"
        "  a: fits (1024 of 4096 MiB of memory taken, 0 MiB free for volumes, 3 VMs)\n"
        "  c: too little memory (4096 of 4096 MiB of memory taken, 0 MiB free for volumes, 0 "
        "VMs)\n");
    r.volume_node = "c";
    assert_explained(
        nodes + 1, 2, &r,
        "node 'c', where the volume is: too little memory\n"
        "  c: too little memory (4096 of 4096 MiB of memory taken, 0 MiB free for volumes, 0 "
        "VMs)\n"
        "  b: the volume is elsewhere (2048 of 4096 MiB of memory taken, 7168 MiB free for "
        "volumes, 0 VMs of at most 9)\n");
    assert_explained(nodes, 0, &r, "node 'c', where the volume is, isn't there\n");
}

static void test_explain_is_bounded(void **state UNUSED)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(65536), small = STRBUF_INIT(100);
    AUTO_FREE struct place_node *nodes = calloc(10000, sizeof(*nodes));
    struct place_request r = request("");
    size_t lines = 0;

    assert_non_null(nodes);
    for (size_t i = 0; i < 10000; i++) {
        nodes[i] = node("", 100, i < 60 ? 50 : 100);
        (void)snprintf(nodes[i].name, sizeof(nodes[i].name), "n%zu", i);
    }
    assert_works(place_explain(nodes, 10000, &r, &text, &err));
    for (const char *p = strbuf_text(&text); (p = strchr(p, '\n')) != NULL; p++)
        lines++;
    assert_int_equal(lines, PLACE_EXPLAINED + 1);
    assert_non_null(
        strstr(strbuf_text(&text), "\n  and 9950 more: 10 fits, 9940 too little memory\n"));
    assert_fails(place_explain(nodes, 10000, &r, &small, &err), ERR_EXHAUSTED,
                 "the explanation is longer than 100 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_properties),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_fills_one_node_before_the_next),
        cmocka_unit_test(test_sticky),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_explain_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
