/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/proof.h"

#include "common/b64.h"
#include "tests/support/played_clock.h"
#include "tests/support/unit.h"

#include <dlfcn.h>
#include <pthread.h>

#define NAME   "d028d8d642e8bc7abd736f79c53ff0b06a7b57412796d7213b17a32c1974c1ce"
#define SHAPE  "the header Coffer-Proof must be a challenge, a space and 64 lower-case hex digits"
#define OTHER  "the challenge isn't one of this scheduler's, or it was started again"
#define WRONG  "the proof isn't of this request by the device's key"
#define HEADER (CHALLENGE_LEN + 1 + 2 * PROOF_SECRET_LEN + 1)

static const struct proof_request request = {
    .method = "POST", .path = "/v1/clouds/" NAME "/lock", .body = "{}", .body_len = 2
};

static struct proofs *fresh(void)
{
    struct proofs *p = NULL;

    assert_works(proofs_new(&p, &err));
    return p;
}

static void make(struct proofs *p, const struct proof_request *q, char header[HEADER])
{
    AUTO_SECRET struct secret *secret = NULL;
    unsigned char mac[PROOF_SECRET_LEN];

    assert_works(proofs_challenge(p, NAME, header, &secret, &err));
    assert_works(proof_compute(secret, q, mac, &err));
    header[CHALLENGE_LEN] = ' ';
    hex_encode(header + CHALLENGE_LEN + 1, mac, sizeof(mac));
}

static void test_once(void **state UNUSED)
{
    AUTO_PROOFS struct proofs *p = fresh();
    char header[HEADER], name[DEVICE_NAME_LEN + 1];

    make(p, &request, header);
    assert_works(proofs_check(p, header, &request, name, &err));
    assert_string_equal(name, NAME);
    assert_int_equal(proofs_used(p), 1);
    assert_fails(proofs_check(p, header, &request, name, &err), ERR_UNAUTHENTICATED,
                 "the challenge was used already");
}

/* From Python: hmac.new(bytes(range(32)), text, 'sha256') as proof.h says. */
static void test_vector(void **state UNUSED)
{
    const struct proof_request q = { .method = "DELETE", .path = "/x", .body = NULL };
    AUTO_SECRET struct secret *secret = secret_new(PROOF_SECRET_LEN, NULL);
    unsigned char mac[PROOF_SECRET_LEN];
    char hex[2 * PROOF_SECRET_LEN + 1];

    assert_non_null(secret);
    for (unsigned int i = 0; i < PROOF_SECRET_LEN; i++)
        secret_bytes(secret)[i] = (unsigned char)i;
    secret_set_len(secret, PROOF_SECRET_LEN);
    assert_works(proof_compute(secret, &q, mac, &err));
    hex_encode(hex, mac, sizeof(mac));
    assert_string_equal(hex, "39e688740869bfcf17a0cfdc5603d4a1820d79e7361dbc7fd5dc22fef3c2b21d");
}

static void test_of_another_request(void **state UNUSED)
{
    AUTO_PROOFS struct proofs *p = fresh();
    struct proof_request others[] = { request, request, request };
    char header[HEADER], name[DEVICE_NAME_LEN + 1];

    others[0].method = "DELETE";
    others[1].path = "/v1/clouds/" NAME "/mount";
    others[2].body_len = 1;
    make(p, &request, header);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        assert_fails(proofs_check(p, header, &others[i], name, &err), ERR_UNAUTHENTICATED, WRONG);
    assert_works(proofs_check(p, header, &request, name, &err)); /* it wasn't used up */
}

static void test_malformed(void **state UNUSED)
{
    AUTO_PROOFS struct proofs *p = fresh(), *elsewhere = fresh();
    char header[HEADER], name[DEVICE_NAME_LEN + 1];

    assert_fails(proofs_check(p, NULL, &request, name, &err), ERR_UNAUTHENTICATED,
                 "the header Coffer-Proof is missing");
    make(elsewhere, &request, header);
    assert_fails(proofs_check(p, header, &request, name, &err), ERR_UNAUTHENTICATED, OTHER);
    header[CHALLENGE_LEN] = '-';
    assert_fails(proofs_check(p, header, &request, name, &err), ERR_UNAUTHENTICATED, SHAPE);
    header[CHALLENGE_LEN] = ' ';
    header[HEADER - 2] = 'G';
    assert_fails(proofs_check(p, header, &request, name, &err), ERR_UNAUTHENTICATED, SHAPE);
    assert_fails(proofs_check(p, "", &request, name, &err), ERR_UNAUTHENTICATED, SHAPE);
}

/* Every byte of the challenge counts. */
static void test_changed(void **state UNUSED)
{
    AUTO_PROOFS struct proofs *p = fresh();
    char header[HEADER], name[DEVICE_NAME_LEN + 1];

    make(p, &request, header);
    for (size_t i = 0; i + 2 < CHALLENGE_LEN; i++) {
        struct error err = ERROR_INIT;
        char was = header[i];

        header[i] = was == 'A' ? 'B' : 'A';
        assert_int_equal(proofs_check(p, header, &request, name, &err), -1);
        assert_int_equal(err.code, ERR_UNAUTHENTICATED);
        header[i] = was;
    }
    assert_works(proofs_check(p, header, &request, name, &err));
}

static void test_a_name_that_is_none(void **state UNUSED)
{
    AUTO_PROOFS struct proofs *p = fresh();
    struct secret *secret = NULL;
    char token[CHALLENGE_LEN + 1];

    assert_fails(proofs_challenge(p, "x", token, &secret, &err), ERR_INVALID,
                 "'x' is no device's name");
    assert_null(secret);
}

static pthread_mutex_t *last, *slow; /* a thread waits for it for a millisecond */

int pthread_mutex_lock(pthread_mutex_t *m)
{
    int (*real)(pthread_mutex_t * m);
    void *found = dlsym(RTLD_NEXT, "pthread_mutex_lock");

    memcpy(&real, &found, sizeof(real));
    last = m;
    now += m == slow;
    return real(m);
}

/* A used nonce is forgotten when its time is over; in the moment between the look at the time and
 * that, the proof isn't good again. */
static void test_over(void **state UNUSED)
{
    AUTO_PROOFS struct proofs *p = fresh();
    char header[HEADER], name[DEVICE_NAME_LEN + 1];
    const uint64_t over = now + CHALLENGE_SECONDS * 1000;

    make(p, &request, header);
    assert_works(proofs_check(p, header, &request, name, &err));
    assert_int_equal(proofs_used(p), 1);
    slow = last;
    for (size_t i = 0; i < 1024; i++) { /* each sweeps some of the nonces */
        now = over - 1;
        assert_fails(proofs_check(p, header, &request, name, &err), ERR_UNAUTHENTICATED,
                     "the challenge is over");
    }
    slow = NULL;
    now = over;
    assert_fails(proofs_check(p, header, &request, name, &err), ERR_UNAUTHENTICATED,
                 "the challenge is over");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once),
        cmocka_unit_test(test_over),
        cmocka_unit_test(test_vector),
        cmocka_unit_test(test_of_another_request),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_changed),
        cmocka_unit_test(test_a_name_that_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
