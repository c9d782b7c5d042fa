/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/config.h"

#include "tests/support/nomem.h"
#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"
#include "tests/support/skip.h"

#include <unistd.h>

#define POOL "{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[\"lab\"]}"
#define KMS  "\"kms\":{\"lab\":{\"uri\":\"file:///k\"}}"

static const char full_text[] =
    "{\"pools\":{\"default\":{\"backend\":\"file\",\"path\":\"/var/lib/coffer/default\","
    "\"kms\":[\"lab\",\"other\"],\"allocate\":\"full\"},"
    "\"fast-2\":{\"backend\":\"file\",\"path\":\"/srv/fast\",\"kms\":[\"other\"]}},"
    "\"default_tenant\":\"lab-tenant\","
    "\"kms\":{\"lab\":{\"uri\":\"file:///etc/coffer/master.key\"},\"other\":{\"uri\":\"file:///"
    "k2\"}}}";

static void test_full(void **state UNUSED)
{
    AUTO_CONFIG struct config *c = NULL;
    const struct pool_config *p;

    assert_works(config_decode(full_text, sizeof(full_text) - 1, &c, &err));
    assert_int_equal(c->n_pools, 2);
    assert_int_equal(c->n_kms, 2);
    assert_string_equal(c->default_tenant, "lab-tenant");
    p = config_pool(c, "default");
    assert_non_null(p);
    assert_string_equal(p->name, "default");
    assert_string_equal(p->backend, "file");
    assert_string_equal(p->path, "/var/lib/coffer/default");
    assert_string_equal(p->allocate, "full");
    assert_int_equal(p->n_kms, 2);
    assert_string_equal(p->kms[0], "lab");
    assert_true(pool_allows_kms(p, "other"));
    assert_false(pool_allows_kms(p, "third"));
    p = config_pool(c, "fast-2");
    assert_string_equal(p->allocate, "full"); /* when left out */
    assert_false(pool_allows_kms(p, "lab"));
    assert_null(config_pool(c, "Default"));
    assert_string_equal(config_kms(c, "lab")->uri, "file:///etc/coffer/master.key");
    assert_null(config_kms(c, ""));
    config_free(NULL);
}

static void test_small(void **state UNUSED)
{
    static const char text[] = "{\"pools\":{\"p\":" POOL "}," KMS "}";
    AUTO_CONFIG struct config *c = NULL;

    assert_works(config_decode(text, sizeof(text) - 1, &c, &err));
    assert_string_equal(c->default_tenant, "");
}

static void expect(const char *text, const char *sentence)
{
    struct config *c = NULL;

    assert_fails(config_decode(text, strlen(text), &c, &err), ERR_INVALID, sentence);
    assert_null(c);
}

#define POOLS(p) "{\"pools\":" p "," KMS "}"
#define ONE(p)   POOLS("{\"p\":" p "}")
#define URI(u)   "{\"pools\":{\"p\":" POOL "},\"kms\":{\"lab\":{\"uri\":\"" u "\"}}}"

static void test_whole_refused(void **state UNUSED)
{
    expect("", "configuration is not valid JSON: it ends too early (line 1, column 0)");
    expect("[]", "configuration: it must be an object");
    expect("{}", "configuration: field 'pools' is missing");
    expect("{\"pools\":{\"p\":" POOL "}}", "configuration: field 'kms' is missing");
    expect("{\"pools\":{\"p\":" POOL "}," KMS ",\"x\":1}", "configuration: unknown field 'x'");
    expect("{\"pools\":{\"p\":" POOL "}," KMS ",\"default_tenant\":\"A\"}",
           "configuration: field 'default_tenant' must be 1 to 63 of a-z, 0-9 and '-'");
    expect("{\"pools\":{\"p\":" POOL "}," KMS ",\"default_tenant\":\"\"}",
           "configuration: field 'default_tenant' must be 1 to 63 of a-z, 0-9 and '-'");
    expect("{\"pools\":[]," KMS "}", "configuration: field 'pools' must be an object");
    expect(POOLS("{}"), "configuration: there must be 1 to 64 pools");
    expect(POOLS("{\"p\":" POOL ",\"p\":" POOL "}"),
           "configuration is not valid JSON: a key comes twice (line 1, column 62)");
}

static void test_pool_refused(void **state UNUSED)
{
    expect(POOLS("{\"P\":" POOL "}"),
           "configuration: the name of pool 'P' must be 1 to 24 of a-z, 0-9 and '-'");
    expect(ONE("1"), "configuration: pool 'p': it must be an object");
    expect(ONE("{\"path\":\"/p\",\"kms\":[\"lab\"]}"),
           "configuration: pool 'p': field 'backend' is missing");
    expect(ONE("{\"backend\":\"lvm\",\"path\":\"/p\",\"kms\":[\"lab\"]}"),
           "configuration: pool 'p': there is no backend 'lvm'");
    expect(ONE("{\"backend\":\"file\",\"kms\":[\"lab\"]}"),
           "configuration: pool 'p': field 'path' is missing");
    expect(ONE("{\"backend\":\"file\",\"path\":\"p\",\"kms\":[\"lab\"]}"),
           "configuration: pool 'p': path 'p' must be absolute, without empty, '.' or '..' parts");
    expect(ONE("{\"backend\":\"file\",\"path\":\"/a/../p\",\"kms\":[\"lab\"]}"),
           "configuration: pool 'p': path '/a/../p' must be absolute, without empty, '.' or '..' "
           "parts");
    expect(
        ONE("{\"backend\":\"file\",\"path\":\"/p/\",\"kms\":[\"lab\"]}"),
        "configuration: pool 'p': path '/p/' must be absolute, without empty, '.' or '..' parts");
    expect(ONE("{\"backend\":\"file\",\"path\":\"/\",\"kms\":[\"lab\"]}"),
           "configuration: pool 'p': path '/' must be absolute, without empty, '.' or '..' parts");
    expect(ONE("{\"backend\":\"file\",\"path\":\"/p\"}"),
           "configuration: pool 'p': field 'kms' is missing");
    expect(ONE("{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[]}"),
           "configuration: pool 'p': field 'kms' must name at least one key service");
    expect(ONE("{\"backend\":\"file\",\"path\":\"/p\",\"kms\":\"lab\"}"),
           "configuration: pool 'p': field 'kms' must be an array");
    expect(ONE("{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[1]}"),
           "configuration: pool 'p': field 'kms' must hold names of key services");
    expect(ONE("{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[\"vault\"]}"),
           "configuration: pool 'p': there is no kms 'vault'");
    expect(ONE("{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[\"lab\",\"lab\"]}"),
           "configuration: pool 'p': kms 'lab' comes twice");
    expect(ONE("{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[\"lab\"],\"allocate\":\"thin\"}"),
           "configuration: pool 'p': field 'allocate' must be full or sparse, not 'thin'");
    expect(POOLS("{\"p\":" POOL ",\"q\":" POOL "}"),
           "configuration: pool 'q': its path is also the one of pool 'p'");
}

static void test_escrow(void **state UNUSED)
{
    static const char good[] =
        ONE("{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[\"lab\"],\"escrow\":\"/e/k.pem\"}");
    AUTO_CONFIG struct config *c = NULL;

    assert_works(config_decode(good, strlen(good), &c, &err));
    assert_string_equal(c->pools[0].escrow, "/e/k.pem");
    expect(ONE("{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[\"lab\"],\"escrow\":\"k.pem\"}"),
           "configuration: pool 'p': field 'escrow' must be an absolute path of a public key, not "
           "'k.pem'");
    expect(ONE("{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[\"lab\"],\"escrow\":\"\"}"),
           "configuration: pool 'p': field 'escrow' must be an absolute path of a public key, not "
           "''");
    expect(ONE("{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[\"lab\"],\"escrow\":true}"),
           "configuration: pool 'p': field 'escrow' must be a text");
}

#define SPARSE(more) \
    ONE("{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[\"lab\"],\"allocate\":\"sparse\"" more "}")

static void test_sparse(void **state UNUSED)
{
    static const struct {
        const char *text;
        double ratio;
    } good[] = {
        { SPARSE(",\"overcommit\":2.5"), 2.5 },
        { SPARSE(",\"overcommit\":1"), 1 },
        { SPARSE(",\"overcommit\":1e3"), 1000 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        AUTO_CONFIG struct config *c = NULL;

        assert_works(config_decode(good[i].text, strlen(good[i].text), &c, &err));
        assert_true(pool_is_sparse(&c->pools[0]));
        assert_true(c->pools[0].overcommit == good[i].ratio);
    }
}

static void test_sparse_refused(void **state UNUSED)
{
    static const char *const bad[] = { "0.99", "0", "-2", "1000.5", "1e9" };
    static const char full[] = "configuration: pool 'p': field 'overcommit' is for pools with "
                               "'allocate' sparse; this one is full";

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char text[300];

        (void)snprintf(text, sizeof(text), SPARSE(",\"overcommit\":%s"), bad[i]);
        expect(text, "configuration: pool 'p': field 'overcommit' must be a number from 1 to 1000");
    }
    expect(SPARSE(""),
           "configuration: pool 'p': field 'overcommit' is missing, which a sparse pool "
           "needs (2.0: promise twice the pool's size)");
    expect(SPARSE(",\"overcommit\":\"2\""),
           "configuration: pool 'p': field 'overcommit' must be a number");
    expect(SPARSE(",\"overcommit\":true"),
           "configuration: pool 'p': field 'overcommit' must be a number");
    expect(ONE("{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[\"lab\"],\"overcommit\":2}"), full);
    expect(ONE("{\"backend\":\"file\",\"path\":\"/p\",\"kms\":[\"lab\"],\"overcommit\":1.0,"
               "\"allocate\":\"full\"}"),
           full);
}

static void test_kms_refused(void **state UNUSED)
{
    expect("{\"pools\":{\"p\":" POOL "},\"kms\":{\"L\":{\"uri\":\"file:///k\"}}}",
           "configuration: the name of kms 'L' must be 1 to 63 of a-z, 0-9 and '-'");
    expect("{\"pools\":{\"p\":" POOL "},\"kms\":{\"lab\":{}}}",
           "configuration: kms 'lab': field 'uri' is missing");
    expect("{\"pools\":{\"p\":" POOL "},\"kms\":{\"lab\":{\"uri\":\"file:///k\",\"ca\":\"/c\"}}}",
           "configuration: kms 'lab': unknown field 'ca'");
    static const char *const unknown[] = { "vault",     "",        "/etc/key",
                                           "FILE:///k", "file:/k", "aws-kms://x" };

    for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
        char text[300], sentence[300];

        (void)snprintf(text, sizeof(text), URI("%s"), unknown[i]);
        (void)snprintf(sentence, sizeof(sentence),
                       "configuration: kms 'lab': uri '%s' has no known prefix "
                       "(file://, hcvault://, hcvault+kv://)",
                       unknown[i]);
        expect(text, sentence);
    }
    static const char *const bad_paths[] = { "",        "k",      "host/k", "/",     "//k",
                                             "/a/../k", "/k?x=1", "/k#f",   "/a%2fb" };

    for (size_t i = 0; i < ARRAY_SIZE(bad_paths); i++) {
        char text[300], sentence[300];

        (void)snprintf(text, sizeof(text), URI("file://%s"), bad_paths[i]);
        (void)snprintf(
            sentence, sizeof(sentence),
            "configuration: kms 'lab': uri 'file://%s' must be file:// and an absolute path",
            bad_paths[i]);
        expect(text, sentence);
    }
}

static void test_load(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_CONFIG struct config *c = NULL;
    char sentence[700];

    tmpdir_write(&t, "real", full_text, sizeof(full_text) - 1);
    assert_int_equal(symlinkat("real", t.fd, "config.json"), 0); /* a ConfigMap's file is one */
    assert_works(config_load(tmpdir_path(&t, "config.json"), &c, &err));
    assert_int_equal(c->n_pools, 2);

    struct config *none = NULL;

    (void)snprintf(sentence, sizeof(sentence),
                   "open configuration '%s/gone': No such file or directory", t.path);
    assert_fails(config_load(tmpdir_path(&t, "gone"), &none, &err), ERR_NOT_FOUND, sentence);
    tmpdir_write(&t, "bad", "{}", 2);
    (void)snprintf(sentence, sizeof(sentence), "'%s/bad': configuration: field 'pools' is missing",
                   t.path);
    assert_fails(config_load(tmpdir_path(&t, "bad"), &none, &err), ERR_INVALID, sentence);
    assert_null(none);
}

static void test_no_memory(void **state UNUSED)
{
    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    for (unsigned int n = 1;; n++) {
        AUTO_CONFIG struct config *c = NULL;
        int rc;

        nomem_arm(n);
        rc = config_decode(full_text, sizeof(full_text) - 1, &c, NULL);
        bool happened = nomem_disarm();

        assert_int_equal(rc, happened ? -1 : 0);
        assert_int_equal(c == NULL, happened);
        if (!happened)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),           cmocka_unit_test(test_small),
        cmocka_unit_test(test_whole_refused),  cmocka_unit_test(test_pool_refused),
        cmocka_unit_test(test_escrow),         cmocka_unit_test(test_sparse),
        cmocka_unit_test(test_sparse_refused), cmocka_unit_test(test_kms_refused),
        cmocka_unit_test(test_load),           cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
