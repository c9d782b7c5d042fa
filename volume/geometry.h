/* SPDX-License-Identifier: Apache-2.0 */
/*
 * geometry.h: the on-disk layout of every Coffer volume, constants of the binary (ARCHITECTURE.md).
 * They are compared with record and header, never taken from them.
 */
#ifndef COFFER_VOLUME_GEOMETRY_H
#define COFFER_VOLUME_GEOMETRY_H

#include "common/base.h"

#define GEOMETRY_CIPHER        "aes-xts-plain64"
#define GEOMETRY_KEY_BITS      512u
#define GEOMETRY_SECTOR        4096u
#define GEOMETRY_DATA_OFFSET   MIB(4)   /* bytes; header and keyslots lie below */
#define GEOMETRY_METADATA_SIZE 16384u   /* each of the two LUKS2 metadata areas */
#define GEOMETRY_KEYSLOTS_SIZE 4161536u /* = data offset - 2 * metadata */
#define GEOMETRY_SLOT_SIZE     258048u  /* one keyslot area of a 64-byte key, 4000 stripes */
#define GEOMETRY_SLOTS         3u       /* slots we use: 0, 1, 2 */
/* 806,912 */
#define GEOMETRY_HEADER_READ (2u * GEOMETRY_METADATA_SIZE + GEOMETRY_SLOTS * GEOMETRY_SLOT_SIZE)
#define GEOMETRY_ROUND       MIB(1)           /* sizes are multiples of this */
#define GEOMETRY_SIZE_MIN    MIB(16)          /* smallest volume: ext4 with a journal */
#define GEOMETRY_SIZE_MAX    (GIB(1024) * 64) /* 64 TiB */

#endif
