/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/cloud.h"

static bool hex_digits(const char *text, size_t n)
{
    return strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

bool device_name_valid(const char *text)
{
    return hex_digits(text, DEVICE_NAME_LEN);
}

bool cloud_id_valid(const char *text)
{
    return hex_digits(text, CLOUD_ID_LEN);
}

const struct device *cloud_device(const struct cloud *c, const char *name)
{
    for (size_t i = 0; i < c->n_devices; i++) {
        if (strcmp(c->devices[i].name, name) == 0)
            return &c->devices[i];
    }
    return NULL;
}

void cloud_clear(struct cloud *c)
{
    free(c->devices);
    *c = (struct cloud){ .devices = NULL };
}
