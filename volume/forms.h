/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forms.h: storage keys as a user's device wrapped them for recipients (keySource client,
 * docs/client-keys.md). Nobody but who has a private half can tell what is in one, so what is
 * looked at is its form. Pure; no error quotes a value.
 */
#ifndef COFFER_VOLUME_FORMS_H
#define COFFER_VOLUME_FORMS_H

#include "common/base.h"
#include "common/error.h"
#include "volume/recipients.h"

/* One SEQUENCE in DER and nothing behind it, as a SubjectPublicKeyInfo is. */
bool form_is_der(const unsigned char *der, size_t len);
/* As long as a storage key may be that r->algorithm wrapped. */
bool form_fits(const struct recipient *r);

/* A new storage key for all of a list: text is a JSON array of {"fingerprint", "wrapped"}, one for
 * each of them, in any order, and for nobody else; `wrapped` is base64 of as many bytes as the one
 * before had. Each gets its new one. ERR_INVALID: list is as it was. */
int forms_take(const char *text, struct recipient_list *list, struct error *err) MUST_CHECK;

#endif
