/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/phases.h"

#include "common/deadline.h"

void phases_add(struct phases *p, const char *name, uint64_t started_us)
{
    size_t i = 0;

    if (p == NULL)
        return;
    while (i < p->n && strcmp(p->items[i].name, name) != 0)
        i++;
    if (i == PHASES_MAX)
        return;
    if (i == p->n) {
        p->items[i].name = name;
        p->items[i].us = 0;
        p->n++;
    }
    p->items[i].us += clock_us() - started_us;
}
