/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool's escrow key as a file has it: what is taken is a recipient that can stand in a record.
 *
 * covers: volume/escrow.c:escrow_decode
 */
#include "tests/fuzz/target.h"

#include "volume/escrow.h"

static void must_be_recipient(struct recipient *r)
{
    static struct recipient_list list;
    char text[RECIPIENTS_TEXT_MAX + 1];

    must(strcmp(r->label, ESCROW_LABEL) == 0 && recipient_algorithm_known(r->algorithm));
    must(r->key_len > 0 && r->key_len <= sizeof(r->key));
    list.n = 0;
    memset(r->wrapped, 1, r->wrapped_len = 80);
    must(recipients_add(&list, r, NULL) == 0);
    must(recipients_encode(&list, text, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    struct recipient r;

    mark(&r, sizeof(r));
    if (escrow_decode((const char *)data, size, &r, &err) == 0) {
        must_be_recipient(&r);
        return 0;
    }
    must_be_marked(&r, sizeof(r));
    must_be_sentence(&err);
    return 0;
}
