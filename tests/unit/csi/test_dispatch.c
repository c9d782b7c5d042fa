/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "csi/dispatch.h"

#include "coffer_admin.pb-c.h"
#include "plugin_registration.pb-c.h"

static const struct method *row(const char *path)
{
    const struct method *found = NULL;
    for (size_t i = 0; i < csi_methods_len; i++) {
        if (strcmp(csi_methods[i].path, path) != 0)
            continue;
        assert_null(found); /* twice in the table */
        found = &csi_methods[i];
    }
    return found;
}

static void every_rpc_of_our_services_has_a_row(void **state)
{
    static const ProtobufCServiceDescriptor *const services[] = {
        &csi__v1__identity__descriptor,
        &csi__v1__controller__descriptor,
        &csi__v1__node__descriptor,
        &coffer__v1__node_admin__descriptor,
        &pluginregistration__registration__descriptor,
    };
    size_t rpcs = 0;
    for (size_t i = 0; i < ARRAY_SIZE(services); i++) {
        for (unsigned k = 0; k < services[i]->n_methods; k++, rpcs++) {
            char path[128];
            (void)snprintf(path, sizeof(path), "/%s/%s", services[i]->name,
                           services[i]->methods[k].name);
            const struct method *m = row(path);
            if (m == NULL)
                fail_msg("%s has no row", path);
            if (m->run != NULL)
                assert_ptr_equal(m->request, services[i]->methods[k].input);
        }
    }
    assert_int_equal(rpcs, csi_methods_len);
}

static int ok(void *ctx, struct csi_call *call, struct csi_node_info *ret, struct error *err)
{
    return 0;
}

static void only_what_has_an_op_is_offered(void **state)
{
    static const struct csi_node_ops info_only = { .get_info = ok };
    const struct csi_service node = { .node = &info_only };
    size_t offered = 0;
    for (size_t i = 0; i < csi_methods_len; i++)
        offered += method_offered(&csi_methods[i], &node);
    assert_int_equal(offered, 1);
    assert_true(method_offered(row("/csi.v1.Node/NodeGetInfo"), &node));
    assert_false(method_offered(row("/csi.v1.Node/NodeStageVolume"), &node));
    assert_false(method_offered(row("/csi.v1.Identity/Probe"), &node));
    assert_false(method_offered(row("/csi.v1.Controller/CreateSnapshot"), &node));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rpc_of_our_services_has_a_row),
        cmocka_unit_test(only_what_has_an_op_is_offered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
