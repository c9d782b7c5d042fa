/* SPDX-License-Identifier: Apache-2.0 */
/*
 * certificate.h: the certificate that the TCP listener shows, and its key, from two PEM files. They
 * are read again when they change, so that a renewed one needs no restart; of two files that don't
 * belong together (one is written before the other), or can't be read, the pair that is shown
 * stays. What it replaced is kept for as long as a handshake may still use it, then wiped by
 * GnuTLS. One thread renews; all may show and ask when it expires.
 */
#ifndef COFFER_SCHEDULER_CERTIFICATE_H
#define COFFER_SCHEDULER_CERTIFICATE_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"

#include <gnutls/abstract.h>

#define CERTIFICATE_MS 10000u /* between two looks at the files */
#define PEM_MAX        KIB(256)
#define CHAIN_MAX      16u /* GnuTLS verifies no longer one */

struct certificate; /* opaque */

struct certificate_files { /* paths, borrowed */
    const char *chain;     /* the certificate, then those above it */
    const char *key;       /* not encrypted */
};

/* keep_ms: no handshake takes longer. ERR_INVALID: a file isn't what it should be, or they don't
 * belong together; and what open(2) says of it. */
int certificate_open(const struct certificate_files *files, uint64_t keep_ms,
                     struct certificate **ret, struct error *err) MUST_CHECK;
void certificate_free(struct certificate *c);

/* Looks whether the files have changed. true: what they say now is shown. Logs what is wrong with
 * them, once for each reason. */
bool certificate_renew(struct certificate *c);
/* What to show; GnuTLS borrows it. */
void certificate_show(struct certificate *c, gnutls_pcert_st **chain, unsigned int *n,
                      gnutls_privkey_t *key);
/* When the first of the chain's certificates ends, in seconds since 1970. */
uint64_t certificate_expires(struct certificate *c);

DEFINE_AUTO(certificate, certificate_free)
#define AUTO_CERTIFICATE __attribute__((cleanup(cleanup_certificate)))

#endif
