/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/doctor.h: inside `cofferctl doctor`. A check is one row of the table in doctor.c and
 * one function that says what it found. Each runs in a thread of its own with a time limit: one
 * that hangs (a dead file server) or has nothing to work with hides no other. Checks change
 * nothing.
 */
#ifndef COFFER_COFFERCTL_DOCTOR_H
#define COFFER_COFFERCTL_DOCTOR_H

#include "cofferctl/findings.h"
#include "common/base.h"
#include "volume/config.h"

struct doctor { /* what a check works with */
    const char *config_path, *crypt_helper, *device_dir;
    const char *keyd_socket, *node_socket, *admin_socket, *controller_socket;
    const struct config *config;    /* NULL: it can't be read */
    const struct pool_config *pool; /* of a check that runs once for each */
    bool root;
};

typedef void doctor_check(const struct doctor *d, struct findings *f);

/* doctor_coffer.c: what Coffer itself is made of */
doctor_check check_config, check_pool, check_helper, check_keyd, check_node, check_admin,
    check_controller;
/* doctor_kms.c: what coffer-keyd's STATUS says of its key services; `list` is that array. Pure. */
void doctor_kms(const struct config *config, const json_t *list, struct findings *f);
/* doctor_host.c: what the machine must have */
doctor_check check_user, check_device_mapper, check_crypt_target, check_loop, check_keyring,
    check_device_dir, check_tools, check_clock, check_swap, check_cores;

#endif
