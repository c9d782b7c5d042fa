/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/frame.h: the one frame that carries a storage key: keyd writes it into a pipe, coffer-crypt
 * reads it there. 16-byte header, then the key; everything little-endian; < PIPE_BUF, so it is
 * atomic.
 */
#ifndef COFFER_KEYD_FRAME_H
#define COFFER_KEYD_FRAME_H

#include "common/base.h"

#define KEY_FRAME_MAGIC 0x4b464f43u /* "COFK" */
#define KEY_FRAME_OK    0u
#define KEY_BYTES       32u

struct key_frame {
    uint32_t magic;
    uint32_t status;   /* KEY_FRAME_OK; anything else: no key follows */
    uint32_t length;   /* KEY_BYTES */
    uint32_t reserved; /* 0 */
    unsigned char key[KEY_BYTES];
} __attribute__((packed));

#endif
