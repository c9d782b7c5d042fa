/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/text.h"

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

/* What can be written isn't the file's any more: relocations and data. */
static void forget(const struct dl_phdr_info *program, const ElfW(Phdr) * part)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (program->dlpi_addr + part->p_vaddr) / page * page;
    uintptr_t end = program->dlpi_addr + part->p_vaddr + part->p_memsz;

    if (part->p_type == PT_LOAD && (part->p_flags & PF_W) == 0)
        (void)madvise((void *)start, end - start, MADV_DONTNEED); /* fails: it stays */
}

static int forget_program(struct dl_phdr_info *program, size_t size UNUSED, void *ctx UNUSED)
{
    for (size_t i = 0; i < program->dlpi_phnum; i++)
        forget(program, &program->dlpi_phdr[i]);
    return 1; /* the first one is the program itself */
}

void text_forget_start(void)
{
    (void)dl_iterate_phdr(forget_program, NULL);
}
