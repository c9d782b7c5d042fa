/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl key retire: what an old version of a tenant's key wrapped opens no more. Vault keeps
 * the version, so this can be taken back.
 */
#include "common/base.h"
#include "cofferctl/key_old.h"
#include "cofferctl/verbs.h"

#include "common/fault.h"

static const struct flag flags[] = {
    KEY_TENANT_FLAGS,
    KEY_OLD_FLAGS,
    KEY_VAULT_FLAGS,
};

static int check(const struct cli *cli UNUSED, struct error *err)
{
    return key_old_check(err);
}

static int judge(const struct key_old *o, const struct ring_key *k, const struct transit_key *key,
                 const json_t *data, struct error *err)
{
    return key_judge(&o->ring, k, &o->reports, key->latest, transit_key_made(data, key->latest),
                     err);
}

static int retire(const struct key_old *o, const struct ring_key *k, const struct transit_key *key,
                  const json_t *data, struct error *err)
{
    FILE *notes = o->cli->notes;

    if (key->min_decryption == key->latest && key->min_encryption == key->latest) {
        (void)fprintf(notes, "cofferctl: key '%s' opens from version %llu on already\n", k->name,
                      (unsigned long long)key->latest);
        return 0;
    }
    /* somebody, or Vault itself, may have made a version since the look at all keys */
    if (judge(o, k, key, data, err) < 0)
        return -1;
    FAULT_POINT("cofferctl:retire:judged");
    if (key_vault_minimum(o->target, k, key->latest, err) < 0)
        return error_prefix(err, "key '%s'", k->name);
    FAULT_POINT("cofferctl:retire:done");
    (void)fprintf(notes,
                  "cofferctl: key '%s' opens from version %llu on; to take it back: vault write "
                  "%s/keys/%s/config min_decryption_version=%llu\n",
                  k->name, (unsigned long long)key->latest, k->kms->vault->mount, k->name,
                  (unsigned long long)(key->min_decryption == 0 ? 1 : key->min_decryption));
    return 0;
}

static int run(const struct cli *cli, struct error *err)
{
    return key_old_each(cli, judge, retire, err);
}

const struct verb key_retire = {
    .group = "key",
    .name = "retire",
    .help = "let old versions of tenants' keys open nothing any more, when no volume is under one; "
            "can be taken back",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = check,
    .run = run,
};
