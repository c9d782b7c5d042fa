/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/config.h"

#include "tests/support/unit.h"

#define POOL            "{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[\"v\"]}"
#define HEAD            "{\"pools\":{\"p\":" POOL "},\"kms\":{\"v\":"
#define TAIL            "}}"
#define TRANSIT_URI     "hcvault://vault.example:8200/transit/keys/coffer-t-{tenant}"
#define LOGIN           "\"method\":\"kubernetes\",\"role\":\"coffer-node\",\"token_path\":\"/t\""
#define AUTH            "\"auth\":{" LOGIN "}"
#define WITH(uri, more) HEAD "{\"uri\":\"" uri "\",\"ca\":\"/ca.pem\"," AUTH more "}" TAIL

static void expect(const char *text, const char *sentence)
{
    AUTO_CONFIG struct config *c = NULL;
    struct error err = ERROR_INIT;

    if (config_decode(text, strlen(text), &c, &err) == 0)
        fail_msg("accepted: %s", text);
    assert_string_equal(err.msg, sentence);
}

static const struct kms_config *accept(const char *text, struct config **c)
{
    struct error err = ERROR_INIT;

    if (config_decode(text, strlen(text), c, &err) < 0)
        fail_msg("%s: %s", text, err.msg);
    return &(*c)->kms[0];
}

static void test_transit(void **state UNUSED)
{
    AUTO_CONFIG struct config *c = NULL;
    const struct kms_config *k = accept(
        WITH(TRANSIT_URI, ",\"addresses\":[\"b:1\",\"[::1]:8200\"],\"namespace\":\"ns1/\","
                          "\"timeout_ms\":500,\"tenants\":\"listed\",\"proxy\":\"http://p:3128\","
                          "\"client_cert\":\"/c\",\"client_key\":\"/k\""),
        &c);

    assert_int_equal(k->kind, KMS_VAULT_TRANSIT);
    assert_string_equal(k->vault->addresses[0], "vault.example:8200");
    assert_string_equal(k->vault->addresses[1], "b:1");
    assert_string_equal(k->vault->addresses[2], "[::1]:8200");
    assert_int_equal(k->vault->n_addresses, 3);
    assert_string_equal(k->vault->mount, "transit");
    assert_string_equal(k->vault->name, "coffer-t-{tenant}");
    assert_string_equal(k->vault->auth.method, "kubernetes");
    assert_string_equal(k->vault->auth.role, "coffer-node");
    assert_string_equal(k->vault->auth.token_path, "/t");
    assert_true(k->vault->tenants_listed);
    assert_true(k->vault->timeout_ms == 500);
}

static void test_kv(void **state UNUSED)
{
    AUTO_CONFIG struct config *c = NULL;
    const struct kms_config *k = accept(WITH("hcvault+kv://v:8200/coffer-kv/volumes/a", ""), &c);

    assert_int_equal(k->kind, KMS_VAULT_KV);
    assert_string_equal(k->vault->mount, "coffer-kv");
    assert_string_equal(k->vault->name, "volumes/a");
    assert_false(k->vault->tenants_listed);
    assert_true(k->vault->timeout_ms == 10000);
}

static void test_mount_of_several_segments(void **state UNUSED)
{
    AUTO_CONFIG struct config *c = NULL;
    const struct kms_config *k = accept(WITH("hcvault://v:1/team/transit/keys/k", ""), &c);

    assert_string_equal(k->vault->mount, "team/transit");
    assert_string_equal(k->vault->name, "k");
}

static void test_bad_uris(void **state UNUSED)
{
    static const char *const transit[] = {
        "hcvault://",
        "hcvault://v",
        "hcvault://v:8200",
        "hcvault://v:8200/",
        "hcvault://v/t/keys/k",
        "hcvault://v:0/t/keys/k",
        "hcvault://v:65536/t/keys/k",
        "hcvault://:1/t/keys/k",
        "hcvault://v:1/t/keys/",
        "hcvault://v:1/keys/k",
        "hcvault://v:1/t/key/k",
        "hcvault://v:1//keys/k",
        "hcvault://v:1/t/../keys/k",
        "hcvault://v:1/t/keys/k/more",
        "hcvault://v:1/t/keys/k?x",
        "hcvault://v:1/t/keys/{tenant}{tenant}",
        "hcvault://v:1/t/keys/{other}",
        "hcvault://v:1/{tenant}/keys/k",
        "hcvault://u@v:1/t/keys/k",
        "hcvault://v:1/t/keys/a b",
        "hcvault://v:1/t/keys/a%2fb",
    };

    for (size_t i = 0; i < ARRAY_SIZE(transit); i++) {
        char text[600], sentence[400];

        (void)snprintf(text, sizeof(text), HEAD "{\"uri\":\"%s\",\"ca\":\"/ca\"," AUTH "}" TAIL,
                       transit[i]);
        (void)snprintf(
            sentence, sizeof(sentence),
            "configuration: kms 'v': uri '%s' must be hcvault://HOST:PORT/MOUNT/keys/NAME",
            transit[i]);
        expect(text, sentence);
    }
    expect(WITH("hcvault+kv://v:1/kv", ""),
           "configuration: kms 'v': uri 'hcvault+kv://v:1/kv' must be "
           "hcvault+kv://HOST:PORT/MOUNT/PREFIX");
    expect(WITH("hcvault+kv://v:1/kv/{tenant}", ""),
           "configuration: kms 'v': uri 'hcvault+kv://v:1/kv/{tenant}' must be "
           "hcvault+kv://HOST:PORT/MOUNT/PREFIX");
}

static void test_bad_fields(void **state UNUSED)
{
    expect(HEAD "{\"uri\":\"" TRANSIT_URI "\"," AUTH "}" TAIL,
           "configuration: kms 'v': field 'ca' is missing");
    expect(HEAD "{\"uri\":\"" TRANSIT_URI "\",\"ca\":\"/ca\"}" TAIL,
           "configuration: kms 'v': field 'auth' is missing");
    expect(WITH(TRANSIT_URI, ",\"insecure\":true"),
           "configuration: kms 'v': unknown field 'insecure'");
    expect(WITH(TRANSIT_URI, ",\"addresses\":\"b:1\""),
           "configuration: kms 'v': field 'addresses' must be an array");
    expect(WITH(TRANSIT_URI, ",\"addresses\":[\"https://b:1\"]"),
           "configuration: kms 'v': field 'addresses' must hold texts HOST:PORT");
    expect(WITH(TRANSIT_URI, ",\"client_cert\":\"/c\""),
           "configuration: kms 'v': fields 'client_cert' and 'client_key' go together");
    expect(WITH(TRANSIT_URI, ",\"timeout_ms\":1"),
           "configuration: kms 'v': field 'timeout_ms' must be a number from 100 to 60000");
    expect(WITH(TRANSIT_URI, ",\"tenants\":\"all\""),
           "configuration: kms 'v': field 'tenants' must be any or listed");
    expect(WITH(TRANSIT_URI, ",\"namespace\":\"a\\nX-Vault-Token: b\""),
           "configuration: kms 'v': field 'namespace' must be of printable ASCII without spaces");
    expect(HEAD "{\"uri\":\"" TRANSIT_URI "\",\"ca\":\"ca.pem\"," AUTH "}" TAIL,
           "configuration: kms 'v': field 'ca' must be an absolute path, without empty, '.' or "
           "'..' parts");
}

static void test_bad_auth(void **state UNUSED)
{
#define WITH_AUTH(auth) HEAD "{\"uri\":\"" TRANSIT_URI "\",\"ca\":\"/ca\",\"auth\":" auth "}" TAIL
    expect(WITH_AUTH("{\"method\":\"userpass\"}"),
           "configuration: kms 'v': auth: there is no method 'userpass' (kubernetes, jwt, approle, "
           "cert, token-file)");
    expect(WITH_AUTH("{}"), "configuration: kms 'v': auth: field 'method' is missing");
    expect(WITH_AUTH("{\"method\":\"jwt\",\"password\":\"x\"}"),
           "configuration: kms 'v': auth: unknown field 'password'");
    expect(WITH_AUTH("{\"method\":\"jwt\",\"mount\":\"a/../b\"}"),
           "configuration: kms 'v': auth: field 'mount' holds what can't be in a path");
    expect(WITH_AUTH("{\"method\":\"jwt\",\"token_path\":\"t\"}"),
           "configuration: kms 'v': auth: field 'token_path' must be an absolute path, without "
           "empty, '.' or '..' parts");
}

static void test_pod_login(void **state UNUSED)
{
#define WITH_LOGIN(uri, auth) HEAD "{\"uri\":\"" uri "\",\"ca\":\"/ca\",\"auth\":{" auth "}}" TAIL
    static const struct {
        const char *text, *mount;
    } rows[] = {
        { WITH_LOGIN(TRANSIT_URI, LOGIN ",\"pod_role\":\"coffer-pod\""), "kubernetes" },
        { WITH_LOGIN(TRANSIT_URI, LOGIN ",\"mount\":\"k8s\",\"pod_role\":\"coffer-pod\""), "k8s" },
        { WITH_LOGIN(TRANSIT_URI, LOGIN ",\"pod_mount\":\"jwt\",\"pod_role\":\"coffer-pod\""),
          "jwt" },
        { WITH_LOGIN(TRANSIT_URI,
                     "\"method\":\"cert\",\"mount\":\"c\",\"pod_role\":\"coffer-pod\""),
          "kubernetes" },
        { WITH_LOGIN(TRANSIT_URI, LOGIN), "" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_CONFIG struct config *c = NULL;
        const struct kms_auth_config *a = &accept(rows[i].text, &c)->vault->auth;

        assert_string_equal(a->pod_mount, rows[i].mount);
        assert_string_equal(a->pod_role, rows[i].mount[0] == '\0' ? "" : "coffer-pod");
    }
    expect(WITH_LOGIN("hcvault+kv://v:1/kv/p", LOGIN ",\"pod_role\":\"r\""),
           "configuration: kms 'v': auth: field 'pod_role' is for hcvault:// alone: the path of a "
           "stored key doesn't say whose it is");
    expect(
        WITH_LOGIN("hcvault://v:1/transit/keys/one", LOGIN ",\"pod_role\":\"r\""),
        "configuration: kms 'v': auth: field 'pod_role' needs {tenant} in the uri: a key for each "
        "tenant");
    expect(WITH_LOGIN(TRANSIT_URI, LOGIN ",\"pod_mount\":\"k\""),
           "configuration: kms 'v': auth: field 'pod_mount' says nothing without 'pod_role'");
    expect(WITH_LOGIN(TRANSIT_URI, LOGIN ",\"pod_role\":\"../x\""),
           "configuration: kms 'v': auth: field 'pod_role' holds what can't be in a path");
}

static void test_server_key(void **state UNUSED)
{
#define WITH_SERVER_KEY(uri, name) \
    HEAD "{\"uri\":\"" uri "\",\"ca\":\"/ca\",\"server_key\":" name ",\"auth\":{" LOGIN "}}" TAIL
    AUTO_CONFIG struct config *c = NULL, *none = NULL;

    assert_string_equal(
        accept(WITH_SERVER_KEY(TRANSIT_URI, "\"coffer-s-1\""), &c)->vault->server_key,
        "coffer-s-1");
    assert_string_equal(accept(WITH_LOGIN(TRANSIT_URI, LOGIN), &none)->vault->server_key, "");
    expect(WITH_SERVER_KEY("hcvault+kv://v:1/kv/p", "\"s\""),
           "configuration: kms 'v': field 'server_key' is for hcvault:// alone: a key of its "
           "transit mount");
    static const char *const bad[] = {
        WITH_SERVER_KEY(TRANSIT_URI, "\"\""),    WITH_SERVER_KEY(TRANSIT_URI, "\"a/b\""),
        WITH_SERVER_KEY(TRANSIT_URI, "\"a b\""), WITH_SERVER_KEY(TRANSIT_URI, "\"s-{tenant}\""),
        WITH_SERVER_KEY(TRANSIT_URI, "\"..\""),
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        expect(bad[i], "configuration: kms 'v': field 'server_key' must be the name of a key");
    expect(WITH_SERVER_KEY("hcvault://v:1/transit/keys/coffer-t-{tenant}", "\"coffer-t-x\""),
           "configuration: kms 'v': field 'server_key' must not be like the tenants' keys "
           "'coffer-t-{tenant}'");
    expect(WITH_SERVER_KEY("hcvault://v:1/transit/keys/one", "\"one\""),
           "configuration: kms 'v': field 'server_key' must not be like the tenants' keys 'one'");
}

static struct kms_config *mutable_kms(const char *text, struct config **c)
{
    (void)accept(text, c);
    return &(*c)->kms[0];
}

static void test_set_role(void **state UNUSED)
{
    AUTO_CONFIG struct config *c = NULL, *other = NULL;
    struct kms_config *k = mutable_kms(WITH(TRANSIT_URI, ""), &c);
    struct error err = ERROR_INIT;

    assert_int_equal(kms_config_set_role(k, "coffer-controller", &err), 0);
    assert_string_equal(k->vault->auth.role, "coffer-controller");
    static const char *const bad[] = { "", "a/../b", "a b", "{tenant}" };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(kms_config_set_role(k, bad[i], &err), -1);
        assert_string_equal(k->vault->auth.role, "coffer-controller");
    }

    k = mutable_kms(HEAD "{\"uri\":\"" TRANSIT_URI "\",\"ca\":\"/ca\",\"auth\":"
                         "{\"method\":\"token-file\",\"token_path\":\"/t\"}}" TAIL,
                    &other);
    assert_int_equal(kms_config_set_role(k, "coffer-controller", &err), 0);
    assert_string_equal(k->vault->auth.role, "");
}

static void test_key_name(void **state UNUSED)
{
    static const char *const rows[][2] = {
        { "coffer-t-{tenant}", "coffer-t-team-a" },
        { "{tenant}-key", "team-a-key" },
        { "for-all", "for-all" },
    };
    struct kms_vault_config v = { .name = "" };
    char name[KMS_KEY_NAME_SIZE];

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        (void)snprintf(v.name, sizeof(v.name), "%s", rows[i][0]);
        kms_key_name(&v, "team-a", name);
        assert_string_equal(name, rows[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transit),
        cmocka_unit_test(test_kv),
        cmocka_unit_test(test_mount_of_several_segments),
        cmocka_unit_test(test_bad_uris),
        cmocka_unit_test(test_bad_fields),
        cmocka_unit_test(test_bad_auth),
        cmocka_unit_test(test_pod_login),
        cmocka_unit_test(test_server_key),
        cmocka_unit_test(test_set_role),
        cmocka_unit_test(test_key_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
