/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header Coffer-Proof: nothing that a fuzzer makes up is a proof, and a challenge that was
 * given proves nothing by itself, however it is changed. Who has the challenge's secret proves one
 * request by it, once, and no other one.
 *
 * covers: scheduler/proof.c:read_header scheduler/proof.c:read_token scheduler/proof.c:proofs_check
 * scheduler/proof.c:use_locked scheduler/proof.c:proof_compute
 */
#include "tests/fuzz/target.h"

#include "common/b64.h"
#include "scheduler/proof.h"

#define NAME     "d028d8d642e8bc7abd736f79c53ff0b06a7b57412796d7213b17a32c1974c1ce"
#define TEXT_MAX 1024u
#define USED_MAX 1000u

static struct proofs *proofs;
static char given[CHALLENGE_LEN + 1];

static void start(void)
{
    struct secret *secret = NULL;

    must(proofs_new(&proofs, NULL) == 0);
    must(proofs_challenge(proofs, NAME, given, &secret, NULL) == 0);
    secret_free(secret);
}

/* Each proof that is taken is kept for a minute: the table must not fill up. */
static void start_again(void)
{
    if (proofs_used(proofs) < USED_MAX)
        return;
    proofs_free(proofs);
    start();
}

static void must_be_refused(const char *header)
{
    const struct proof_request q = { .method = "POST", .path = "/x", .body = "{}", .body_len = 2 };
    char name[DEVICE_NAME_LEN + 1];
    struct error err = ERROR_INIT;

    mark(name, sizeof(name));
    must(proofs_check(proofs, header, &q, name, &err) < 0 && err.code == ERR_UNAUTHENTICATED);
    must_be_sentence(&err);
    must_be_marked(name, sizeof(name));
}

/* "METHOD PATH", a line end and the body; a byte more of each is another request. */
static void prove(const char *text, size_t len)
{
    const char *end = memchr(text, '\n', len), *space = memchr(text, ' ', len);
    char method[16], path[TEXT_MAX + 1], challenge[CHALLENGE_LEN + 1];
    char header[CHALLENGE_LEN + 2 * PROOF_SECRET_LEN + 2], name[DEVICE_NAME_LEN + 1];
    AUTO_SECRET struct secret *secret = NULL;
    unsigned char proof[PROOF_SECRET_LEN];
    struct error err = ERROR_INIT;
    const size_t used = proofs_used(proofs);

    if (end == NULL || space == NULL || space > end)
        return;
    (void)snprintf(method, sizeof(method), "%.*s", (int)(space - text), text);
    (void)snprintf(path, sizeof(path), "%.*s", (int)(end - space - 1), space + 1);
    const struct proof_request q = { method, path, end + 1, (size_t)(text + len - end - 1) };
    struct proof_request other = q;
    must(proofs_challenge(proofs, NAME, challenge, &secret, NULL) == 0);
    if (proof_compute(secret, &q, proof, &err) < 0) {
        must_be_sentence(&err);
        return;
    }
    (void)snprintf(header, sizeof(header), "%s ", challenge);
    hex_encode(header + CHALLENGE_LEN + 1, proof, sizeof(proof));
    other.body_len = q.body_len > 0 ? q.body_len - 1 : 0;
    other.method = q.body_len > 0 ? q.method : "LONGER-THAN-METHOD";
    must(proofs_check(proofs, header, &other, name, &err) < 0 && proofs_used(proofs) == used);
    must(proofs_check(proofs, header, &q, name, &err) == 0 && strcmp(name, NAME) == 0);
    must(proofs_used(proofs) > 0); /* taking one drops those that are over */
    must(proofs_check(proofs, header, &q, name, &err) < 0 && err.code == ERR_UNAUTHENTICATED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[TEXT_MAX + 1], known[CHALLENGE_LEN + TEXT_MAX + 1];

    if (proofs == NULL)
        start();
    if (size > TEXT_MAX || memchr(data, '\0', size) != NULL)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    must_be_refused(text);
    (void)snprintf(known, sizeof(known), "%s%s", given, text);
    must_be_refused(known);
    prove(text, size);
    start_again();
    return 0;
}
