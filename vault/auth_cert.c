/* SPDX-License-Identifier: Apache-2.0 */
/* cert: the TLS client certificate is the credential. A role, when given, is the one to use. */
#include "common/base.h"
#include "vault/internal.h"

void auth_cert_login(struct vault *v)
{
    auth_login(v, v->auth.role == NULL ? json_object() : json_pack("{s:s}", "name", v->auth.role));
}
