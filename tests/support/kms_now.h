/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kms_now.h: questions to a key service that answers at once (the file driver), as plain calls. The
 * test fails when the answer doesn't come at once.
 */
#ifndef COFFER_TESTS_SUPPORT_KMS_NOW_H
#define COFFER_TESTS_SUPPORT_KMS_NOW_H

#include "keyd/kms.h"

#include <assert.h>

struct kms_now {
    struct kms_job job;
    bool done;
};

static void kms_now_done(struct kms_job *job)
{
    ((struct kms_now *)((char *)job - offsetof(struct kms_now, job)))->done = true;
}

static inline int kms_now_result(const struct kms_now *now, struct error *err)
{
    assert(now->done);
    return now->job.err.code == ERR_OK ? 0 : error_pass(err, &now->job.err);
}

static inline int kms_mint_now(const struct kms *kms, const struct kms_call *call,
                               struct keyd_wrapped *ret, struct error *err)
{
    struct kms_now now = { .job = { .call = *call, .done = kms_now_done } };

    kms_mint(kms, &now.job);
    if (kms_now_result(&now, err) < 0)
        return -1;
    *ret = now.job.wrapped;
    return 0;
}

static inline int kms_unwrap_now(const struct kms *kms, const struct kms_call *call,
                                 const struct keyd_wrapped *key, struct secret **ret,
                                 struct error *err)
{
    struct kms_now now = { .job = { .call = *call, .key = key, .done = kms_now_done } };

    kms_unwrap(kms, &now.job);
    if (kms_now_result(&now, err) < 0)
        return -1;
    *ret = now.job.plain;
    return 0;
}

#endif
