/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/openapi.h"

/* The assembler's way to put a file into a program; the path is from the root of the tree. */
__asm__(".pushsection .rodata\n"
        ".globl openapi_text\n"
        ".globl openapi_end\n"
        "openapi_text:\n"
        ".incbin \"scheduler/openapi.json\"\n"
        "openapi_end:\n"
        ".byte 0\n"
        ".popsection\n");

extern const char openapi_end[];

size_t openapi_len(void)
{
    return (size_t)(openapi_end - openapi_text);
}
