/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The expected values were computed apart from this code, by Python's hmac (RFC 5869 with one
 * block): prk = hmac(uuid.UUID(u).bytes, bytes(range(32))); okm = hmac(prk, info + b'\x01') mac =
 * hmac(okm of "coffer/v1 record", json.dumps(fields, sort_keys=True, separators=(',', ':'),
 *              ensure_ascii=False)), fields = the record without gen, key, size, state and mac
 */
#include "common/base.h"
#include "crypt/keys.h"

#include "common/deadline.h"
#include "common/strbuf.h"
#include "keyd/frame.h"

#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define UUID       "0a1b2c3d-4e5f-4607-8899-aabbccddeeff"
#define PASSPHRASE "eadcb600f7e298e2971e908cb54bb8e1e9c75370fa1775cbaf239f882904e871"
#define MAC        "91021fd1cdd91cb54ddf5d6b10ab6d64b2181d5bd1e13fcc21423ab5b5cf4b84"

static struct secret *storage_key(void)
{
    struct secret *s = secret_new(32, NULL);

    assert_non_null(s);
    for (unsigned char i = 0; i < 32; i++)
        secret_bytes(s)[i] = i;
    secret_set_len(s, 32);
    return s;
}

static struct record sample(void)
{
    struct record r = {
        .gen = 3,
        .id = "fast.01234567.0123456789abcdef0123456789abcdef",
        .name = "pvc-\xc3\xa9/1",
        .uuid = UUID,
        .tenant = "lab",
        .size = MIB(64),
        .state = RECORD_READY,
        .fs = "ext4",
        .kms = "dev",
        .key_source = "vault",
        .key = { .kind = "file", .ciphertext = "x", .version = 1 },
        .created = "2026-11-22T01:02:03Z",
    };

    for (size_t i = 0; i < 64; i++)
        r.digest[i] = "ab"[i % 2];
    return r;
}

static void derives_the_passphrase(void **state)
{
    AUTO_SECRET struct secret *sk = storage_key();
    AUTO_SECRET struct secret *pass = NULL;

    assert_int_equal(key_passphrase(sk, UUID, &pass, NULL), 0);
    assert_int_equal(secret_len(pass), 64);
    assert_memory_equal(secret_data(pass), PASSPHRASE, 64);
}

static void other_inputs_other_passphrase(void **state)
{
    AUTO_SECRET struct secret *sk = storage_key();
    AUTO_SECRET struct secret *a = NULL;
    AUTO_SECRET struct secret *b = NULL;

    assert_int_equal(key_passphrase(sk, "0a1b2c3d-4e5f-4607-8899-aabbccddeefe", &a, NULL), 0);
    assert_memory_not_equal(secret_data(a), PASSPHRASE, 64);
    secret_bytes(sk)[31] ^= 1;
    assert_int_equal(key_passphrase(sk, UUID, &b, NULL), 0);
    assert_memory_not_equal(secret_data(b), PASSPHRASE, 64);
}

static void refuses_what_is_no_key(void **state)
{
    AUTO_SECRET struct secret *sk = storage_key();
    AUTO_SECRET struct secret *out = NULL;
    struct error err = ERROR_INIT;

    assert_int_equal(key_passphrase(sk, "0A1B2C3D-4e5f-4607-8899-aabbccddeeff", &out, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    secret_set_len(sk, 31);
    assert_int_equal(key_passphrase(sk, UUID, &out, &err), -1);
    assert_null(out);
}

static void computes_the_record_mac(void **state)
{
    AUTO_SECRET struct secret *sk = storage_key();
    struct record r = sample();
    char mac[65];

    assert_int_equal(key_record_mac(sk, &r, mac, NULL), 0);
    assert_string_equal(mac, MAC);
    assert_int_equal(str_copy(r.mac, sizeof(r.mac), MAC), 0);
    assert_int_equal(key_verify_record(sk, &r, NULL), 0);
    r.gen = 9; /* not under the MAC: they change in a volume's life */
    r.size = MIB(128);
    r.state = RECORD_FORMATTING;
    assert_int_equal(key_verify_record(sk, &r, NULL), 0);
}

static void expect_changed(const struct secret *sk, const struct record *r)
{
    struct error err = ERROR_INIT;

    assert_int_equal(key_verify_record(sk, r, &err), -1);
    assert_int_equal(err.code, ERR_DATA_LOSS);
    assert_null(strstr(err.msg, MAC));
}

static void notices_every_change(void **state)
{
    AUTO_SECRET struct secret *sk = storage_key();
    struct record good = sample();
    const size_t fields[] = {
        offsetof(struct record, id),     offsetof(struct record, name),
        offsetof(struct record, tenant), offsetof(struct record, fs),
        offsetof(struct record, kms),    offsetof(struct record, key_source),
        offsetof(struct record, digest), offsetof(struct record, created),
        offsetof(struct record, mac),
    };

    assert_int_equal(str_copy(good.mac, sizeof(good.mac), MAC), 0);
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        struct record r = good;

        ((char *)&r)[fields[i]] = 'c';
        expect_changed(sk, &r);
    }
    good.discard = true;
    expect_changed(sk, &good);
    good.discard = false;
    good.mac[0] = '\0';
    expect_changed(sk, &good);
    assert_int_equal(str_copy(good.mac, sizeof(good.mac), MAC), 0);
    secret_bytes(sk)[0] ^= 1;
    expect_changed(sk, &good);
}

/* --- the frame --- */

static struct key_frame frame(void)
{
    struct key_frame f = { .magic = htole32(KEY_FRAME_MAGIC), .length = htole32(KEY_BYTES) };

    memset(f.key, 'k', sizeof(f.key));
    return f;
}

static int read_from(const void *data, size_t len, bool close_writer, struct secret **ret,
                     struct error *err)
{
    int p[2], r;

    assert_int_equal(pipe(p), 0);
    assert_int_equal(write(p[1], data, len), (ssize_t)len);
    if (close_writer)
        assert_int_equal(close(p[1]), 0);
    r = key_read_frame(p[0], deadline_in(50), ret, err);
    (void)close(p[0]);
    if (!close_writer)
        (void)close(p[1]);
    return r;
}

static void reads_a_frame(void **state)
{
    const struct key_frame f = frame();

    for (int closed = 0; closed < 2; closed++) { /* never by end of file */
        AUTO_SECRET struct secret *key = NULL;

        assert_int_equal(read_from(&f, sizeof(f), closed, &key, NULL), 0);
        assert_int_equal(secret_len(key), 32);
        assert_memory_equal(secret_data(key), f.key, 32);
    }
}

static void refuses_bad_frames(void **state)
{
    struct key_frame magic = frame(), status = frame(), length = frame(), reserved = frame(),
                     good = frame();
    const struct {
        const void *data;
        size_t len;
        bool closed;
        enum error_code code;
    } rows[] = {
        { &magic, sizeof(magic), true, ERR_INVALID },
        { &status, sizeof(status), true, ERR_UNAVAILABLE },
        { &length, sizeof(length), true, ERR_INVALID },
        { &reserved, sizeof(reserved), true, ERR_INVALID },
        { &good, 0, true, ERR_UNAVAILABLE },
        { &good, sizeof(good) - 1, true, ERR_UNAVAILABLE },
        { &good, 0, false, ERR_DEADLINE },
        { &good, sizeof(good) - 1, false, ERR_DEADLINE },
    };

    magic.magic ^= 1;
    status.status = htole32(5);
    length.length = htole32(64);
    reserved.reserved = 1;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_SECRET struct secret *key = NULL;
        struct error err = ERROR_INIT;

        assert_int_equal(read_from(rows[i].data, rows[i].len, rows[i].closed, &key, &err), -1);
        assert_int_equal(err.code, rows[i].code);
        assert_null(key);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(derives_the_passphrase), cmocka_unit_test(other_inputs_other_passphrase),
        cmocka_unit_test(refuses_what_is_no_key), cmocka_unit_test(computes_the_record_mac),
        cmocka_unit_test(notices_every_change),   cmocka_unit_test(reads_a_frame),
        cmocka_unit_test(refuses_bad_frames),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
