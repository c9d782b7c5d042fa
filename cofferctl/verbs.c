/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/verbs.h"

/* one a line */
/* clang-format off */
const struct verb *const verbs[] = {
    &config_check,
    &pool_init,
    &volume_list,
    &volume_show,
    &volume_locate,
    &volume_create,
    &volume_mount,
    &volume_unmount,
    &volume_expand,
    &volume_delete,
    &volume_unlock_key,
    &volume_rotate_key,
    &volume_rescue,
    &recipient_add,
    &recipient_remove,
    &recipient_list,
    &record_backup,
    &record_restore,
    &node_reconcile,
    &vault_setup,
    &vault_check,
    &key_status,
    &key_rotate,
    &key_rewrap,
    &key_retire,
    &key_trim,
    &key_server,
    &doctor,
    NULL,
};
/* clang-format on */
