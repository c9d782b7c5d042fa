/* SPDX-License-Identifier: Apache-2.0 */
/* That a pool with an escrow key formats nothing without; what is wrapped then is in the story
 * rescue, with a real coffer-keyd. */
#include "common/base.h"
#include "node/escrow.h"

#include "common/deadline.h"

#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#define ID      "fast.01234567.0123456789abcdef0123456789abcdef"
#define WITHOUT "pool 'fast' has an escrow key, and volume '" ID "' isn't formatted without"
#define KEY                                                          \
    "-----BEGIN PUBLIC KEY-----\n"                                   \
    "MCowBQYDK2VuAyEAbSBz7FSl9Si6MrYKXM+HTf8wWbdMSBMf9eLIc0z5Ni4=\n" \
    "-----END PUBLIC KEY-----\n"

struct stage {
    struct tmpdir dir;
    struct pool_config config;
    struct pool pool;
    struct node node;
    struct node_op op;
    char socket[600];
    char got[RECIPIENTS_TEXT_MAX + 1];
};

static int make(void **state)
{
    struct stage *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    s->dir = tmpdir_make();
    (void)snprintf(s->config.name, sizeof(s->config.name), "fast");
    (void)snprintf(s->socket, sizeof(s->socket), "%s/keyd.sock", s->dir.path);
    s->pool.config = &s->config;
    s->node.keyd_socket = s->socket;
    s->op = (struct node_op){ .node = &s->node,
                              .pool = &s->pool,
                              .id_text = ID,
                              .deadline = deadline_in(300000),
                              .record = { .id = ID,
                                          .uuid = "0a1b2c3d-4e5f-4607-8899-aabbccddeeff",
                                          .tenant = "lab",
                                          .kms = "dev",
                                          .key_source = "vault",
                                          .key = { .kind = "file", .ciphertext = "x" } } };
    (void)snprintf(s->got, sizeof(s->got), "old");
    *state = s;
    return 0;
}

static int drop(void **state)
{
    struct stage *s = *state;

    tmpdir_remove(&s->dir);
    free(s);
    return 0;
}

static void give_key(struct stage *s, const char *text)
{
    tmpdir_write(&s->dir, "escrow.pem", text, strlen(text));
    (void)snprintf(s->config.escrow, sizeof(s->config.escrow), "%s/escrow.pem", s->dir.path);
}

static void refused(struct stage *s, enum error_code code, const char *why)
{
    char sentence[1600];

    (void)snprintf(sentence, sizeof(sentence), WITHOUT "%s", why);
    assert_fails(escrow_recipients(&s->op, s->got, &err), code, sentence);
    assert_string_equal(s->got, "old");
}

static void test_no_escrow(void **state)
{
    struct stage *s = *state;

    assert_works(escrow_recipients(&s->op, s->got, &err));
    assert_string_equal(s->got, "");
    (void)snprintf(s->op.record.recipients, sizeof(s->op.record.recipients), "[1]");
    assert_works(escrow_recipients(&s->op, s->got, &err));
    assert_string_equal(s->got, "[1]");
}

static void test_bad_key(void **state)
{
    struct stage *s = *state;
    char why[1400];

    (void)snprintf(s->config.escrow, sizeof(s->config.escrow), "%s/escrow.pem", s->dir.path);
    (void)snprintf(why, sizeof(why),
                   ": the escrow key '%.500s': open '%.500s': No such file or directory",
                   s->config.escrow, s->config.escrow);
    refused(s, ERR_PRECONDITION, why);
    give_key(s, "nonsense");
    (void)snprintf(why, sizeof(why),
                   ": the escrow key '%.500s': it must be one public key in PEM (-----BEGIN PUBLIC "
                   "KEY-----), with nothing beside it",
                   s->config.escrow);
    refused(s, ERR_PRECONDITION, why);
}

static void test_no_keyd(void **state)
{
    struct stage *s = *state;
    char why[1400];

    give_key(s, KEY);
    (void)snprintf(why, sizeof(why), ": connect to coffer-keyd at '%s': No such file or directory",
                   s->socket);
    refused(s, ERR_UNAVAILABLE, why);
}

static void test_keys_that_this_login_does_not_open(void **state)
{
    struct stage *s = *state;

    give_key(s, KEY);
    s->op.record.pod = true;
    refused(s, ERR_PRECONDITION,
            ": pods' own tokens open volume '" ID "' (tenantIdentity: pod), not this node's login");
    s->op.record.pod = false;
    (void)snprintf(s->op.record.key_source, sizeof(s->op.record.key_source), "client");
    refused(s, ERR_PRECONDITION,
            ": the key of volume '" ID "' is made by its user's device (keySource: client)");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make, drop)
    const struct CMUnitTest tests[] = {
        TEST(test_no_escrow),
        TEST(test_bad_key),
        TEST(test_no_keyd),
        TEST(test_keys_that_this_login_does_not_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
