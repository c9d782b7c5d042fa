/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.json, which a storage administrator may write: an id of 32 hex digits or a refusal.
 *
 * covers: backends/file.c:file_pool_decode
 */
#include "tests/fuzz/target.h"

#include "backends/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char id[33], text[128], again[33];
    struct error err = ERROR_INIT;

    mark(id, sizeof(id));
    if (file_pool_decode((const char *)data, size, id, &err) < 0) {
        must(err.code == ERR_INVALID || err.code == ERR_DATA_LOSS || err.code == ERR_PRECONDITION);
        must_be_sentence(&err);
        must_be_marked(id, sizeof(id));
        return 0;
    }
    must(hex_lower_valid(id, 32));
    (void)snprintf(text, sizeof(text), "{\"v\":1,\"id\":\"%s\",\"backend\":\"file\"}", id);
    must(file_pool_decode(text, strlen(text), again, &err) == 0 && strcmp(id, again) == 0);
    return 0;
}
