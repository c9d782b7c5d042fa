/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attacks.h: what a storage administrator may write into a LUKS2 header's JSON. Each row is one or
 * two edits of a good header and what the refusal must name.
 */
#ifndef COFFER_TESTS_CRYPT_ATTACKS_H
#define COFFER_TESTS_CRYPT_ATTACKS_H

#include "common/base.h"

struct attack {
    const char *name;
    struct {
        const char *path, *value;
    } edit[2];
    const char *says;
};

#define B64_32 "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\""
#define SLOT_0_AREA                                                                        \
    "{\"type\":\"raw\",\"offset\":\"32768\",\"size\":\"258048\",\"encryption\":\"aes-xts-" \
    "plain64\",\"key_size\":64}"
#define GOOD_SEGMENT(offset)                                                                 \
    "{\"type\":\"crypt\",\"offset\":\"" offset "\",\"size\":\"dynamic\",\"iv_tweak\":\"0\"," \
    "\"encryption\":\"aes-xts-plain64\",\"sector_size\":4096}"
#define ARGON2(memory) \
    "{\"type\":\"argon2id\",\"time\":4,\"memory\":" memory ",\"cpus\":1,\"salt\":" B64_32 "}"

static const struct attack attacks[] = {
    { "null cipher in the keyslot",
      { { "keyslots.0.area.encryption", "\"cipher_null-ecb\"" } },
      "encryption" },
    { "null cipher in the segment",
      { { "segments.0.encryption", "\"cipher_null-ecb\"" } },
      "encryption" },
    { "capi: cipher",
      { { "segments.0.encryption", "\"capi:xts(aes-generic)-plain64\"" } },
      "encryption" },
    { "weaker cipher", { { "segments.0.encryption", "\"aes-cbc-plain64\"" } }, "encryption" },
    { "shifted offset", { { "segments.0.offset", "\"8388608\"" } }, "offset" },
    { "offset with a leading zero", { { "segments.0.offset", "\"04194304\"" } }, "offset" },
    { "fixed size", { { "segments.0.size", "\"1048576\"" } }, "size" },
    { "other IV", { { "segments.0.iv_tweak", "\"8\"" } }, "iv_tweak" },
    { "other sector size", { { "segments.0.sector_size", "512" } }, "sector_size" },
    { "linear segment", { { "segments.0.type", "\"linear\"" } }, "type" },
    { "integrity", { { "segments.0.integrity", "{\"type\":\"hmac(sha256)\"}" } }, "integrity" },
    { "segment flags", { { "segments.0.flags", "[\"backup-final\"]" } }, "flags" },
    { "second segment", { { "segments.1", GOOD_SEGMENT("8388608") } }, "segment" },
    { "segment under another number",
      { { "segments.1", GOOD_SEGMENT("4194304") }, { "segments.0", NULL } },
      "segment" },
    { "no segment", { { "segments.0", NULL } }, "segment" },
    { "huge iterations in a keyslot",
      { { "keyslots.0.kdf.iterations", "2000000000" } },
      "iterations" },
    { "iterations just over the limit",
      { { "keyslots.0.kdf.iterations", "10001" } },
      "iterations" },
    { "huge iterations in the digest", { { "digests.0.iterations", "2000000000" } }, "iterations" },
    { "argon2 with much memory", { { "keyslots.0.kdf", ARGON2("4194304") } }, "argon2id" },
    { "argon2 with little memory", { { "keyslots.0.kdf", ARGON2("32") } }, "--pbkdf pbkdf2" },
    { "other hash in the keyslot", { { "keyslots.0.kdf.hash", "\"sha1\"" } }, "hash" },
    { "other hash in the splitter", { { "keyslots.0.af.hash", "\"sha1\"" } }, "hash" },
    { "fewer stripes", { { "keyslots.0.af.stripes", "4001" } }, "stripes" },
    { "short key", { { "keyslots.0.key_size", "32" } }, "key_size" },
    { "short area key", { { "keyslots.0.area.key_size", "32" } }, "key_size" },
    { "keyslot area elsewhere", { { "keyslots.0.area.offset", "\"290816\"" } }, "offset" },
    { "keyslot of a re-encryption", { { "keyslots.0.type", "\"reencrypt\"" } }, "type" },
    { "keyslot 3", { { "keyslots.3", "{}" } }, "keyslot '3'" },
    { "keyslot with a priority", { { "keyslots.0.priority", "2" } }, "priority" },
    { "no keyslot", { { "keyslots.0", NULL }, { "digests.0.keyslots", "[]" } }, "no keyslot" },
    { "keyslot outside the digest", { { "digests.0.keyslots", "[]" } }, "belongs to no digest" },
    { "digest of a keyslot that isn't there",
      { { "digests.0.keyslots", "[\"0\",\"1\"]" } },
      "keyslot" },
    { "digest of no segment", { { "digests.0.segments", "[]" } }, "segment 0" },
    { "second digest",
      { { "digests.1", "{\"type\":\"pbkdf2\",\"keyslots\":[],\"segments\":[],\"hash\":\"sha256\","
                       "\"iterations\":1000,\"salt\":" B64_32 ",\"digest\":" B64_32 "}" } },
      "one digest" },
    { "digest 2", { { "digests.2", "{}" }, { "digests.0", NULL } }, "0 or 1" },
    { "digest of another type", { { "digests.0.type", "\"none\"" } }, "type" },
    { "short digest", { { "digests.0.digest", "\"AAAA\"" } }, "digest" },
    { "salt that isn't base64", { { "digests.0.salt", "\"!\"" } }, "salt" },
    { "token that names a plug-in",
      { { "tokens.0", "{\"type\":\"evil\",\"keyslots\":[\"0\"]}" } },
      "tokens" },
    { "token of a known type",
      { { "tokens.0", "{\"type\":\"luks2-keyring\",\"keyslots\":[\"0\"],"
                      "\"key_description\":\"x\"}" } },
      "tokens" },
    { "requirements",
      { { "config.requirements", "{\"mandatory\":[\"online-reencrypt-v2\"]}" } },
      "requirements" },
    { "unknown requirement",
      { { "config.requirements", "{\"mandatory\":[\"future\"]}" } },
      "requirements" },
    { "persistent flags", { { "config.flags", "[\"allow-discards\"]" } }, "flags" },
    { "other keyslot area size", { { "config.keyslots_size", "\"4157440\"" } }, "keyslots_size" },
    { "unknown field in config", { { "config.x", "1" } }, "unknown field 'x'" },
    { "unknown top-level field", { { "x", "{}" } }, "unknown field 'x'" },
    { "keyslots that aren't an object", { { "keyslots", "[]" } }, "keyslots" },
    { "an empty segment", { { "segments.0", "{}" } }, "type" },
};

#endif
