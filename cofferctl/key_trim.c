/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl key trim: retired versions of a tenant's key are destroyed in Vault, and with them
 * every copy of what they wrapped. Nothing brings them back, so it asks, and looks once more.
 */
#include "common/base.h"
#include "cofferctl/confirm.h"
#include "cofferctl/key_old.h"
#include "cofferctl/verbs.h"

#include "common/fault.h"

#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define HOUR_S      3600u
#define GRACE_MAX_H 87600u

static struct {
    uint64_t grace;
    bool yes;
} options;

static const struct flag flags[] = {
    KEY_TENANT_FLAGS,
    KEY_OLD_FLAGS,
    { "grace", NULL, FLAG_UINT, &options.grace, "24",
      "hours that must have passed since the version that stays was made", NULL },
    { "yes", NULL, FLAG_BOOL, &options.yes, "false", "don't ask on the terminal", NULL },
    KEY_VAULT_FLAGS,
};

static int check(const struct cli *cli UNUSED, struct error *err)
{
    if (options.grace > GRACE_MAX_H)
        return error_set(err, ERR_INVALID, "--grace must be at most %u", GRACE_MAX_H);
    return key_old_check(err);
}

static int ask(const struct ring_key *k, const struct transit_key *key, struct error *err)
{
    char question[1024], otherwise[] = "nothing was destroyed";

    if (options.yes)
        return 0;
    (void)snprintf(
        question, sizeof(question),
        "This destroys all versions of key '%s' before %llu, for ever. What they wrapped "
        "is lost: volumes of a node\nthat is not among the %llu of --nodes, copies of "
        "records from before the rewrap.\nType the key's name to go on: ",
        k->name, (unsigned long long)key->min_decryption, (unsigned long long)key_old_flags.nodes);
    return confirm(question, k->name, otherwise, err);
}

/* One line in the host's own log. */
static void audit(const struct ring_key *k, uint64_t version, const struct error *err)
{
    openlog("cofferctl", LOG_PID, LOG_AUTHPRIV);
    syslog(LOG_NOTICE, "audit: action=trim-key key=%s version=%llu uid=%u result=%s", k->name,
           (unsigned long long)version, (unsigned)getuid(), error_code_name(err->code));
}

static int destroy(const struct key_old *o, const struct ring_key *k, const struct transit_key *key,
                   struct error *err)
{
    struct error own = ERROR_INIT;

    FAULT_POINT("cofferctl:trim:judged");
    if (key->min_encryption < key->min_decryption &&
        key_vault_minimum(o->target, k, key->min_decryption, err) < 0)
        return -1;
    (void)!key_vault_trim(o->target, k, key->min_decryption, &own);
    audit(k, key->min_decryption, &own);
    if (own.code != ERR_OK)
        return error_pass(err, &own);
    FAULT_POINT("cofferctl:trim:done");
    (void)fprintf(o->cli->notes, "cofferctl: key '%s' has no version before %llu any more\n",
                  k->name, (unsigned long long)key->min_decryption);
    return 0;
}

static bool is_trimmed(const struct transit_key *key)
{
    return key->min_decryption <= 1 || key->min_available == key->min_decryption;
}

static int judge(const struct key_old *o, const struct ring_key *k, const struct transit_key *key,
                 const json_t *data, struct error *err)
{
    uint64_t version = key->min_decryption;
    int64_t made = transit_key_made(data, version);

    if (is_trimmed(key))
        return 0;
    return key_judge_grace(k, version, made, time(NULL), options.grace * HOUR_S, err) < 0
               ? -1
               : key_judge(&o->ring, k, &o->reports, version, made, err);
}

static int trim(const struct key_old *o, const struct ring_key *k, const struct transit_key *key,
                const json_t *data, struct error *err)
{
    uint64_t version = key->min_decryption;

    if (is_trimmed(key)) {
        (void)fprintf(
            o->cli->notes,
            "cofferctl: key '%s' has no retired version (it opens from version %llu on)\n", k->name,
            (unsigned long long)version);
        return 0;
    }
    if (ask(k, key, err) < 0 ||
        key_old_look_again(o, k, version, transit_key_made(data, version), err) < 0)
        return -1;
    return destroy(o, k, key, err) < 0 ? error_prefix(err, "key '%s'", k->name) : 0;
}

static int run(const struct cli *cli, struct error *err)
{
    return key_old_each(cli, judge, trim, err);
}

const struct verb key_trim = {
    .group = "key",
    .name = "trim",
    .help = "destroy retired versions of tenants' keys in Vault, for ever, when no volume is under "
            "one",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = check,
    .run = run,
};
