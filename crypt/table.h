/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h: a crypt target's parameters, as the kernel shows them, against the two forms Coffer
 * makes: aes-xts-plain64 :64:logon:cryptsetup:<uuid>-d<0|1> 0 <major>:<minor> 8192 1
 * sector_size:4096, or with "2 allow_discards sector_size:4096" at the end
 * (Documentation/admin-guide/device-mapper/dm-crypt.rst). Pure; anything else is not ours.
 */
#ifndef COFFER_CRYPT_TABLE_H
#define COFFER_CRYPT_TABLE_H

#include "common/base.h"

#include <sys/types.h>

struct table_facts {
    dev_t backing; /* the device below; 0 when the kernel shows none */
    bool discards; /* of the second form; whether it ought to be is the record's word */
};

/* True when the parameters are Coffer's for that volume uuid. Else `why` says what differs; never a
 * key, even when the table shows one; *ret->backing is filled all the same. Allocates nothing: what
 * memory is lacking for must not be judged as somebody else's. */
bool table_is_ours(const char *params, const char *uuid, struct table_facts *ret, char why[128]);

#endif
