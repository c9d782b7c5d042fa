/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h: a crypt target's parameters, as the kernel shows them, against the one form Coffer
 * makes: aes-xts-plain64 :64:logon:cryptsetup:<uuid>-d<0|1> 0 <major>:<minor> 8192 1
 * sector_size:4096 (Documentation/admin-guide/device-mapper/dm-crypt.rst). Pure; anything else is
 * not ours.
 */
#ifndef COFFER_CRYPT_TABLE_H
#define COFFER_CRYPT_TABLE_H

#include "common/base.h"

#include <sys/types.h>

/* True when the parameters are Coffer's for that volume uuid. *ret_backing: the device below, 0
 * when the kernel shows none. Else `why` says what differs; never a key, even when the table shows
 * one. */
bool table_is_ours(const char *params, const char *uuid, dev_t *ret_backing, char why[128]);

#endif
