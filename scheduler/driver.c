/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/driver.h"

#include "scheduler/driver_stub.h"

/* A driver is a row here and its files. */
static const struct driver_ops *const drivers[] = {
    &driver_kubernetes_ops,
    &driver_local_ops,
#ifdef COFFER_FAULT
    &driver_stub_ops,
#endif
    NULL,
};

const struct driver_ops *driver_find(const char *name)
{
    for (size_t i = 0; drivers[i] != NULL; i++) {
        if (strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
    }
    return NULL;
}
