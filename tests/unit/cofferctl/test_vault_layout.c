/* SPDX-License-Identifier: Apache-2.0 */
/* Layout, roles and plan, without a server. */
#include "common/base.h"
#include "cofferctl/vault_layout.h"

#include "cofferctl/vault_plan.h"
#include "cofferctl/vault_roles.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define POLICIES "deploy/vault"
#define COMMON   "\"ca\":\"/ca\",\"auth\":{\"method\":\"cert\"}"

static struct config *config_of(const char *text)
{
    struct config *c = NULL;
    struct error err = ERROR_INIT;

    if (config_decode(text, strlen(text), &c, &err) < 0)
        fail_msg("%s", err.msg);
    return c;
}

static int layout_of(const char *kms, struct vault_layout *ret, struct error *err)
{
    char text[2048];
    int r = 0;

    (void)snprintf(
        text, sizeof(text),
        "{\"pools\":{\"p\":{\"backend\":\"file\",\"path\":\"/p\",\"allocate\":\"full\",\"kms\":"
        "[\"%c\"]}},\"kms\":{%s}}",
        kms[1], kms);
    AUTO_CONFIG struct config *c = config_of(text);
    *ret = (struct vault_layout){ .prefix = "coffer-",
                                  .server_key = "coffer-s-",
                                  .method = "approle",
                                  .login = "approle",
                                  .service_namespace = "coffer",
                                  .audience = "vault" };
    for (size_t i = 0; i < c->n_kms && r == 0; i++)
        r = vault_layout_add(ret, &c->kms[i], err);
    return r < 0 ? r : vault_layout_check(ret, err);
}

#define TRANSIT "\"t\":{\"uri\":\"hcvault://v:8200/transit/keys/coffer-t-{tenant}\"," COMMON "}"
#define KV      "\"k\":{\"uri\":\"hcvault+kv://v:8200/coffer-kv/volumes\"," COMMON "}"

static void test_both(void **state UNUSED)
{
    struct vault_layout l;
    struct error err = ERROR_INIT;

    assert_int_equal(layout_of(TRANSIT "," KV, &l, &err), 0);
    assert_string_equal(l.transit, "transit");
    assert_string_equal(l.tenant_key, "coffer-t-");
    assert_false(l.one_key);
    assert_string_equal(l.kv, "coffer-kv");
    assert_string_equal(l.kv_prefix, "volumes");
}

static void refuse(const char *kms, const char *word)
{
    struct vault_layout l;
    struct error err = ERROR_INIT;

    assert_int_equal(layout_of(kms, &l, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    if (strstr(err.msg, word) == NULL)
        fail_msg("'%s' is not in '%s'", word, err.msg);
}

static void test_refused(void **state UNUSED)
{
    refuse(TRANSIT ",\"u\":{\"uri\":\"hcvault://v:8200/other/keys/x-{tenant}\"," COMMON "}",
           "second transit");
    refuse("\"t\":{\"uri\":\"hcvault://v:8200/transit/keys/a-{tenant}-z\"," COMMON "}",
           "must come last");
    refuse("\"t\":{\"uri\":\"hcvault://v:8200/transit/keys/{tenant}\"," COMMON "}",
           "something must stand before");
    refuse("\"t\":{\"uri\":\"hcvault://v:8200/transit/keys/coffer-{tenant}\"," COMMON "}",
           "must not begin alike");
    refuse("\"f\":{\"uri\":\"file:///key\"}", "not Vault's");
    refuse(TRANSIT ",\"k\":{\"uri\":\"hcvault+kv://v:8200/transit/volumes\"," COMMON "}",
           "can't both be mounted");
}

static const struct vault_item *find(const struct vault_plan *p, const char *path)
{
    for (size_t i = 0; i < p->n; i++) {
        if (strcmp(p->items[i].path, path) == 0)
            return &p->items[i];
    }
    return NULL;
}

static const char *policy(const struct vault_plan *p, const char *name)
{
    const struct vault_item *item = find(p, name);

    assert_non_null(item);
    return json_string_value(json_object_get(item->wanted, "policy"));
}

/* The files that are installed, filled in: nothing of them is left open. */
static void test_plan(void **state UNUSED)
{
    AUTO_VAULT_PLAN struct vault_plan *p = NULL;
    struct vault_layout l;
    struct error err = ERROR_INIT;

    assert_int_equal(layout_of(TRANSIT "," KV, &l, &err), 0);
    assert_int_equal(vault_plan_rest(&l, POLICIES, "auth_approle_1", &p, &err), 0);
    for (size_t i = 0; i < p->n; i++) {
        if (p->items[i].kind == ITEM_POLICY)
            assert_null(
                strchr(json_string_value(json_object_get(p->items[i].wanted, "policy")), '@'));
    }
    assert_non_null(strstr(policy(p, "coffer-node"), "path \"transit/decrypt/coffer-t-*\""));
    assert_non_null(strstr(policy(p, "coffer-controller"), "path \"transit/keys/+\""));
    assert_null(find(p, "coffer-node-tenant")); /* an approle login names no tenant */
    assert_non_null(find(p, "auth/approle/role/coffer-host"));
}

#define SERVER(name)                                                                            \
    "\"t\":{\"uri\":\"hcvault://v:8200/transit/keys/coffer-t-{tenant}\",\"server_key\":\"" name \
    "\"," COMMON "}"

/* Setup makes it, when the configuration names one. */
static void test_server_key(void **state UNUSED)
{
    AUTO_VAULT_PLAN struct vault_plan *with = NULL, *without = NULL;
    struct vault_layout l;
    struct error err = ERROR_INIT;

    assert_int_equal(layout_of(SERVER("coffer-s-1"), &l, &err), 0);
    assert_int_equal(vault_plan_rest(&l, POLICIES, "a", &with, &err), 0);
    const struct vault_item *item = find(with, "transit/keys/coffer-s-1");
    assert_non_null(item);
    assert_int_equal(item->kind, ITEM_SERVER_KEY);
    assert_string_equal(json_string_value(json_object_get(item->wanted, "type")), "rsa-3072");
    assert_int_equal(layout_of(TRANSIT, &l, &err), 0);
    assert_int_equal(vault_plan_rest(&l, POLICIES, "a", &without, &err), 0);
    assert_null(find(without, "transit/keys/coffer-s-1"));
    refuse(SERVER("other-1"), "doesn't begin with 'coffer-s-' (--server-key)");
}

static void test_plan_of_one(void **state UNUSED)
{
    AUTO_VAULT_PLAN struct vault_plan *p = NULL;
    struct vault_layout l;
    struct error err = ERROR_INIT;

    assert_int_equal(layout_of(KV, &l, &err), 0);
    l.method = "kubernetes";
    l.roles = (struct flag_strings){ .items = { "node" }, .len = 1 };
    assert_int_equal(vault_plan_rest(&l, POLICIES, "acc_1", &p, &err), 0);
    assert_null(strstr(policy(p, "coffer-node"), "path \"transit"));
    assert_non_null(strstr(policy(p, "coffer-node"), "path \"coffer-kv/data/volumes/+\""));
    assert_non_null(find(p, "coffer-node-tenant"));
    assert_non_null(find(p, "auth/approle/role/coffer-node"));
    assert_null(find(p, "auth/approle/role/coffer-controller"));
    assert_non_null(find(p, "auth/approle/config")->by_hand);
}

/* tenants: listed */
static void test_no_new_keys(void **state UNUSED)
{
    AUTO_VAULT_PLAN struct vault_plan *p = NULL;
    struct vault_layout l;
    struct error err = ERROR_INIT;

    assert_int_equal(layout_of("\"t\":{\"tenants\":\"listed\",\"uri\":\"hcvault://v:8200/transit/"
                               "keys/coffer-t-{tenant}\"," COMMON "}",
                               &l, &err),
                     0);
    assert_int_equal(vault_plan_rest(&l, POLICIES, "", &p, &err), 0);
    assert_null(strstr(policy(p, "coffer-controller"), "path \"transit/keys/+\""));
    assert_non_null(strstr(policy(p, "coffer-controller"), "datakey/wrapped"));
    assert_non_null(strstr(policy(p, "coffer-rotation"), "path \"transit/keys/+\""));
}

static void test_roles(void **state UNUSED)
{
    struct vault_layout l = {
        .prefix = "p-", .service_namespace = "ns", .audience = "aud", .method = "kubernetes"
    };
    AUTO_JSON json_t *body =
        vault_method_find("kubernetes")->body(&l, vault_role_find("controller"));
    AUTO_JSON json_t *jwt = vault_method_find("jwt")->body(&l, vault_role_find("node"));

    assert_string_equal(
        json_string_value(json_array_get(json_object_get(body, "bound_service_account_names"), 0)),
        "p-controller");
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(body, "token_policies"), 0)),
        "p-controller");
    assert_string_equal(json_string_value(json_object_get(jwt, "bound_subject")),
                        "system:serviceaccount:ns:p-node");
    assert_true(vault_role_wanted(&l, vault_role_find("node")));
    assert_false(vault_role_wanted(&l, vault_role_find("host"))); /* no pod is both */
    assert_null(vault_role_find("root"));
}

#define POD_LOGIN                                                                              \
    "\"ca\":\"/ca\",\"auth\":{\"method\":\"kubernetes\",\"role\":\"r\",\"token_path\":\"/t\"," \
    "\"pod_role\":\"any-pod\"}"
#define PODS "\"t\":{\"uri\":\"hcvault://v:8200/transit/keys/coffer-t-{tenant}\"," POD_LOGIN "}"

/* Any pod's service account, of any namespace: the policy of its token says whose key it may use.
 */
static void test_role_of_pods(void **state UNUSED)
{
    AUTO_VAULT_PLAN struct vault_plan *p = NULL, *other = NULL;
    struct vault_layout l;
    struct error err = ERROR_INIT;

    assert_int_equal(layout_of(PODS, &l, &err), 0);
    l.method = "kubernetes";
    (void)snprintf(l.login, sizeof(l.login), "kubernetes");
    assert_int_equal(vault_plan_rest(&l, POLICIES, "acc_1", &p, &err), 0);
    const struct vault_item *item = find(p, "auth/kubernetes/role/any-pod");
    assert_non_null(item);
    for (size_t i = 0; i < 2; i++) {
        const char *key =
            i == 0 ? "bound_service_account_names" : "bound_service_account_namespaces";
        assert_string_equal(
            json_string_value(json_array_get(json_object_get(item->wanted, key), 0)), "*");
    }
    const json_t *policies = json_object_get(item->wanted, "token_policies");
    assert_int_equal(json_array_size(policies), 1);
    assert_string_equal(json_string_value(json_array_get(policies, 0)), "coffer-node-tenant");
    assert_int_equal(json_integer_value(json_object_get(item->wanted, "token_ttl")), 300);
    AUTO_JSON json_t *jwt = vault_method_find("jwt")->body(&l, vault_role_find("pod"));
    assert_null(json_object_get(jwt, "bound_subject"));
    /* where pods log in elsewhere, that policy's accessor isn't theirs */
    (void)snprintf(l.login, sizeof(l.login), "other");
    assert_int_equal(vault_plan_rest(&l, POLICIES, "acc_1", &other, &err), 0);
    assert_null(find(other, "auth/other/role/any-pod"));
    l.roles = (struct flag_strings){ .items = { "pod" }, .len = 1 };
    assert_int_equal(vault_layout_check(&l, &err), -1);
    assert_non_null(strstr(err.msg, "pods log in at auth/kubernetes, not at auth/other"));
    l.pod_role[0] = '\0';
    assert_int_equal(vault_layout_check(&l, &err), -1);
    assert_non_null(strstr(err.msg, "has no 'pod_role'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_plan),        cmocka_unit_test(test_server_key),
        cmocka_unit_test(test_plan_of_one), cmocka_unit_test(test_no_new_keys),
        cmocka_unit_test(test_roles),       cmocka_unit_test(test_role_of_pods),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
