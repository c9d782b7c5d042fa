/* SPDX-License-Identifier: Apache-2.0 */
/* A device's proof. The vectors were computed by Python's hmac; the secret is what openssl wrapped.
 */
#include "common/base.h"
#include "device/proof.h"

#include "tests/unit/device/fixture.h"

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define BODY  "{\"session\":\"x\"}"

static void proves(void **state UNUSED)
{
    static const struct {
        struct device_request request;
        const char *proof;
    } rows[] = {
        { { "POST", "/v1/clouds/" ZEROS "/mount", BODY, strlen(BODY) },
          "token.1 af8243193ae01673235428c72b147dd5b7c5453d5def5c2d580e5a63ffce1a6a" },
        { { "DELETE", "/v1/clouds/" ZEROS, "", 0 },
          "token.1 80d0d0c58d290e03123647a75494926c99ee786241aa7fce2a40f54a6177b8b6" },
    };
    AUTO_DEVICE_KEY struct device_key *k = known_device();

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_STRBUF struct strbuf got = STRBUF_INIT(1024);
        const struct device_challenge c = { "token.1", OPENSSL_256 };

        assert_works(device_proof(k, &c, &rows[i].request, &got, &err));
        assert_string_equal(strbuf_text(&got), rows[i].proof);
    }
}

static void refuses(void **state UNUSED)
{
    static const char *const unfit[] = { "", "a b", "a\r\nX: y", "\x80" };
    const struct device_request r = { "POST", "/", "", 0 };
    AUTO_DEVICE_KEY struct device_key *k = known_device();
    AUTO_STRBUF struct strbuf got = STRBUF_INIT(1024);

    for (size_t i = 0; i < ARRAY_SIZE(unfit); i++) {
        const struct device_challenge c = { unfit[i], OPENSSL_256 };
        assert_fails(device_proof(k, &c, &r, &got, &err), ERR_INVALID,
                     "the server's challenge can't be sent back");
    }
    const struct device_challenge foreign = { "t", "AAAA" };
    assert_fails(device_proof(k, &foreign, &r, &got, &err), ERR_INVALID,
                 "the server's challenge: this private key doesn't open what was wrapped by "
                 "RSA-OAEP-256: it was wrapped for another key or use, or was changed");
    assert_int_equal(got.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proves),
        cmocka_unit_test(refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
