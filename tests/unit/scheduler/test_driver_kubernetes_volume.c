/* SPDX-License-Identifier: Apache-2.0 */
/* A claim that is there before its volume is made: whose it is, and what may become of it. */
#include "common/base.h"
#include "scheduler/driver_kubernetes_steps.h"

#include "common/deadline.h"
#include "tests/unit/scheduler/played_api.h"

#define CLAIM CORE "persistentvolumeclaims/cloud-" ID

static const struct cloud_seed seed = { "phone", "print", "uuid",    "commit",
                                        "pub",   "alg",   "wrapped", NULL };

/* csi-provisioner: a node is named. */
static void provision(const char *method UNUSED, const char *path)
{
    json_t *claim = played_object(path);

    if (strcmp(path, CLAIM) != 0 || claim == NULL || played_note(KUBE_NODE)[0] == '\0')
        return;
    played_put("/api/v1/persistentvolumes/pv", "{\"spec\":{\"csi\":{\"volumeHandle\":\"v\"}}}");
    assert_int_equal(json_object_set_new(claim, "status", json_pack("{s:s}", "phase", "Bound")), 0);
    assert_int_equal(json_object_set_new(claim, "spec", json_pack("{s:s}", "volumeName", "pv")), 0);
}

static void put_claim(const char *phase, const char *volume, const char *name, const char *opened)
{
    char text[512];

    (void)snprintf(text, sizeof(text),
                   "{\"metadata\":{\"uid\":\"old\",\"annotations\":{\"coffer.dev/uuid\":\"other\","
                   "\"coffer.dev/opened\":\"%s\",\"coffer.dev/devices\":"
                   "\"[{\\\"name\\\":\\\"%s\\\"}]\"}},\"spec\":{\"volumeName\":\"%s\"},"
                   "\"status\":{\"phase\":\"%s\"}}",
                   opened, name, volume, phase);
    played_put(CLAIM, text);
}

/* Its device has no cloud by what find says, and makes another key each time that it asks for one.
 */
static void test_what_a_killed_create_left(void **state UNUSED)
{
    put_claim("Pending", "", "phone", "");
    api.after = provision;
    assert_works(kube_create_volume(&played, ID, "n1", &seed, deadline_in(3000), &err));
    assert_string_equal(played_note(KUBE_UUID), "uuid");
    assert_string_equal(played_note(KUBE_VOLUME), "v");
    assert_string_equal(kube_text(json_object_get(played_object(CLAIM), "status"), "phase"),
                        "Bound");
}

/* All others may have a volume, or are somebody else's. */
static void test_what_is_no_left_over(void **state UNUSED)
{
    static const struct {
        const char *phase, *volume, *name, *opened;
    } rows[] = { { "Bound", "pv", "phone", "" },
                 { "Lost", "", "phone", "" },
                 { "Pending", "pv", "phone", "" },
                 { "Pending", "", "tablet", "" },
                 { "Pending", "", "phone\\\"},{\\\"name\\\":\\\"tablet", "" },
                 { "Pending", "", "phone", "true" } };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        put_claim(rows[i].phase, rows[i].volume, rows[i].name, rows[i].opened);
        assert_fails(kube_create_volume(&played, ID, "n1", &seed, deadline_in(3000), &err),
                     ERR_EXISTS, "there is a volume of another device or key");
        assert_string_equal(api.calls, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED_TEST(test_what_a_killed_create_left),
        PLAYED_TEST(test_what_is_no_left_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
