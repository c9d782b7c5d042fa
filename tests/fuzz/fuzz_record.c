/* SPDX-License-Identifier: Apache-2.0 */
/* The record, which a storage administrator may write: what is accepted must encode, and to the
 * same record. */
#include "common/base.h"
#include "volume/record.h"
#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(RECORD_MAX), mac = STRBUF_INIT(RECORD_MAX);
    struct error err = ERROR_INIT;
    struct record r, again;

    memset(&r, 0, sizeof(r));
    memset(&again, 0, sizeof(again));
    if (record_decode((const char *)data, size, &r, &err) < 0) {
        must(err.code == ERR_DATA_LOSS && err.msg[0] != '\0');
        return 0;
    }
    must(record_encode(&r, &text, &err) == 0);
    must(record_decode(strbuf_text(&text), text.len, &again, &err) == 0);
    must(strcmp(r.name, again.name) == 0 && strcmp(r.key.ciphertext, again.key.ciphertext) == 0);
    must(r.gen == again.gen && r.size == again.size && r.state == again.state);
    must(r.discard == again.discard);
    must(record_mac_input(&r, &mac, &err) == 0 && mac.len > 0);
    return 0;
}
