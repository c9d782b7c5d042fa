/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd's frames: no input may be read past its end, and what decodes must encode to the same bytes.
 *
 * covers: keyd/wire.c
 */
#include "tests/fuzz/target.h"

#include "keyd/wire.h"

static void must_encode_to(int encoded, const struct wire_frame *frame, const uint8_t *data,
                           size_t size)
{
    must(encoded == 0 && frame->len == size && memcmp(frame->bytes, data, size) == 0);
}

static void must_be_refused(const struct error *err, const void *ret, size_t size)
{
    must(err->code == ERR_INVALID);
    must_be_sentence(err);
    must_be_marked(ret, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wire_frame frame;
    static struct wire_request request;
    static struct wire_reply reply;
    struct error err = ERROR_INIT;

    mark(&request, sizeof(request));
    if (wire_request_decode(data, size, &request, &err) == 0)
        must_encode_to(wire_request_encode(&request, &frame, &err), &frame, data, size);
    else
        must_be_refused(&err, &request, sizeof(request));
    mark(&reply, sizeof(reply));
    if (wire_reply_decode(data, size, &reply, &err) == 0)
        must_encode_to(wire_reply_encode(&reply, &frame, &err), &frame, data, size);
    else
        must_be_refused(&err, &reply, sizeof(reply));
    return 0;
}
