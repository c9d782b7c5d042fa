/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mountinfo, whose paths anybody who may mount can choose: no text is read past its end, and an
 * entry that was read is whole.
 *
 * covers: common/mountinfo.c
 * but: mount_table_read mount_table_load btrfs_is_on source_device (ask the kernel)
 */
#include "tests/fuzz/target.h"

#include "common/mountinfo.h"

/* What it calls a node's name is the end of its root, and no path. */
static void must_name_a_node(const struct mount_entry *e)
{
    char name[64];
    dev_t dev = 0;

    if (!mount_node_name(e, name, sizeof(name), &dev))
        return;
    must(name[0] != '\0' && strchr(name, '/') == NULL && strlen(name) < sizeof(name));
    must(strstr(e->root, name) != NULL && mount_is_node(e, name));
}

static void must_be_whole(const struct mount_table *t, const struct mount_entry *e)
{
    const struct mount_entry *top = mount_table_at(t, e->point);

    must(e->root != NULL && e->point != NULL && e->fs_type != NULL);
    must(top == NULL || strcmp(top->point, e->point) == 0);
    must(mount_match(e, e->dev) == MOUNT_OURS && mount_lies_on(e, e->dev));
    must(mount_match(NULL, e->dev) == MOUNT_NONE);
    must_name_a_node(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mount_table t;
    struct error err = ERROR_INIT;

    if (size > 65536)
        return 0;
    mark(&t, sizeof(t));
    if (mount_table_parse((const char *)data, size, &t, &err) < 0) {
        must_be_sentence(&err);
        must_be_marked(&t, sizeof(t));
        return 0;
    }
    for (size_t i = 0; i < t.n && i < 64; i++)
        must_be_whole(&t, &t.items[i]);
    mount_table_release(&t);
    return 0;
}
