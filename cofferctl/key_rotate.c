/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl key rotate: a new version of tenants' keys. A verb of its own, not a part of rewrap:
 * what was killed is run again, and a rewrap that is must not make one version more each time.
 */
#include "common/base.h"
#include "cofferctl/key_judge.h"
#include "cofferctl/key_target.h"
#include "cofferctl/verbs.h"

#include "common/fault.h"

#include <time.h>

static uint64_t min_age;

static const struct flag flags[] = {
    KEY_TENANT_FLAGS,
    { "min-age", NULL, FLAG_UINT, &min_age, "0",
      "hours: leave a key alone whose newest version is younger", NULL },
    KEY_VAULT_FLAGS,
};

static int check(const struct cli *cli UNUSED, struct error *err)
{
    return key_flags_check(false, err);
}

static bool too_young(const json_t *data, uint64_t latest)
{
    int64_t made = transit_key_made(data, latest), now = time(NULL);

    return min_age > 0 && now - made < (int64_t)min_age * 3600;
}

/* Vault's answer to rotate says nothing of versions in every release: it is asked again. */
static int rotate(const struct cli *cli, const struct key_target *t, const struct ring_key *k,
                  struct error *err)
{
    AUTO_JSON json_t *data = NULL;
    AUTO_JSON json_t *again = NULL;
    struct transit_key before, after;

    if (key_vault_read(t, k, &before, &data, err) < 0)
        return error_prefix(err, "key '%s'", k->name);
    if (too_young(data, before.latest)) {
        (void)fprintf(cli->notes, "cofferctl: key '%s' stays at version %llu: it is young enough\n",
                      k->name, (unsigned long long)before.latest);
        return 0;
    }
    if (key_vault_rotate(t, k, err) < 0)
        return error_prefix(err, "key '%s'", k->name);
    FAULT_POINT("cofferctl:rotate:made");
    if (key_vault_read(t, k, &after, &again, err) < 0)
        return error_prefix(err, "key '%s'", k->name);
    (void)fprintf(cli->notes, "cofferctl: key '%s' has version %llu now\n", k->name,
                  (unsigned long long)after.latest);
    return 0;
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_KEY_TARGET struct key_target *t = NULL;
    AUTO_KEY_RING struct key_ring ring = { .keys = NULL };
    size_t n = 0;

    if (key_ring_init(&ring, err) < 0 || key_target_open(cli, true, &t, err) < 0 ||
        key_ring_read(&ring, t->config, t->pools, err) < 0 ||
        key_ring_want_chosen(&ring, t, err) < 0)
        return -1;
    for (size_t i = 0; i < ring.n; i++) {
        if (!key_is_chosen(&ring.keys[i]))
            continue;
        n++;
        if (rotate(cli, t, &ring.keys[i], err) < 0)
            return -1;
    }
    if (key_judge_seen(&ring, err) < 0)
        return -1;
    if (n == 0)
        (void)fprintf(cli->notes,
                      "cofferctl: no volume here has a key of Vault's transit engine\n");
    return 0;
}

const struct verb key_rotate = {
    .group = "key",
    .name = "rotate",
    .help = "make a new version of tenants' keys in Vault; volumes stay under the old one until "
            "they are rewrapped",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = check,
    .run = run,
};
