/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/key_judge.h"

#define N(x) ((unsigned long long)(x))

static int refuse_below(const char *name, const char *where, uint64_t volumes, uint64_t version,
                        struct error *err)
{
    return error_set(err, ERR_PRECONDITION,
                     "key '%s': %llu volumes%s are under a version older than %llu: 'cofferctl key "
                     "rewrap' first",
                     name, N(volumes), where, N(version));
}

static int refuse_in_flight(const char *name, const char *where, uint64_t volumes,
                            struct error *err)
{
    return error_set(err, ERR_PRECONDITION,
                     "key '%s': %llu volumes%s are being created: try again when they are", name,
                     N(volumes), where);
}

int key_judge_seen(const struct key_ring *ring, struct error *err)
{
    size_t gaps = json_array_size(ring->gaps);
    const json_t *first = json_array_get(ring->gaps, 0);

    if (gaps == 0)
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "%zu pools or records can't be read, and which keys they need is not known; "
                     "the first: %s: %s",
                     gaps, json_string_value(json_object_get(first, "what")),
                     json_string_value(json_object_get(first, "problem")));
}

static int judge_here(const struct key_ring *ring, const struct ring_key *k, uint64_t version,
                      struct error *err)
{
    size_t below = ring_key_below(k, version);

    if (key_judge_seen(ring, err) < 0)
        return -1;
    if (below > 0)
        return refuse_below(k->name, "", below, version, err);
    return k->in_flight > 0 ? refuse_in_flight(k->name, "", k->in_flight, err) : 0;
}

static uint64_t below_there(const struct report_key *k, uint64_t version)
{
    uint64_t n = 0;

    for (size_t i = 0; i < k->n_versions && k->versions[i].version < version; i++)
        n += k->versions[i].volumes;
    return n;
}

static int judge_there(const struct key_report *r, const struct ring_key *k, uint64_t version,
                       int64_t made, struct error *err)
{
    const struct report_key *there = key_report_find(r, k);
    char where[300];

    (void)snprintf(where, sizeof(where), " on '%s'", r->host);
    if (made <= 0 || r->made <= made)
        return error_set(err, ERR_PRECONDITION,
                         "key '%s': the report of '%s' is from before version %llu was made: make "
                         "a new one",
                         k->name, r->host, N(version));
    if (r->n_gaps > 0)
        return error_set(err, ERR_PRECONDITION,
                         "key '%s': '%s' reports %llu pools or records that can't be read", k->name,
                         r->host, N(r->n_gaps));
    if (there == NULL)
        return 0;
    if (below_there(there, version) > 0)
        return refuse_below(k->name, where, below_there(there, version), version, err);
    return there->in_flight > 0 ? refuse_in_flight(k->name, where, there->in_flight, err) : 0;
}

int key_judge(const struct key_ring *ring, const struct ring_key *k,
              const struct key_reports *reports, uint64_t version, int64_t made, struct error *err)
{
    if (judge_here(ring, k, version, err) < 0)
        return -1;
    for (size_t i = 0; i < reports->n; i++) {
        if (judge_there(&reports->items[i], k, version, made, err) < 0)
            return -1;
    }
    return 0;
}

int key_judge_grace(const struct ring_key *k, uint64_t version, int64_t made, int64_t now,
                    uint64_t grace_s, struct error *err)
{
    if (made <= 0)
        return error_set(err, ERR_PRECONDITION,
                         "key '%s': Vault doesn't say when version %llu was made", k->name,
                         N(version));
    if (now >= made && (uint64_t)(now - made) >= grace_s)
        return 0;
    uint64_t left = now < made ? grace_s : grace_s - (uint64_t)(now - made);
    return error_set(err, ERR_PRECONDITION,
                     "key '%s': version %llu is younger than --grace: wait %llu hours and %llu "
                     "minutes more",
                     k->name, N(version), N(left / 3600), N(left % 3600 / 60));
}
