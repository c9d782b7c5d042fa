/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/host_secrets.h: the secrets of a call (--secrets FILE), as Kubernetes would take them
 * from a Secret: one JSON object of texts. They go into the request and nowhere else; they are not
 * kept with the volume. No error quotes one, and no core file is written from then on.
 */
#ifndef COFFER_COFFERCTL_HOST_SECRETS_H
#define COFFER_COFFERCTL_HOST_SECRETS_H

#include "common/base.h"
#include "common/error.h"

#include <jansson.h>

extern const char *host_secrets_path, *host_new_secrets_path; /* "": none */

#define HOST_FLAG_SECRETS                                                                      \
    {                                                                                          \
        "secrets", NULL, FLAG_STRING, &host_secrets_path, "",                                  \
            "file with the call's secrets, a JSON object of texts (docs/client-keys.md)", NULL \
    }

/* A new key that a user's device brings (NodeAdmin's new_secrets). */
#define HOST_FLAG_NEW_SECRETS                                                                     \
    {                                                                                             \
        "new-secrets", NULL, FLAG_STRING, &host_new_secrets_path, "",                             \
            "file with a new key of the user's device, likewise; for keySource client only", NULL \
    }

/* *ret: an object, empty without the flag; the caller's. ERR_INVALID: it isn't one of texts. */
int host_secrets_read(json_t **ret, struct error *err) MUST_CHECK;
/* Adds what the flags say to a request of coffer.v1.NodeAdmin: its fields `secrets` and
 * `new_secrets`, which aren't there without. Likewise. */
int host_secrets_add(json_t *request, struct error *err) MUST_CHECK;
int host_new_secrets_add(json_t *request, struct error *err) MUST_CHECK;

#endif
