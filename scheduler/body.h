/* SPDX-License-Identifier: Apache-2.0 */
/*
 * body.h: what devices send, decoded and checked: JSON of at most BODY_MAX bytes, unknown fields
 * refused, each wrong value named and none quoted. Texts of an operation end in memory that is
 * wiped. Pure but for libcrypto; thread-safe. Errors are ERR_INVALID.
 */
#ifndef COFFER_SCHEDULER_BODY_H
#define COFFER_SCHEDULER_BODY_H

#include "common/base.h"
#include "common/error.h"
#include "recipient/publickey.h"
#include "recipient/wrap.h"
#include "scheduler/operation.h"

#define BODY_MAX KIB(16)

struct body {
    const char *data; /* borrowed */
    size_t len;
};

/* A device's public key and the algorithm by which secrets are wrapped for it. */
struct body_challenge {
    char name[DEVICE_NAME_LEN + 1];
    const struct wrap_algorithm *algorithm;
    struct public_key *key; /* the caller's to free */
};
int body_challenge(const struct body *b, struct body_challenge *ret, struct error *err) MUST_CHECK;

/* Each fills op->input, and what else it says. volume: "" when there is none. */
int body_deploy(const struct body *b, struct operation *op, char volume[CLOUD_HANDLE_MAX + 1],
                struct error *err) MUST_CHECK;
int body_mount(const struct body *b, struct operation *op, struct error *err) MUST_CHECK;
int body_add(const struct body *b, struct operation *op, struct error *err) MUST_CHECK;
/* name: of the device that is to go. */
int body_remove(const struct body *b, struct operation *op, char name[DEVICE_NAME_LEN + 1],
                struct error *err) MUST_CHECK;
/* {} and nothing else. */
int body_empty(const struct body *b, struct error *err) MUST_CHECK;

#endif
