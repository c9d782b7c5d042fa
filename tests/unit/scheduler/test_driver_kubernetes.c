/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the driver `kubernetes` that ask nobody: quantities, events, pods, objects, options.
 * What the API server and kubelet say to it: e2e/stories/scheduler-kubernetes-api.py. */
#include "scheduler/driver_kubernetes_objects.h"

#include "common/cleanup.h"
#include "scheduler/config.h"
#include "tests/support/unit.h"

#define ID "0123456789abcdef0123456789abcdef"

static void test_quantities(void **state UNUSED)
{
    static const struct {
        const char *text;
        uint64_t want;
    } right[] = {
        { "0", 0 },
        { "128974848", 128974848 },
        { "16Gi", GIB(16) },
        { "4194304Ki", GIB(4) },
        { "129M", 129000000 },
        { "129e6", 129000000 },
        { "1.5Gi", GIB(1) + MIB(512) },
        { "1500m", 1 },
        { "2E", 2000000000000000000ull },
        { "1E1", 10 },
    };
    static const char *const wrong[] = { "",    " 1",  "-1",    "Gi",    "1 Gi", "1GiB", "0x10",
                                         "inf", "nan", "1.2.3", "1e400", "16Ei", "1i",   "1e" };

    for (size_t i = 0; i < ARRAY_SIZE(right); i++) {
        uint64_t got = 1;

        assert_int_equal(kube_quantity(right[i].text, &got), 0);
        assert_int_equal(got, right[i].want);
    }
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        uint64_t got = 7;

        if (kube_quantity(wrong[i], &got) != -1 || got != 7)
            fail_msg("'%s' was taken", wrong[i]);
    }
}

static void test_events(void **state UNUSED)
{
    static const struct {
        const char *reason, *message;
        enum error_code code;
        const char *text;
    } rows[] = {
        { "FailedMount",
          "MountVolume.MountDevice failed for volume \"pvc-1\" : rpc error: code = "
          "InvalidArgument desc = the session isn't of this volume",
          ERR_INVALID, "the session isn't of this volume" },
        { "FailedMount", "MountVolume: rpc error: code = FailedPrecondition desc = it is over",
          ERR_PRECONDITION, "it is over" },
        { "ProvisioningFailed", "rpc error: code = ResourceExhausted desc = no room", ERR_EXHAUSTED,
          "no room" },
        { "FailedMount", "rpc error: code = Unavailable desc = later", ERR_UNAVAILABLE, "later" },
        { "FailedMount", "rpc error: code = InvalidArgumentative desc = x", ERR_UNAVAILABLE, "x" },
        { "FailedMount", "driver name csi.coffer.dev not found", ERR_UNAVAILABLE,
          "driver name csi.coffer.dev not found" },
        { "FailedMount",
          "MountVolume.SetUp failed for volume \"request\" : kubernetes.io/csi: mounter.SetupAt "
          "failed to check volume lifecycle mode: volume mode \"Ephemeral\" not supported by "
          "driver csi.coffer.dev (only supports [\"Persistent\"])",
          ERR_UNIMPLEMENTED,
          "the cluster's CSIDriver doesn't have the mode Ephemeral, by which a node is asked" },
        { "BackOff", "rpc error: code = InvalidArgument desc = of the image", ERR_OK, "" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct kube_trouble got;

        kube_trouble_parse(rows[i].reason, rows[i].message, &got);
        assert_int_equal(got.code, rows[i].code);
        assert_string_equal(got.text, rows[i].text);
    }
}

static json_t *parse(const char *text)
{
    json_t *obj = NULL;

    assert_works(json_parse(text, strlen(text), "it", &obj, &err));
    return obj;
}

static void test_pods(void **state UNUSED)
{
    static const struct {
        const char *status;
        bool mounted;
        enum vm_state vm;
        const char *reason;
    } rows[] = {
        { "{}", false, VM_STARTING, "" },
        { "{\"containerStatuses\":[{\"state\":{\"waiting\":{\"reason\":\"ContainerCreating\"}}}]}",
          false, VM_STARTING, "" },
        { "{\"conditions\":[{\"type\":\"PodReadyToStartContainers\",\"status\":\"True\"}]}", true,
          VM_STARTING, "" },
        { "{\"containerStatuses\":[{\"state\":{\"running\":{}}}]}", true, VM_STARTING, "" },
        { "{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}],"
          "\"containerStatuses\":[{\"state\":{\"running\":{}}}]}",
          true, VM_READY, "" },
        { "{\"containerStatuses\":[{\"state\":{\"waiting\":{\"reason\":\"ImagePullBackOff\","
          "\"message\":\"no image\"}}}]}",
          true, VM_FAILED, "ImagePullBackOff: no image" },
        { "{\"conditions\":[{\"type\":\"PodReadyToStartContainers\",\"status\":\"True\"}],"
          "\"containerStatuses\":[{\"state\":{\"terminated\":{\"exitCode\":143}}}]}",
          true, VM_FAILED, "signal 15" },
        { "{\"containerStatuses\":[{\"state\":{\"waiting\":{\"reason\":\"CrashLoopBackOff\"}},"
          "\"lastState\":{\"terminated\":{\"exitCode\":137,\"reason\":\"OOMKilled\"}}}]}",
          true, VM_FAILED, "out of memory" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_JSON json_t *pod = json_pack("{s:o}", "status", parse(rows[i].status));
        char reason[CLOUD_REASON_MAX + 1] = "";

        assert_int_equal(kube_pod_mounted(pod), rows[i].mounted);
        assert_int_equal(kube_pod_state(pod, reason), rows[i].vm);
        assert_string_equal(reason, rows[i].reason);
    }
}

static void test_the_newest_pod_counts(void **state UNUSED)
{
    AUTO_JSON json_t *pods =
        parse("[{\"metadata\":{\"name\":\"a\",\"creationTimestamp\":\"2026-01-01T00:00:00Z\"}},"
              "{\"metadata\":{\"name\":\"b\",\"creationTimestamp\":\"2026-01-01T00:00:02Z\"}},"
              "{\"metadata\":{\"name\":\"c\",\"creationTimestamp\":\"2026-01-01T00:00:03Z\"},"
              "\"status\":{\"phase\":\"Failed\"}},"
              "{\"metadata\":{\"name\":\"d\",\"creationTimestamp\":\"2026-01-01T00:00:04Z\","
              "\"deletionTimestamp\":\"2026-01-01T00:00:05Z\"}}]");
    AUTO_JSON json_t *none = json_array();

    assert_string_equal(kube_text(json_object_get(kube_pod_now(pods), "metadata"), "name"), "b");
    assert_null(kube_pod_now(none));
}

/* ---- options and objects ---- */

#define OPTIONS                                                                             \
    "{\"api\":\"https://kubernetes.default.svc\",\"ca\":\"/ca\",\"token_path\":\"/token\"," \
    "\"namespace\":\"clouds\",\"storage_class\":\"encrypted-client\",\"image\":\"vm:1\","   \
    "\"ingress_host\":\"clouds.example\"%s}"

static const struct scheduler_config config = { .url = "https://clouds.example:8444/clouds/",
                                                .tenant = "clouds",
                                                .ready_path = "/personalcloud/",
                                                .size = GIB(1),
                                                .memory = MIB(256),
                                                .stop_seconds = 10 };

static int read_options(const char *more, struct kube_options *ret, struct error *err)
{
    char text[1024];

    (void)snprintf(text, sizeof(text), OPTIONS, more);
    AUTO_JSON json_t *obj = parse(text);
    return kube_options_read(obj, &config, ret, err);
}

static void test_options(void **state UNUSED)
{
    static const char *const wrong[] = {
        ",\"colour\":\"red\"",        ",\"driver_namespace\":\"\"",
        ",\"command\":\"node\"",      ",\"command\":[]",
        ",\"command\":[1]",           ",\"driver_namespace\":\"a/b\"",
        ",\"ingress_class\":\"a b\"", ",\"ingress_annotations\":{\"a\":1}",
        ",\"csi_driver\":\"\"",       ",\"csi_driver\":\"A\"",
    };
    struct kube_options o = { .command = NULL };

    assert_works(read_options("", &o, &err));
    assert_string_equal(o.path_prefix, "/clouds/");
    assert_string_equal(o.driver_name_space, "coffer");
    assert_string_equal(o.csi_driver, "csi.coffer.dev");
    kube_options_release(&o);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        struct error err = ERROR_INIT;

        if (read_options(wrong[i], &o, &err) != -1 || err.code != ERR_INVALID)
            fail_msg("%s was taken", wrong[i]);
        kube_options_release(&o);
    }
}

static void test_the_api_is_asked_by_https_alone(void **state UNUSED)
{
    static const char *const wrong[] = { "http://a", "https://", "https://a/b", "https://u@a" };

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        struct kube_options o = { .command = NULL };
        AUTO_JSON json_t *obj = parse(
            "{\"ca\":\"/ca\",\"token_path\":\"/token\",\"namespace\":\"c\",\"storage_class\":\"s\","
            "\"image\":\"i\",\"ingress_host\":\"h\"}");

        assert_int_equal(json_object_set_new(obj, "api", json_string(wrong[i])), 0);
        assert_fails(kube_options_read(obj, &config, &o, &err), ERR_INVALID,
                     "kubernetes: field 'api' must be https://HOST:PORT, with nothing behind it");
        kube_options_release(&o);
    }
}

static bool holds_placeholder(const json_t *value)
{
    const char *text = json_string_value(value), *key;
    const json_t *item;
    json_t *member;
    size_t i;

    if (text != NULL && text[0] == '$')
        return true;
    json_array_foreach (value, i, item) {
        if (holds_placeholder(item))
            return true;
    }
    json_object_foreach ((json_t *)(uintptr_t)value, key, member) {
        if (holds_placeholder(member))
            return true;
    }
    return false;
}

static void test_objects_are_whole(void **state UNUSED)
{
    struct driver d = { .config = &config };
    const struct cloud_seed seed = { "name",   "print", "uuid",    "commit",
                                     "public", "alg",   "wrapped", "la\"bel" };
    const struct cloud_session session = { "session", "key:1", "print" };

    assert_works(read_options("", &d.o, &err));
    json_t *made[] = { kube_claim_new(&d, ID, &seed),
                       kube_secret_key_new(&d, ID, &seed),
                       kube_secret_session_new(&d, ID, &session),
                       kube_secret_session_new(&d, ID, NULL),
                       kube_deployment_new(&d, ID),
                       kube_service_new(&d, ID),
                       kube_ingress_new(&d, ID) };

    for (size_t i = 0; i < ARRAY_SIZE(made); i++) {
        const json_t *meta = json_object_get(made[i], "metadata");

        assert_non_null(made[i]);
        assert_false(holds_placeholder(made[i]));
        assert_string_equal(kube_text(meta, "namespace"), "clouds");
        assert_string_equal(kube_text(json_object_get(meta, "labels"), KUBE_LABEL), ID);
    }
    /* without content and without a class the key isn't there at all */
    assert_null(json_object_get(made[3], "stringData"));
    assert_null(json_object_get(json_object_get(made[6], "spec"), "ingressClassName"));
    for (size_t i = 0; i < ARRAY_SIZE(made); i++)
        json_decref(made[i]);
    kube_options_release(&d.o);
}

/* The request's pod isn't one of the cloud's: neither its Service nor its Deployment may take it.
 */
static void test_a_request_is_apart(void **state UNUSED)
{
    AUTO_JSON json_t *attributes = parse("{\"action\":\"closed\"}");
    AUTO_JSON json_t *content = parse("{\"session\":\"s\"}");
    struct driver d = { .config = &config };

    assert_works(read_options("", &d.o, &err));
    AUTO_JSON json_t *with = kube_request_new(&d, ID, "n1", attributes, true);
    AUTO_JSON json_t *without = kube_request_new(&d, ID, "n1", attributes, false);
    AUTO_JSON json_t *secret = kube_secret_request_new(&d, ID, content);
    AUTO_JSON json_t *vm = kube_deployment_new(&d, ID);

    assert_false(holds_placeholder(with) || holds_placeholder(without) ||
                 holds_placeholder(secret));
    const json_t *spec = json_object_get(with, "spec");
    const json_t *pod = json_object_get(spec, "template");
    const json_t *labels = json_object_get(json_object_get(pod, "metadata"), "labels");
    assert_null(json_object_get(labels, KUBE_LABEL));
    assert_string_equal(kube_text(labels, KUBE_ASKED), ID);
    assert_true(
        json_equal(labels, json_object_get(json_object_get(spec, "selector"), "matchLabels")));
    assert_null(json_object_get(
        json_object_get(json_object_get(json_object_get(vm, "spec"), "selector"), "matchLabels"),
        KUBE_ASKED));
    /* the Deployment is found with the cloud */
    assert_string_equal(
        kube_text(json_object_get(json_object_get(with, "metadata"), "labels"), KUBE_LABEL), ID);
    const json_t *volume = json_object_get(
        json_array_get(json_object_get(json_object_get(pod, "spec"), "volumes"), 0), "csi");
    assert_string_equal(kube_text(volume, "driver"), "csi.coffer.dev");
    assert_true(json_equal(json_object_get(volume, "volumeAttributes"), attributes));
    assert_string_equal(kube_text(json_object_get(volume, "nodePublishSecretRef"), "name"),
                        kube_text(json_object_get(secret, "metadata"), "name"));
    volume = json_object_get(
        json_array_get(
            json_object_get(
                json_object_get(json_object_get(json_object_get(without, "spec"), "template"),
                                "spec"),
                "volumes"),
            0),
        "csi");
    assert_null(json_object_get(volume, "nodePublishSecretRef"));
    kube_options_release(&d.o);
}

static void test_paths(void **state UNUSED)
{
    struct driver d = { .config = &config };
    char path[KUBE_PATH_MAX + 1];

    assert_works(read_options("", &d.o, &err));
    assert_works(kube_path(&d, KUBE_SECRET_SESSION, ID, path, &err));
    assert_string_equal(path, "/api/v1/namespaces/clouds/secrets/cloud-" ID "-session");
    assert_works(kube_path(&d, KUBE_INGRESS, NULL, path, &err));
    assert_string_equal(path, "/apis/networking.k8s.io/v1/namespaces/clouds/ingresses");
    kube_options_release(&d.o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantities),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_pods),
        cmocka_unit_test(test_the_newest_pod_counts),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_the_api_is_asked_by_https_alone),
        cmocka_unit_test(test_objects_are_whole),
        cmocka_unit_test(test_a_request_is_apart),
        cmocka_unit_test(test_paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
