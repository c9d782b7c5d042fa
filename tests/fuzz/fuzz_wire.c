/* SPDX-License-Identifier: Apache-2.0 */
/* keyd's frames: no input may be read past its end, and what decodes must encode to the same bytes.
 */
#include "common/base.h"
#include "keyd/wire.h"
#include "tests/fuzz/target.h"

static void must_be(const struct wire_frame *frame, int encoded, const uint8_t *data, size_t size)
{
    if (encoded < 0 || frame->len != size || memcmp(frame->bytes, data, size) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wire_frame frame;
    struct wire_request request;
    struct wire_reply reply;
    struct error err = ERROR_INIT;
    if (wire_request_decode(data, size, &request, &err) == 0)
        must_be(&frame, wire_request_encode(&request, &frame, &err), data, size);
    if (wire_reply_decode(data, size, &reply, &err) == 0)
        must_be(&frame, wire_reply_encode(&reply, &frame, &err), data, size);
    return 0;
}
