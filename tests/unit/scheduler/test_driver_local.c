/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's options, and what it says without a node; with real ones:
 * tests/component/scheduler_local.py, e2e/stories/scheduler-local.py. */
#include "common/base.h"
#include "scheduler/driver_local.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "tests/support/unit.h"

#define ID "0123456789abcdef0123456789abcdef"
#define NODE                                                                                   \
    "{\"controller\":\"unix:///nowhere/c\",\"node\":\"/nowhere/n\",\"launch\":\"/nowhere/l\"," \
    "\"pool\":\"fast\",\"kms\":\"vault\",\"memory\":1024"
#define NODES(more) "{\"nodes\":{\"n2\":" NODE "},\"n1\":" NODE more "}}}"

static const struct scheduler_config config = { .memory = 1,
                                                .ready_path = "/",
                                                .fs = "ext4",
                                                .tenant = "clouds",
                                                .keyd_socket = "/nowhere/k",
                                                .kms = "vault" };

static int open_with(const char *options, struct driver **ret, struct error *err)
{
    AUTO_JSON json_t *obj = json_own(options);

    assert_non_null(obj);
    return driver_local_ops.open(obj, &config, ret, err);
}

static struct driver *opened(const char *options)
{
    struct driver *d = NULL;

    assert_works(open_with(options, &d, &err));
    return d;
}

static void test_options(void **state UNUSED)
{
    struct driver *d = opened(NODES(",\"vms_max\":3"));

    assert_int_equal(d->n_nodes, 2);
    assert_string_equal(d->nodes[0].name, "n1");
    assert_int_equal(d->nodes[0].vms_max, 3);
    assert_int_equal(d->nodes[1].vms_max, 0);
    assert_string_equal(d->nodes[1].controller, "unix:///nowhere/c");
    assert_int_equal(d->nodes[1].memory, 1024);
    assert_string_equal(d->volumes, "/run/coffer/clouds");
    assert_string_equal(d->sockets, "/run/coffer/vms");
    driver_local_ops.close(d);
    assert_ptr_equal(driver_find("local"), &driver_local_ops);
}

static void test_wrong_options(void **state UNUSED)
{
#define ONE(node) "{\"nodes\":{\"n1\":" node "}}"
#define OTHER(field, value)                                                           \
    ONE("{\"controller\":\"/c\",\"node\":\"/n\",\"launch\":\"/l\",\"pool\":\"fast\"," \
        "\"kms\":\"vault\",\"memory\":1,\"" field "\":" value "}")
    static const struct {
        const char *options, *sentence;
    } cases[] = {
        { "{}", "local: field 'nodes' is missing" },
        { "{\"nodes\":{}}", "local: field 'nodes' must have 1 to 10000 nodes" },
        { "{\"nodes\":{\"N1\":{}}}",
          "local: 'N1' is no node's name: 1 to 253 of a-z, 0-9, '-' and '.'" },
        { "{\"nodes\":{\"n1\":7}}", "local: node n1 must be an object" },
        { "{\"nodes\":{\"n1\":{}}}", "local: node n1: field 'controller' is missing" },
        { OTHER("disk", "1"), "local: node n1: unknown field 'disk'" },
        { OTHER("controller", "\"c\""),
          "local: node n1: field 'controller' must be the endpoint of a unix socket" },
        { OTHER("controller", "\"dns:///c\""),
          "local: node n1: field 'controller' must be the endpoint of a unix socket" },
        { OTHER("node", "\"unix:n\""),
          "local: node n1: field 'node' must be the endpoint of a unix socket" },
        { OTHER("launch", "\"unix:///l\""),
          "local: node n1: field 'launch' must be an absolute path" },
        { OTHER("pool", "\"a b\""), "local: node n1: field 'pool' is no pool's name" },
        { OTHER("kms", "\"\""), "local: node n1: field 'kms' is no key service's name" },
        { OTHER("memory", "0"), "local: node n1: field 'memory' must not be 0" },
        { OTHER("vms_max", "4294967296"), "local: node n1: field 'vms_max' is too large" },
        { "{\"volumes\":\"x\",\"nodes\":{\"n1\":" NODE "}}}",
          "local: field 'volumes' must be an absolute path of at most 255 bytes" },
        { "{\"sockets\":\"/x/\",\"nodes\":{\"n1\":" NODE "}}}",
          "local: field 'sockets' must be an absolute path of at most 69 bytes" },
        { "{\"more\":1,\"nodes\":{\"n1\":" NODE "}}}", "local: unknown field 'more'" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct driver *d = NULL;

        assert_fails(open_with(cases[i].options, &d, &err), ERR_INVALID, cases[i].sentence);
        assert_null(d);
    }
}

struct told {
    char text[512];
    size_t n, max;
};

static bool tell(void *ctx, const struct cloud *c)
{
    struct told *t = ctx;
    size_t len = strlen(t->text);

    assert_true(c->unread);
    (void)snprintf(t->text + len, sizeof(t->text) - len, "%s|%s|%s: %s\n", c->id, c->volume,
                   c->node, c->reason);
    return ++t->n < t->max;
}

/* Nobody answers: that is never "there is none". */
static void test_no_node_answers(void **state UNUSED)
{
    struct told all = { .max = 9 }, one = { .max = 1 };
    struct driver *d = opened(NODES(""));
    struct cloud c = { .node = "n1", .id = ID, .volume = "v" };
    AUTO_FREE struct place_node *nodes = NULL;
    char volume[CLOUD_HANDLE_MAX + 1];
    size_t n = 0;
    bool ready;

    assert_fails(driver_local_ops.find(d, ID, "", deadline_in(30000), &c, &err), ERR_UNAVAILABLE,
                 "node 'n2': coffer-launch: connect: No such file or directory");
    assert_fails(driver_local_ops.find(d, ID, "n1", deadline_in(30000), &c, &err), ERR_UNAVAILABLE,
                 "node 'n1': coffer-launch: connect: No such file or directory");
    assert_works(driver_local_ops.each(d, deadline_in(30000), tell, &all, &err));
    assert_string_equal(all.text,
                        "||n1: node 'n1': coffer-launch: connect: No such file or directory\n"
                        "||n2: node 'n2': coffer-launch: connect: No such file or directory\n");
    assert_true(local_is_silent(d, &d->nodes[0]) && local_is_silent(d, &d->nodes[1]));
    assert_works(driver_local_ops.each(d, deadline_in(30000), tell, &one, &err));
    assert_int_equal(one.n, 1); /* it was stopped */
    assert_fails(driver_local_ops.ready(d, &c, deadline_in(30000), &ready, &err), ERR_UNAVAILABLE,
                 "node 'n1': coffer-launch: connect: No such file or directory");
    assert_fails(driver_local_ops.delete_volume(d, &c, deadline_in(30000), &err), ERR_UNAVAILABLE,
                 "node 'n1': the volume's node answers UNAVAILABLE to "
                 "csi.v1.Controller/DeleteVolume; the log has the reason");
    assert_works(driver_local_ops.nodes(d, deadline_in(30000), &nodes, &n, &err));
    assert_true(n == 2 && !nodes[0].schedulable && nodes[0].memory == 1024);
    assert_fails(driver_local_ops.volume_id(d, ID, "n1", volume, &err), ERR_UNAVAILABLE,
                 "node 'n1' hasn't told of its pool yet");
    assert_fails(driver_local_ops.volume_id(d, ID, "n3", volume, &err), ERR_NOT_FOUND,
                 "there is no node 'n3'");
    driver_local_ops.close(d);
}

/* As CreateVolume makes it of the CSI name. */
static void test_volume_id(void **state UNUSED)
{
    struct driver *d = opened(NODES(""));
    char volume[CLOUD_HANDLE_MAX + 1], want[VOLUME_ID_MAX + 1];
    struct volume_id id;

    assert_int_equal(str_copy(d->nodes[1].tag, sizeof(d->nodes[1].tag), "0a1b2c3d"), 0);
    assert_works(driver_local_ops.volume_id(d, ID, "n2", volume, &err));
    volume_id_from_name("fast", "0a1b2c3d", "cloud-" ID, &id);
    volume_id_format(&id, want);
    assert_string_equal(volume, want);
    driver_local_ops.close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_wrong_options),
        cmocka_unit_test(test_no_node_answers),
        cmocka_unit_test(test_volume_id),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
