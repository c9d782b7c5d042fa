/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "vault/capability.h"

bool vault_capability_in(const json_t *list, const char *capability)
{
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        const char *text = json_string_value(item);

        if (text != NULL && (strcmp(text, capability) == 0 || strcmp(text, "root") == 0))
            return true;
    }
    return false;
}
