/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl/verbs.h: the verbs, each defined in the file of its group. */
#ifndef COFFER_COFFERCTL_VERBS_H
#define COFFER_COFFERCTL_VERBS_H

#include "cofferctl/cli.h"

extern const struct verb config_check; /* config.c */
extern const struct verb pool_init;    /* pool.c */
extern const struct verb volume_list;  /* volume.c */
extern const struct verb volume_show;
extern const struct verb volume_create;     /* create.c */
extern const struct verb volume_mount;      /* mount.c */
extern const struct verb volume_unmount;    /* unmount.c */
extern const struct verb volume_expand;     /* expand.c */
extern const struct verb volume_delete;     /* delete.c */
extern const struct verb volume_unlock_key; /* unlock_key.c */
extern const struct verb volume_rotate_key; /* rotate_key.c */
extern const struct verb volume_rescue;     /* rescue.c */
extern const struct verb recipient_add;     /* recipient_add.c */
extern const struct verb recipient_remove;  /* recipient_remove.c */
extern const struct verb recipient_list;    /* recipient_list.c */
extern const struct verb volume_locate;     /* locate.c */
extern const struct verb record_backup;     /* record_backup.c */
extern const struct verb record_restore;    /* record_restore.c */
extern const struct verb node_reconcile;    /* reconcile.c */
extern const struct verb vault_setup;       /* vault_setup.c */
extern const struct verb vault_check;       /* vault_check.c */
extern const struct verb key_status;        /* key_status.c */
extern const struct verb key_rotate;        /* key_rotate.c */
extern const struct verb key_rewrap;        /* key_rewrap.c */
extern const struct verb key_retire;        /* key_retire.c */
extern const struct verb key_trim;          /* key_trim.c */
extern const struct verb key_server;        /* key_server.c */
extern const struct verb vm_new_device;     /* vm_new_device.c */
extern const struct verb vm_create;         /* vm_create.c */
extern const struct verb vm_find_verb;      /* vm_state.c */
extern const struct verb vm_mount;          /* vm_unlock.c */
extern const struct verb vm_lock;           /* vm_state.c */
extern const struct verb vm_unlock;         /* vm_unlock.c */
extern const struct verb vm_delete;         /* vm_state.c */
extern const struct verb vm_list_devices;   /* vm_devices.c */
extern const struct verb vm_add_device;     /* vm_devices.c */
extern const struct verb vm_remove_device;  /* vm_devices.c */
extern const struct verb vm_list;           /* vm_admin.c */
extern const struct verb vm_explain;        /* vm_admin.c */
extern const struct verb doctor;            /* doctor.c */

#endif
