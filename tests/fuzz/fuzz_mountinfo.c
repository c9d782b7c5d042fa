/* SPDX-License-Identifier: Apache-2.0 */
/* Mountinfo: no text may be read past its end, and an entry that was read is whole. */
#include "common/base.h"
#include "node/mounts.h"
#include "tests/fuzz/target.h"

static void must_be_whole(const struct mount_table *t, const struct mount_entry *e)
{
    const struct mount_entry *top = mount_table_at(t, e->point);

    if (e->root == NULL || e->point == NULL || e->fs_type == NULL ||
        (top != NULL && strcmp(top->point, e->point) != 0) || mount_match(e, e->dev) != MOUNT_OURS)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mount_table t = { .items = NULL, .n = 0 };
    struct error err = ERROR_INIT;

    if (size > 65536 || mount_table_parse((const char *)data, size, &t, &err) < 0)
        return 0;
    for (size_t i = 0; i < t.n && i < 64; i++)
        must_be_whole(&t, &t.items[i]);
    mount_table_release(&t);
    return 0;
}
