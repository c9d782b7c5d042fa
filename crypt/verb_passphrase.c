/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

#include "common/fs.h"
#include "common/secret.h"

int verb_passphrase(struct request *q, json_t *reply, struct error *err)
{
    AUTO_SESSION struct session s = SESSION_INIT;
    const char *what = "where the passphrase goes (descriptor 6)";

    if (session_begin(q, &s, err) < 0 || luks_verify(&s.luks, s.passphrase, err) < 0)
        return -1;
    if (fs_write_all(FD_OUT, secret_data(s.passphrase), secret_len(s.passphrase), what, err) < 0)
        return -1;
    return fs_write_all(FD_OUT, "\n", 1, what, err);
}
