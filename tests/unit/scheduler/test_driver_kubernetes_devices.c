/* SPDX-License-Identifier: Apache-2.0 */
/* What the claim says of a change of devices that the node didn't take. */
#include "common/base.h"
#include "scheduler/driver_kubernetes_steps.h"

#include "common/deadline.h"
#include "tests/unit/scheduler/played_api.h"

#define CLAIM   CORE "persistentvolumeclaims/cloud-" ID
#define REQUEST APPS "deployments/cloud-" ID "-request"

static const struct cloud cloud = { .id = ID, .volume = "v", .node = "n1" };

/* A request has one pod, until it has none. */
static void has_a_pod(const char *method UNUSED, const char *path)
{
    const json_t *spec = json_object_get(played_object(path), "spec");

    if (strcmp(path, REQUEST) != 0)
        return;
    assert_int_equal(json_array_clear(api.pods), 0);
    if (json_integer_value(json_object_get(spec, "replicas")) == 1)
        assert_int_equal(
            json_array_append_new(api.pods, json_pack("{s:{s:s, s:{s:s}}}", "metadata", "uid", "1",
                                                      "labels", KUBE_ASKED, ID)),
            0);
}

static int remove_one(struct error *why)
{
    const struct cloud_session session = { "s", "k:1", "a" };
    const struct cloud_new_key key = { .session = session,
                                       .commitment = "new",
                                       .recipients =
                                           "[{\"fingerprint\":\"a\",\"wrapped\":\"x\"}]" };

    return kube_remove_device(&played, &cloud, "b", &session, &key, deadline_in(3000), why);
}

/* Where something lacked, kubelet's next attempt may have made it. */
static void test_a_refusal_that_may_pass_settles_nothing(void **state UNUSED)
{
    static const struct {
        const char *code;
        enum error_code ours;
        bool noted;
    } rows[] = { { "FailedPrecondition", ERR_PRECONDITION, false },
                 { "InvalidArgument", ERR_INVALID, false },
                 { "ResourceExhausted", ERR_EXHAUSTED, true } };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct error why = ERROR_INIT;
        char text[128];

        (void)played_end(NULL);
        (void)played_begin(NULL);
        api.after = has_a_pod;
        played_put(CLAIM, "{\"metadata\":{\"annotations\":{\"coffer.dev/commitment\":\"old\","
                          "\"coffer.dev/devices\":\"[{\\\"fingerprint\\\":\\\"a\\\","
                          "\\\"wrapped\\\":\\\"w\\\"},{\\\"fingerprint\\\":\\\"b\\\"}]\"}}}");
        (void)snprintf(text, sizeof(text), "rpc error: code = %s desc = no", rows[i].code);
        assert_int_equal(
            json_array_append_new(
                api.events, json_pack("{s:s, s:s}", "reason", "FailedMount", "message", text)),
            0);
        assert_int_equal(remove_one(&why), -1);
        assert_int_equal(why.code, rows[i].ours);
        assert_string_equal(why.msg, "no");
        assert_int_equal(played_note(KUBE_CHANGE)[0] != '\0', rows[i].noted);
        assert_string_equal(played_note(KUBE_COMMITMENT), "old");
        assert_null(played_object(REQUEST));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED_TEST(test_a_refusal_that_may_pass_settles_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
