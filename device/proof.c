/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "device/proof.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#define MESSAGE_MAX KIB(4)
#define DIGEST_LEN  32u

/* Visible ASCII without spaces: it goes into a header, a space behind it. */
static bool challenge_valid(const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p <= ' ' || *p > '~')
            return false;
    }
    return text[0] != '\0';
}

static int message(const struct device_request *r, struct strbuf *ret, struct error *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    unsigned int len = 0;

    if (!EVP_Digest(r->body, r->body_len, digest, &len, EVP_sha256(), NULL)) {
        ERR_clear_error();
        return error_set(err, ERR_INTERNAL, "SHA-256 fails");
    }
    hex_encode(hex, digest, len);
    strbuf_addf(ret, "coffer/v1 proof\n%s\n%s\n%s\n", r->method, r->path, hex);
    return strbuf_check(ret, "a request's path", err);
}

int device_proof(const struct device_key *k, const struct device_challenge *c,
                 const struct device_request *r, struct strbuf *ret, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(MESSAGE_MAX);
    AUTO_SECRET struct secret *key = NULL;
    unsigned char mac[EVP_MAX_MD_SIZE];
    char hex[2 * DIGEST_LEN + 1];
    unsigned int len = 0;

    if (!challenge_valid(c->challenge))
        return error_set(err, ERR_INVALID, "the server's challenge can't be sent back");
    if (device_unwrap(k, DEVICE_ALGORITHM, c->secret, &key, err) < 0)
        return error_prefix(err, "the server's challenge");
    if (message(r, &text, err) < 0)
        return -1;
    if (HMAC(EVP_sha256(), secret_data(key), (int)secret_len(key),
             (const unsigned char *)strbuf_text(&text), text.len, mac, &len) == NULL ||
        len != DIGEST_LEN) {
        ERR_clear_error();
        return error_set(err, ERR_INTERNAL, "HMAC-SHA256 fails");
    }
    hex_encode(hex, mac, len);
    strbuf_addf(ret, "%s %s", c->challenge, hex);
    return strbuf_check(ret, "the proof", err);
}
