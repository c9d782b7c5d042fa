/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target.h: what every fuzz target shares. A target is one file fuzz_NAME.c with a line
 * "covers: FILE.c …" (what `make fuzz-coverage` reports), seeds in corpus/NAME/ and perhaps
 * NAME.dict. It asserts more than "no crash": what was accepted keeps its promises, what was
 * refused left the outputs alone and has one sentence.
 */
#ifndef COFFER_TESTS_FUZZ_TARGET_H
#define COFFER_TESTS_FUZZ_TARGET_H

#include "common/base.h"

#include "common/error.h"
#include "common/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void must(bool held)
{
    if (!held)
        abort();
}

/* Nothing in it steers a terminal or starts a line. */
static inline bool is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (utf8_unsafe_len(text + i, len - i) > 0)
            return false;
    return true;
}

/* An error that may be shown: a code, and text of one line that a terminal and gRPC can take. */
static inline void must_be_sentence(const struct error *err)
{
    size_t len = strnlen(err->msg, sizeof(err->msg));

    must(err->code != ERR_OK && (unsigned)err->code < ERR_CODE_COUNT);
    must(len > 0 && len < sizeof(err->msg));
    must(utf8_valid(err->msg, len) && is_plain(err->msg, len));
}

/* An output that a failed call must leave alone is filled with this and then looked at. */
static inline void mark(void *p, size_t size)
{
    memset(p, 0x5a, size);
}

static inline void must_be_marked(const void *p, size_t size)
{
    for (size_t i = 0; i < size; i++)
        must(((const unsigned char *)p)[i] == 0x5a);
}

#endif
