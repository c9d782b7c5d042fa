/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/key_report.h: what `key status --output json` found in the pools of one machine, so
 * that `key retire` and `key trim` on another one can go by it: pools that are local to a node are
 * seen by nobody else. A report is believed, it isn't signed; what it must say is judged by
 * key_judge.h.
 */
#ifndef COFFER_COFFERCTL_KEY_REPORT_H
#define COFFER_COFFERCTL_KEY_REPORT_H

#include "cofferctl/key_ring.h"
#include "common/base.h"
#include "common/error.h"
#include "common/flags.h"
#include "common/json.h"

struct report_key {
    char mount[128], name[KMS_KEY_NAME_SIZE];
    struct key_version *versions; /* ascending */
    size_t n_versions;
    uint64_t in_flight;
};

struct key_report {
    char host[256];
    int64_t made;    /* Unix time in seconds, by that machine's clock, before it looked */
    json_t *tags;    /* of its pools */
    uint64_t n_gaps; /* pools and records that it couldn't read */
    struct report_key *keys;
    size_t n_keys;
};

struct key_reports {
    struct key_report *items;
    size_t n;
};

/* The report of this machine: an object. `made` is the time from before the ring was read.
 * whole: of all keys; only such a report says that a key it doesn't name is used by no volume. Its
 * "keys" are the caller's to fill, with key_report_row. */
json_t *key_report_make(const struct key_ring *ring, const struct pool_set *set, int64_t made,
                        bool whole, struct error *err);
/* One key's row of it; a new reference, NULL: no memory. */
json_t *key_report_row(const struct ring_key *k);

/* ERR_INVALID: it is no report, or not of all keys. */
int key_report_decode(const char *text, size_t len, struct key_report *ret,
                      struct error *err) MUST_CHECK;
void key_report_release(struct key_report *r);
/* Of each file. */
int key_reports_read(const struct flag_strings *paths, struct key_reports *ret,
                     struct error *err) MUST_CHECK;
void key_reports_release(struct key_reports *reports);
#define AUTO_KEY_REPORTS __attribute__((cleanup(key_reports_release)))

/* Reports of different machines, none of them of this one (set), and as many as --nodes says. */
int key_reports_check(const struct key_reports *reports, const struct pool_set *set, uint64_t nodes,
                      struct error *err) MUST_CHECK;
/* NULL: no volume there has this key. */
const struct report_key *key_report_find(const struct key_report *r, const struct ring_key *k);

#endif
