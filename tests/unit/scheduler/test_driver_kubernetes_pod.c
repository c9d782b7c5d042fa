/* SPDX-License-Identifier: Apache-2.0 */
/* Pods that go, and pods that don't. */
#include "common/base.h"
#include "scheduler/driver_kubernetes_steps.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "tests/unit/scheduler/played_api.h"

static const struct cloud cloud = { .id = ID, .volume = "v", .node = "n1" };

/* What kubelet leaves of an eviction, or of a node that was shut down. */
static void add_ended(const char *label)
{
    json_t *pod =
        json_pack("{s:{s:s, s:{s:s}}, s:{s:s}, s:{s:s}}", "metadata", "name", "ended", "labels",
                  label, ID, "spec", "nodeName", "n1", "status", "phase", "Failed");

    assert_int_equal(json_array_append_new(api.pods, pod), 0);
}

/* The garbage collector: a ReplicaSet, and its pods, go after their Deployment. */
static void collect(const char *method, const char *path)
{
    if (strcmp(method, "DELETE") == 0 && strncmp(path, APPS, strlen(APPS)) == 0)
        assert_int_equal(json_array_clear(api.pods), 0);
}

static void test_a_vm_that_was_evicted_ends(void **state UNUSED)
{
    played_put(APPS "deployments/cloud-" ID, "{\"spec\":{\"replicas\":1}}");
    add_ended(KUBE_LABEL);
    api.after = collect;
    assert_works(kube_stop(&played, &cloud, deadline_in(3000), &err));
    assert_string_equal(api.calls, " PATCH " APPS "deployments/cloud-" ID " DELETE " APPS
                                   "deployments/cloud-" ID);
    assert_null(kube_pod_now(api.pods));
}

static void test_a_request_that_was_evicted_ends(void **state UNUSED)
{
    played_put(APPS "deployments/cloud-" ID "-request", "{\"spec\":{\"replicas\":1}}");
    add_ended(KUBE_ASKED);
    api.after = collect;
    assert_works(kube_ask_no_more(&played, ID, deadline_in(3000), &err));
    assert_null(played_object(APPS "deployments/cloud-" ID "-request"));
}

/* Nor does it take room. */
static void test_a_vm_that_was_evicted_has_no_place(void **state UNUSED)
{
    AUTO_FREE struct place_node *nodes = NULL;
    size_t n = 0;

    assert_int_equal(
        json_array_append_new(api.nodes, played_json("{\"metadata\":{\"name\":\"n1\"}}")), 0);
    add_ended(KUBE_LABEL);
    add_ended(KUBE_LABEL);
    assert_int_equal(json_object_set_new(json_object_get(json_array_get(api.pods, 0), "status"),
                                         "phase", json_string("Running")),
                     0);
    assert_works(kube_nodes(&played, deadline_in(3000), &nodes, &n, &err));
    assert_int_equal(n, 1);
    assert_int_equal(nodes[0].vms, 1);
}

static void set_of_pod(const char *part, const char *key, const char *value)
{
    json_t *at = json_object_get(json_array_get(api.pods, 0), part);

    assert_int_equal(json_object_set_new(at, key, json_string(value)), 0);
}

/* One that runs is the Deployment's to end; nor does one that is going already take it along. */
static void test_others_are_waited_for(void **state UNUSED)
{
    static const char *const rows[][3] = {
        { "status", "phase", "Running" },
        { "metadata", "deletionTimestamp", "2026-01-01T00:00:00Z" },
    };

    played_put(APPS "deployments/cloud-" ID, "{\"spec\":{\"replicas\":1}}");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_int_equal(json_array_clear(api.pods), 0);
        add_ended(KUBE_LABEL);
        set_of_pod(rows[i][0], rows[i][1], rows[i][2]);
        assert_fails(kube_stop(&played, &cloud, deadline_in(700), &err), ERR_DEADLINE,
                     "the VM on node 'n1' hasn't ended yet");
        assert_non_null(played_object(APPS "deployments/cloud-" ID));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED_TEST(test_a_vm_that_was_evicted_ends),
        PLAYED_TEST(test_a_request_that_was_evicted_ends),
        PLAYED_TEST(test_a_vm_that_was_evicted_has_no_place),
        PLAYED_TEST(test_others_are_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
