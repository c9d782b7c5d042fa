/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/key_old.h"

struct key_old_flags key_old_flags;

int key_old_check(struct error *err)
{
    if (key_flags_check(false, err) < 0)
        return -1;
    if (key_old_flags.nodes == 0)
        return error_set(err, ERR_INVALID,
                         "--nodes is needed: how many machines have pools with this key service's "
                         "volumes (1: this one alone)");
    return 0;
}

/* A key that only another machine's volumes use is one of --all too. */
static int want_reported(struct key_old *o, struct error *err)
{
    struct ring_key *k;

    for (size_t i = 0; key_flags.all && i < o->reports.n; i++) {
        const struct key_report *r = &o->reports.items[i];
        for (size_t j = 0; j < r->n_keys * o->target->config->n_kms; j++) {
            const struct report_key *there = &r->keys[j / o->target->config->n_kms];
            const struct kms_config *kms = &o->target->config->kms[j % o->target->config->n_kms];
            if (key_kms_chosen(kms) && strcmp(kms->vault->mount, there->mount) == 0 &&
                key_ring_want_named(&o->ring, kms, there->name, &k, err) < 0)
                return -1;
        }
    }
    return 0;
}

static int prepare(struct key_old *o, struct error *err)
{
    return key_reports_read(&key_old_flags.reports, &o->reports, err) < 0 ||
                   key_reports_check(&o->reports, o->target->pools, key_old_flags.nodes, err) < 0 ||
                   key_ring_read(&o->ring, o->target->config, o->target->pools, err) < 0 ||
                   key_ring_want_chosen(&o->ring, o->target, err) < 0 || want_reported(o, err) < 0
               ? -1
               : 0;
}

static int act_on(const struct key_old *o, const struct ring_key *k, key_old_act *act,
                  struct error *err)
{
    AUTO_JSON json_t *data = NULL;
    struct transit_key key;

    if (key_vault_read(o->target, k, &key, &data, err) < 0)
        return error_prefix(err, "key '%s'", k->name);
    return act(o, k, &key, data, err);
}

static void release(struct key_old *o)
{
    key_reports_release(&o->reports);
    key_ring_release(&o->ring);
    key_target_free(o->target);
}

/* How many keys there are, or -1. */
static int each(const struct key_old *o, key_old_act *act, struct error *err)
{
    int n = 0;

    for (size_t i = 0; i < o->ring.n; i++) {
        if (!key_is_chosen(&o->ring.keys[i]))
            continue;
        n++;
        if (act_on(o, &o->ring.keys[i], act, err) < 0)
            return -1;
    }
    return n;
}

static int judge_and_act(struct key_old *o, key_old_act *judge, key_old_act *act, struct error *err)
{
    int n;

    if (key_target_open(o->cli, true, &o->target, err) < 0 || key_ring_init(&o->ring, err) < 0 ||
        prepare(o, err) < 0 || key_judge_seen(&o->ring, err) < 0)
        return -1;
    n = each(o, judge, err);
    if (n == 0)
        return error_set(err, ERR_NOT_FOUND, "no volume has a key of Vault's transit engine");
    return n < 0 || each(o, act, err) < 0 ? -1 : 0;
}

int key_old_each(const struct cli *cli, key_old_act *judge, key_old_act *act, struct error *err)
{
    struct key_old o = { .cli = cli };
    int result = judge_and_act(&o, judge, act, err);

    release(&o);
    return result;
}

int key_old_look_again(const struct key_old *o, const struct ring_key *k, uint64_t version,
                       int64_t made, struct error *err)
{
    AUTO_KEY_RING struct key_ring now = { .keys = NULL };
    struct ring_key *there;

    return key_ring_init(&now, err) < 0 ||
                   key_ring_read(&now, o->target->config, o->target->pools, err) < 0 ||
                   key_ring_want_named(&now, k->kms, k->name, &there, err) < 0
               ? -1
               : key_judge(&now, there, &o->reports, version, made, err);
}
