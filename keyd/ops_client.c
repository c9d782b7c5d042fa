/* SPDX-License-Identifier: Apache-2.0 */
/* UNWRAP_CLIENT and SERVER_KEY: a key that a user's device made and lends for a session. */
#include "common/base.h"
#include "keyd/ops_job.h"

#include "common/leak.h"
#include "common/strbuf.h"
#include "keyd/pipe.h"
#include "keyd/session.h"

#include <time.h>

static struct session_claim claim_of(const struct wire_request *r)
{
    return (struct session_claim){ .volume_id = r->volume_id,
                                   .uuid = r->uuid,
                                   .fingerprint = r->fingerprint,
                                   .commitment = r->commitment };
}

static void on_session(struct kms_job *job)
{
    struct keyd_request *q = ops_request_of(job);
    const struct session_claim claim = claim_of(&q->wire);
    AUTO_SECRET struct secret *frame = job->plain, *key = NULL;
    struct error err = job->err;
    if (err.code == ERR_OK)
        LEAK("keyd:session", secret_data(frame), secret_len(frame));
    if (err.code == ERR_OK && session_open(frame, &claim, (uint64_t)time(NULL), &key, &err) == 0 &&
        ops_hand_over(q, key, &err) == 0)
        ops_end_ok(q);
    else
        ops_end_failed(q, &err);
}

void ops_unwrap_client(struct keyd_request *q)
{
    const struct session_claim claim = claim_of(&q->wire);
    struct error err = ERROR_INIT;
    const struct kms *kms;
    if (ops_prepare(q, &kms, &err) < 0 || ops_check_use(q->wire.use, &err) < 0 ||
        session_claim_check(&claim, &err) < 0 || key_pipe_check(q->descriptor, &err) < 0) {
        ops_end_failed(q, &err);
        return;
    }
    q->session = (struct kms_session){ .sealed = (const unsigned char *)q->wire.session.data,
                                       .len = q->wire.session.len,
                                       .server_key = q->wire.server_key };
    q->job.session = &q->session;
    q->job.done = on_session;
    kms_unwrap_client(kms, &q->job);
}

static void on_server_key(struct kms_job *job)
{
    struct keyd_request *q = ops_request_of(job);
    const struct keyd_server_key *key = &job->server_key;
    struct error err = job->err;
    if (err.code == ERR_OK &&
        (str_copy(q->reply.key_id, sizeof(q->reply.key_id), key->key_id) < 0 ||
         str_copy(q->reply.hash, sizeof(q->reply.hash), key->hash) < 0))
        (void)error_set(&err, ERR_INTERNAL, "the server key does not fit into the reply");
    if (err.code != ERR_OK) {
        ops_end_failed(q, &err);
        return;
    }
    q->reply.public_key =
        (struct wire_view){ .data = (const char *)key->public_key, .len = key->public_key_len };
    ops_end_ok(q);
}

/* Of no volume, so there is nothing to be bound to. */
void ops_server_key(struct keyd_request *q)
{
    struct error err = ERROR_INIT;
    const struct kms *kms;
    if (ops_begin(q, &kms, &err) < 0) {
        ops_end_failed(q, &err);
        return;
    }
    q->job.done = on_server_key;
    kms_server_key(kms, &q->job);
}
