/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header Coffer-Proof: nothing that a fuzzer makes up is a proof, and a challenge that was
 * given proves nothing by itself, however it is changed.
 *
 * covers: scheduler/proof.c:read_header scheduler/proof.c:read_token scheduler/proof.c:proofs_check
 */
#include "tests/fuzz/target.h"

#include "scheduler/proof.h"

#define NAME     "d028d8d642e8bc7abd736f79c53ff0b06a7b57412796d7213b17a32c1974c1ce"
#define TEXT_MAX 1024u

static struct proofs *proofs;
static char given[CHALLENGE_LEN + 1];

static void start(void)
{
    struct secret *secret = NULL;

    must(proofs_new(&proofs, NULL) == 0);
    must(proofs_challenge(proofs, NAME, given, &secret, NULL) == 0);
    secret_free(secret);
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
    must(proofs_used(proofs) == 0);
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
    return 0;
}
