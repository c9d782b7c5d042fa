/* SPDX-License-Identifier: Apache-2.0 */
/* ready_record.h: a `ready` volume's record, as tests of records begin with it. */
#ifndef COFFER_TESTS_UNIT_VOLUME_READY_RECORD_H
#define COFFER_TESTS_UNIT_VOLUME_READY_RECORD_H

#include "common/base.h"
#include "volume/record.h"

#define HASH  "0123456789abcdef0123456789abcdef"
#define HEX64 HASH HASH
#define ID    "fast.3f0c12ab." HASH
#define UUID  "123e4567-e89b-42d3-a456-426614174000"

static inline struct record ready_record(void)
{
    return (struct record){
        .gen = 3,
        .id = ID,
        .name = "pvc-1",
        .uuid = UUID,
        .tenant = "team-a",
        .size = GIB(1),
        .state = RECORD_READY,
        .fs = "ext4",
        .kms = "lab",
        .key_source = "vault",
        .key = { .kind = "file", .ciphertext = "file:v1:abc", .version = 1 },
        .digest = HEX64,
        .mac = HEX64,
        .created = "2026-11-22T01:02:03Z",
    };
}

#endif
