/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/kms.h"

#include "common/b64.h"
#include "common/cleanup.h"
#include "common/strbuf.h"
#include "keyd/frame.h"
#include "tests/support/kms_now.h"
#include "tests/support/skip.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define BLOB 60
#define SKIP 8 /* "file:v1:" */

static char directory[] = "/tmp/coffer-kms-XXXXXX";
static char path[64];

static void write_master(const char *name, size_t len, mode_t mode, char ret_path[64])
{
    unsigned char bytes[64];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)i;
    assert_true(snprintf(ret_path, 64, "%s/%s", directory, name) < 64);
    AUTO_CLOSE int fd = open(ret_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    assert_int_equal(fchmod(fd, mode), 0);
}

static int open_at(const char *file, bool allow, struct kms_set **ret, struct error *err)
{
    struct kms_config kms = { .name = "dev" };
    struct config config = { .kms = &kms, .n_kms = 1 };
    assert_true(snprintf(kms.uri, sizeof(kms.uri), "file://%s", file) > 0);
    const struct kms_env env = { .allow_insecure = allow };
    return kms_set_open(&config, &env, ret, err);
}

static int setup(void **state UNUSED)
{
    if (mkdtemp(directory) == NULL)
        return -1;
    write_master("master", 32, 0600, path);
    return 0;
}

static int teardown(void **state UNUSED)
{
    static const char *const names[] = { "master", "wide", "group", "short",
                                         "long",   "fifo", "link",  "suid" };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char name[64];
        assert_true(snprintf(name, sizeof(name), "%s/%s", directory, names[i]) < 64);
        (void)unlink(name);
    }
    return rmdir(directory);
}

static void expect_refused(const char *file, const char *sentence)
{
    struct kms_set *set = NULL;
    struct error err = ERROR_INIT;
    if (open_at(file, true, &set, &err) == 0)
        fail_msg("%s was accepted", file);
    if (strstr(err.msg, sentence) == NULL)
        fail_msg("'%s' instead of '%s'", err.msg, sentence);
    assert_null(set);
}

static void test_refused_files(void **state UNUSED)
{
    char other[64];
    write_master("wide", 32, 0644, other);
    expect_refused(other, "must have mode 0600, it has 0644");
    write_master("group", 32, 0640, other);
    expect_refused(other, "must have mode 0600, it has 0640");
    write_master("suid", 32, 04600, other);
    expect_refused(other, "must have mode 0600, it has 4600");
    write_master("short", 31, 0600, other);
    expect_refused(other, "must hold exactly 32 bytes, it holds 31");
    write_master("long", 33, 0600, other);
    expect_refused(other, "must hold exactly 32 bytes, it holds 33");
    expect_refused(directory, "must be a regular file");
    expect_refused("/nonexistent/master", "No such file or directory");
    expect_refused("relative", "must be file:// and an absolute path");
}

static void test_refused_kinds(void **state UNUSED)
{
    char name[64];
    assert_true(snprintf(name, sizeof(name), "%s/fifo", directory) < 64);
    assert_int_equal(mkfifo(name, 0600), 0);
    expect_refused(name, "must be a regular file");
    assert_true(snprintf(name, sizeof(name), "%s/link", directory) < 64);
    assert_int_equal(symlink(path, name), 0);
    expect_refused(name, "Too many levels of symbolic links");
}

static void test_foreign_owner(void **state UNUSED)
{
    if (geteuid() != 0)
        skip_because(SKIP_NO_ROOT);
    assert_int_equal(chown(path, 12345, 0), 0);
    expect_refused(path, "must belong to uid 0, it belongs to uid 12345");
    assert_int_equal(chown(path, 0, 0), 0);
}

static void test_needs_flag(void **state UNUSED)
{
    struct kms_set *set = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(open_at(path, false, &set, &err), -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
    assert_string_equal(err.msg,
                        "key service 'dev' is insecure (file://): it needs --insecure-file-kms");
}

static void test_unknown_prefix(void **state UNUSED)
{
    struct kms_config kms = { .name = "x", .uri = "awskms://h:1/transit/keys/k" };
    const struct kms_env env = { .allow_insecure = true };
    struct config config = { .kms = &kms, .n_kms = 1 };
    struct kms_set *set = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(kms_set_open(&config, &env, &set, &err), -1);
    assert_string_equal(err.msg,
                        "key service 'x': no driver for uri 'awskms://h:1/transit/keys/k'");
}

/* ---- mint and unwrap ---- */

static const unsigned char context_a[CONTEXT_SIZE] = { 1, 2, 3 };
static const unsigned char context_b[CONTEXT_SIZE] = { 1, 2, 4 };

struct fixture {
    struct kms_set *set;
    const struct kms *kms;
    struct kms_call call;
    struct keyd_wrapped key;
};

static void fixture_open(struct fixture *f)
{
    struct error err = ERROR_INIT;
    *f = (struct fixture){ .call = { .context = context_a } };
    assert_int_equal(open_at(path, true, &f->set, &err), 0);
    assert_int_equal(kms_set_find(f->set, "dev", &f->kms, &err), 0);
    assert_int_equal(kms_mint_now(f->kms, &f->call, &f->key, &err), 0);
}

static void expect_no_key(const struct fixture *f, const struct kms_call *call,
                          const struct keyd_wrapped *key)
{
    struct secret *plain = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(kms_unwrap_now(f->kms, call, key, &plain, &err), -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
    assert_string_equal(err.msg,
                        "the wrapped key was not made for this volume here, or it was changed");
    assert_null(plain);
}

static void test_same_key_twice(void **state UNUSED)
{
    struct fixture f;
    struct keyd_wrapped other;
    struct error err = ERROR_INIT;
    AUTO_SECRET struct secret *a = NULL, *b = NULL, *c = NULL;
    fixture_open(&f);
    assert_string_equal(f.key.kind, "file");
    assert_true(f.key.version == 1);
    assert_int_equal(strlen(f.key.ciphertext), SKIP + 80);
    assert_int_equal(kms_unwrap_now(f.kms, &f.call, &f.key, &a, &err), 0);
    assert_int_equal(kms_unwrap_now(f.kms, &f.call, &f.key, &b, &err), 0);
    assert_int_equal(secret_len(a), KEY_BYTES);
    assert_true(secret_equal(a, b));
    assert_int_equal(kms_mint_now(f.kms, &f.call, &other, &err), 0);
    assert_int_equal(kms_unwrap_now(f.kms, &f.call, &other, &c, &err), 0);
    assert_false(secret_equal(a, c));
    kms_set_free(f.set);
}

/* Wrapped by Python's cryptography.AESGCM: master 00..1f, nonce 20..2b, key 40..5f, context_a. */
static void test_known_ciphertext(void **state UNUSED)
{
    struct fixture f;
    struct error err = ERROR_INIT;
    AUTO_SECRET struct secret *plain = NULL;
    struct keyd_wrapped key = {
        .kind = "file",
        .version = 1,
        .ciphertext =
            "file:v1:"
            "ICEiIyQlJicoKSorknvkMyjdXElSNQiFjVW6toAYvs/T1TW5NK82SRXXAFYK0qjqrz38Snc04W7Qgbh0"
    };
    unsigned char want[KEY_BYTES];
    for (size_t i = 0; i < sizeof(want); i++)
        want[i] = (unsigned char)(0x40 + i);
    fixture_open(&f);
    assert_int_equal(kms_unwrap_now(f.kms, &f.call, &key, &plain, &err), 0);
    assert_memory_equal(secret_data(plain), want, sizeof(want));
    kms_set_free(f.set);
}

static void test_wrong_context(void **state UNUSED)
{
    struct fixture f;
    fixture_open(&f);
    struct kms_call call = { .context = context_b };
    expect_no_key(&f, &call, &f.key);
    kms_set_free(f.set);
}

/* Every bit of nonce, ciphertext and tag counts. */
static void test_tampered(void **state UNUSED)
{
    struct fixture f;
    unsigned char blob[BLOB];
    size_t len = 0;
    fixture_open(&f);
    assert_int_equal(b64_decode(blob, sizeof(blob), f.key.ciphertext + SKIP, 80, &len), 0);
    assert_int_equal(len, BLOB);
    for (size_t bit = 0; bit < BLOB * 8; bit++) {
        struct keyd_wrapped key = f.key;
        blob[bit / 8] = (unsigned char)(blob[bit / 8] ^ (1u << (bit % 8)));
        b64_encode(key.ciphertext + SKIP, blob, sizeof(blob));
        expect_no_key(&f, &f.call, &key);
        blob[bit / 8] = (unsigned char)(blob[bit / 8] ^ (1u << (bit % 8)));
    }
    kms_set_free(f.set);
}

static void test_malformed_text(void **state UNUSED)
{
    static const char *const texts[] = { "", "file:v1:", "file:v1:AAAA", "vault:v1:AAAA",
                                         "file:v2:AAAA" };
    struct fixture f;
    fixture_open(&f);
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct keyd_wrapped key = { .kind = "file", .version = 1 };
        assert_int_equal(str_copy(key.ciphertext, sizeof(key.ciphertext), texts[i]), 0);
        expect_no_key(&f, &f.call, &key);
    }
    struct keyd_wrapped key = f.key;
    memcpy(key.ciphertext, "vile", 4);
    expect_no_key(&f, &f.call, &key);
    key = f.key;
    memcpy(key.ciphertext + strlen(key.ciphertext), "=", 2);
    expect_no_key(&f, &f.call, &key);
    key = f.key;
    key.version = 2;
    expect_no_key(&f, &f.call, &key);
    kms_set_free(f.set);
}

static void test_wrong_kind_and_token(void **state UNUSED)
{
    struct fixture f;
    struct error err = ERROR_INIT;
    struct secret *plain = NULL;
    fixture_open(&f);
    struct keyd_wrapped key = f.key;
    assert_int_equal(str_copy(key.kind, sizeof(key.kind), "transit"), 0);
    assert_int_equal(kms_unwrap_now(f.kms, &f.call, &key, &plain, &err), -1);
    assert_string_equal(err.msg, "key service 'dev' opens keys of kind 'file', not 'transit'");
    f.call.token = (struct wire_view){ .data = "jwt", .len = 3 };
    assert_int_equal(kms_unwrap_now(f.kms, &f.call, &f.key, &plain, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_null(plain);
    kms_set_free(f.set);
}

static void test_unknown_name(void **state UNUSED)
{
    struct fixture f;
    struct error err = ERROR_INIT;
    const struct kms *kms = NULL;
    fixture_open(&f);
    assert_true(kms_set_insecure(f.set));
    assert_int_equal(kms_set_find(f.set, "other", &kms, &err), -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
    kms_set_free(f.set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_refused_kinds),
        cmocka_unit_test(test_foreign_owner),
        cmocka_unit_test(test_needs_flag),
        cmocka_unit_test(test_unknown_prefix),
        cmocka_unit_test(test_same_key_twice),
        cmocka_unit_test(test_known_ciphertext),
        cmocka_unit_test(test_wrong_context),
        cmocka_unit_test(test_tampered),
        cmocka_unit_test(test_malformed_text),
        cmocka_unit_test(test_wrong_kind_and_token),
        cmocka_unit_test(test_unknown_name),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
