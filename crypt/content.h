/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content.h: names what lay in a device's header area, for a refusal (libblkid). It never says that
 * something may be written: no name doesn't mean blank.
 */
#ifndef COFFER_CRYPT_CONTENT_H
#define COFFER_CRYPT_CONTENT_H

#include "common/base.h"
#include "common/error.h"

/* The first signature within a copy of the area ("ext4", "LVM2_member", "gpt partition table"), ""
 * when none is known. except_luks: LUKS signatures don't count. */
int content_name(const void *area, size_t len, bool except_luks, char ret[64],
                 struct error *err) MUST_CHECK;

#endif
