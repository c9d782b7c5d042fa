/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl doctor: one page: everything Coffer depends on, what is wrong and what to do. */
#include "common/base.h"
#include "cofferctl/doctor.h"
#include "cofferctl/verbs.h"

#include "common/json.h"
#include "common/strbuf.h"

#include <pthread.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_SECONDS 20

static struct {
    const char *crypt_helper, *device_dir, *keyd_socket, *node_socket, *admin_socket;
    const char *controller_socket;
} options;

static const struct flag flags[] = {
    { "crypt-helper", NULL, FLAG_STRING, &options.crypt_helper, "/usr/libexec/coffer/coffer-crypt",
      "absolute path of coffer-crypt", NULL },
    { "device-dir", NULL, FLAG_STRING, &options.device_dir, "/dev/coffer",
      "coffer-node's device nodes", NULL },
    { "keyd-socket", "COFFER_KEYD_SOCKET", FLAG_STRING, &options.keyd_socket,
      "/run/coffer/keyd.sock", "coffer-keyd's socket", NULL },
    { "csi-socket", NULL, FLAG_STRING, &options.node_socket, "/run/coffer/csi.sock",
      "coffer-node's CSI socket", NULL },
    { "admin-socket", "COFFER_ADMIN_SOCKET", FLAG_STRING, &options.admin_socket,
      "/run/coffer/admin.sock", "coffer-node's admin socket", NULL },
    { "controller-socket", NULL, FLAG_STRING, &options.controller_socket, "",
      "coffer-controller's CSI socket; empty: it is not on this machine", NULL },
};

static const struct check {
    const char *name;
    doctor_check *run;
    bool each_pool;
} checks[] = {
    { "user", check_user, false },
    { "config", check_config, false },
    { "pool", check_pool, true },
    { "device-mapper", check_device_mapper, false },
    { "dm-crypt", check_crypt_target, false },
    { "loop", check_loop, false },
    { "keyring", check_keyring, false },
    { "device-dir", check_device_dir, false },
    { "tools", check_tools, false },
    { "coffer-crypt", check_helper, false },
    { "coffer-keyd", check_keyd, false },
    { "coffer-node", check_node, false },
    { "admin socket", check_admin, false },
    { "controller", check_controller, false },
    { "clock", check_clock, false },
    { "swap", check_swap, false },
    { "core dumps", check_cores, false },
};

static const char *const verdicts[] = {
    [DOCTOR_OK] = "OK", [DOCTOR_WARN] = "WARN", [DOCTOR_FAIL] = "FAIL"
};

void doctor_say(struct findings *f, enum verdict v, const char *fix, const char *fmt, ...)
{
    char text[700];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    /* what a disk or a peer said may be no text at all, which jansson refuses */
    json_t *row = json_pack("{s:s, s:s, s:s, s:s}", "check", f->check, "state", verdicts[v],
                            "found", text, "fix", fix);
    if (row == NULL)
        row = json_pack("{s:s, s:s, s:s, s:s}", "check", f->check, "state", verdicts[v], "found",
                        "what was found can't be shown as text", "fix", fix);
    (void)json_array_append_new(f->rows, row);
    if (v > f->worst)
        f->worst = v;
}

/* ---- one check in its thread ---- */

struct job { /* the thread's own when it is left behind */
    struct doctor doctor;
    doctor_check *run;
    struct findings findings;
};

static void *run_job(void *arg)
{
    struct job *j = arg;
    j->run(&j->doctor, &j->findings);
    return NULL;
}

/* A check that doesn't end keeps its job, and the process ends without it. */
static bool run_limited(struct job *j)
{
    struct timespec until;
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_job, j) != 0) {
        (void)run_job(j);
        return true;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LIMIT_SECONDS;
    if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until) == 0)
        return true;
    (void)pthread_detach(thread);
    return false;
}

struct page {
    json_t *rows;
    struct doctor doctor;
    struct config *config;
    unsigned counts[ARRAY_SIZE(verdicts)];
};

static void take_rows(struct page *p, json_t *rows)
{
    json_t *row;
    size_t i;
    json_array_foreach (rows, i, row) {
        const char *state = json_string_value(json_object_get(row, "state"));
        for (size_t v = 0; v < ARRAY_SIZE(verdicts); v++)
            p->counts[v] += state != NULL && strcmp(state, verdicts[v]) == 0;
    }
    (void)json_array_extend(p->rows, rows);
}

static int run_check(struct page *p, const struct check *c, const struct pool_config *pool,
                     struct error *err)
{
    struct job *j = calloc(1, sizeof(*j));
    if (j == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory");
    *j = (struct job){ .doctor = p->doctor,
                       .run = c->run,
                       .findings = { .rows = json_array(), .check = c->name, .pool = pool } };
    if (run_limited(j)) {
        if (j->findings.config != NULL) {
            p->config = j->findings.config;
            p->doctor.config = p->config;
        }
        take_rows(p, j->findings.rows);
        json_decref(j->findings.rows);
        free(j);
        return 0;
    }
    struct findings late = { .rows = json_array(), .check = c->name };
    doctor_say(&late, DOCTOR_FAIL, "", "it gave no answer within %d seconds%s%s", LIMIT_SECONDS,
               pool != NULL ? ": pool " : "", pool != NULL ? pool->name : "");
    take_rows(p, late.rows);
    json_decref(late.rows);
    return 0;
}

static int run_checks(struct page *p, struct error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
        const struct check *c = &checks[i];
        size_t n = !c->each_pool ? 1 : p->config != NULL ? p->config->n_pools : 0;
        for (size_t k = 0; k < n; k++) {
            if (run_check(p, c, c->each_pool ? &p->config->pools[k] : NULL, err) < 0)
                return -1;
        }
    }
    return 0;
}

/* ---- the page ---- */

static void print_row(FILE *to, const json_t *row)
{
    AUTO_STRBUF struct strbuf line = STRBUF_INIT(8192);
    const char *fix = json_string_value(json_object_get(row, "fix"));
    strbuf_addf(&line, "%-4s  %-13s  ", json_string_value(json_object_get(row, "state")),
                json_string_value(json_object_get(row, "check")));
    output_text(&line, json_string_value(json_object_get(row, "found")));
    (void)fprintf(to, "%s\n", strbuf_text(&line));
    if (fix == NULL || fix[0] == '\0')
        return;
    strbuf_clear(&line);
    output_text(&line, fix);
    (void)fprintf(to, "%21s-> %s\n", "", strbuf_text(&line));
}

static int print_page(const struct cli *cli, const json_t *rows, struct error *err)
{
    const json_t *row;
    size_t i;
    if (cli->output == OUTPUT_JSON)
        return output_list(cli->out, cli->output, rows, NULL, 0, err);
    json_array_foreach (rows, i, row)
        print_row(cli->out, row);
    if (fflush(cli->out) != 0)
        return error_set(err, ERR_INTERNAL, "the page can't be written");
    return 0;
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_JSON json_t *rows = json_array();
    struct page p = { .rows = rows,
                      .doctor = { .config_path = cli->config,
                                  .crypt_helper = options.crypt_helper,
                                  .device_dir = options.device_dir,
                                  .keyd_socket = options.keyd_socket,
                                  .node_socket = options.node_socket,
                                  .admin_socket = options.admin_socket,
                                  .controller_socket = options.controller_socket,
                                  .root = geteuid() == 0 } };
    int r = run_checks(&p, err);
    if (r == 0)
        r = print_page(cli, rows, err);
    /* the configuration is kept: a check that was left behind may still read it */
    if (r == 0 && p.counts[DOCTOR_FAIL] > 0)
        return error_set(err, ERR_PRECONDITION, "%u failed, %u to look at, %u are fine",
                         p.counts[DOCTOR_FAIL], p.counts[DOCTOR_WARN], p.counts[DOCTOR_OK]);
    return r;
}

const struct verb doctor = {
    .group = "doctor",
    .name = "",
    .help = "check everything Coffer depends on, and say what to do; exit code 0 when nothing "
            "failed",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .run = run,
};
