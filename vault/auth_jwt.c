/* SPDX-License-Identifier: Apache-2.0 */
/* kubernetes and jwt: a service account's token, from a file that kubelet renews: it is read at
 * each login. */
#include "common/base.h"
#include "vault/internal.h"

void auth_jwt_login(struct vault *v)
{
    AUTO_WIPE_BUFFER struct wipe_buffer jwt = WIPE_BUFFER_INIT;
    struct error err = ERROR_INIT;

    if (auth_read_file(v->auth.token_path, &jwt, &err) < 0) {
        token_fail(v, &err);
        return;
    }
    auth_login(v, json_pack("{s:s, s:s}", "role", v->auth.role, "jwt", jwt.bytes));
}
