/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record, which a storage administrator may write: what is accepted must encode, and to the
 * same record.
 *
 * covers: volume/record.c volume/record_claim.c volume/recipients.c:recipients_from_json
 */
#include "tests/fuzz/target.h"

#include "volume/record.h"

static void must_be_the_same(const struct record *r, const struct record *again)
{
    struct error err = ERROR_INIT;
    const struct record_claim claim = { .id = r->id,
                                        .tenant = r->tenant,
                                        .uuid = r->uuid,
                                        .kms = r->kms,
                                        .key_source = r->key_source,
                                        .discard = r->discard ? "true" : NULL,
                                        .identity = record_identity(r->pod) };

    must(strcmp(r->name, again->name) == 0 && strcmp(r->fs, again->fs) == 0);
    must(strcmp(r->key.kind, again->key.kind) == 0 && r->key.version == again->key.version);
    must(strcmp(r->key.ciphertext, again->key.ciphertext) == 0 && r->sealed == again->sealed);
    must(strcmp(r->digest, again->digest) == 0 && strcmp(r->mac, again->mac) == 0);
    must(strcmp(r->created, again->created) == 0 && r->discard == again->discard &&
         r->pod == again->pod && r->stale_slots == again->stale_slots);
    must(strcmp(r->recipients, again->recipients) == 0);
    must(r->gen == again->gen && r->size == again->size && r->state == again->state);
    must(record_matches(again, &claim, &err) == 0);
}

static void must_differ(const struct record *r)
{
    const struct record_claim claim = { .tenant = "another" };
    struct error err = ERROR_INIT;

    if (strcmp(r->tenant, "another") == 0)
        return;
    must(record_matches(r, &claim, &err) < 0 && err.code == ERR_DATA_LOSS);
    must_be_sentence(&err);
}

static void check(const struct record *r)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(RECORD_MAX), mac = STRBUF_INIT(RECORD_MAX);
    struct error err = ERROR_INIT;
    struct record again;

    memset(&again, 0, sizeof(again));
    must(record_encode(r, &text, &err) == 0);
    must(record_decode(strbuf_text(&text), text.len, &again, &err) == 0);
    must_be_the_same(r, &again);
    must_differ(r);
    must(record_mac_input(r, &mac, &err) == 0 && mac.len > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    struct record r;

    mark(&r, sizeof(r));
    if (record_decode((const char *)data, size, &r, &err) < 0) {
        must(err.code == ERR_DATA_LOSS);
        must_be_sentence(&err);
        must_be_marked(&r, sizeof(r));
        return 0;
    }
    check(&r);
    return 0;
}
