/* SPDX-License-Identifier: Apache-2.0 */
/* coffer-launch: starts, stops and lists users' VMs; root's helper of coffer-scheduler
 * (docs/launch.md). */
#include "common/base.h"

#include "common/cleanup.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/strbuf.h"
#include "launch/serve.h"
#include "launch/verb.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#define REQUEST_SECONDS 30u /* for a request to arrive; a slow client ends its own process only */

static int run_verb(const struct options *o, json_t *reply, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(REQUEST_MAX);
    AUTO_LAUNCH_CONFIG struct launch_config *config = NULL;
    const struct verb *verb = NULL;
    struct request q;

    (void)alarm(REQUEST_SECONDS);
    int r = fs_read_fd(STDIN_FILENO, "request", REQUEST_MAX, &text, err);
    (void)alarm(0);
    if (r < 0 || launch_request_decode(strbuf_text(&text), text.len, &verb, &q, err) < 0 ||
        launch_config_load(o->config, &config, err) < 0)
        return -1;
    const struct launch l = { .options = o, .config = config };
    r = verb->run(&l, &q, reply, err);
    if (r < 0)
        log_error("a request failed", KV("verb", verb->name), KV("id", q.id),
                  KV("error", err->msg));
    else if (verb->takes != 0)
        log_info("done", KV("verb", verb->name), KV("id", q.id));
    return r;
}

static int serve_verb(const struct options *o)
{
    AUTO_JSON json_t *reply = json_object();
    struct error err = ERROR_INIT;

    (void)signal(SIGPIPE, SIG_IGN);
    if (reply_set(reply, "ok", json_true(), &err) < 0 || run_verb(o, reply, &err) < 0)
        return answer_error(STDOUT_FILENO, &err, NULL) < 0 ? 1 : 0;
    return answer(STDOUT_FILENO, reply, NULL) < 0 ? 1 : 0;
}

/* The configuration is read for each request; a broken one is better heard of at once. */
static int check_config(const struct options *o, struct error *err)
{
    AUTO_LAUNCH_CONFIG struct launch_config *config = NULL;

    return launch_config_load(o->config, &config, err);
}

int main(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    struct options o;
    bool done = false;

    (void)umask(077);
    if (options_read(argc, argv, &o, &done, &err) < 0)
        return flags_usage_error(&options_program, &err);
    if (done)
        return 0;
    if (o.verb)
        return serve_verb(&o);
    if (check_config(&o, &err) < 0 || serve(&o, argv, &err) < 0) {
        log_error("coffer-launch can't go on", KV("error", err.msg));
        return 1;
    }
    return 0;
}
