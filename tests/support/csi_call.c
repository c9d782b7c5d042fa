/* SPDX-License-Identifier: Apache-2.0 */
/*
 * csi-call: one CSI call, JSON in and out; the client of the demo, the stories and the load
 * figures.
 *
 *   csi-call ENDPOINT METHOD [JSON|-] [--timeout S] [--repeat N] [--parallel N] [--warm]
 *
 * Prints the reply's JSON. A gRPC error: "CODE: message" on stderr and the code's number as exit
 * status. A call that can't be made (usage, bad JSON) exits 64. With --repeat it prints one line of
 * figures instead; so it does for an array of requests: each is one call. With --warm the
 * connection is made first, by a Probe that isn't counted.
 */
#include "common/base.h"

#include "common/json.h"
#include "common/parse.h"
#include "common/strbuf.h"
#include "csi/client.h"
#include "csi/server.h"
#include "csi/status.h"

#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define EXIT_USAGE   64
#define INPUT_MAX    MIB(32)
#define PARALLEL_MAX 1000u

struct plan {
    const char *endpoint, *method, *json;
    uint64_t timeout_ms, repeat, parallel;
    bool warm;
};

struct load {
    const struct plan *plan;
    struct csi_client *client;
    json_t *request; /* one for all calls, or an array */
    atomic_ullong next;
    uint64_t *took_ns; /* one per call */
    atomic_ullong by_code[ERR_CODE_COUNT];
};

static int usage(const char *problem)
{
    (void)fprintf(stderr,
                  "csi-call: %s\n"
                  "usage: csi-call ENDPOINT METHOD [JSON|-] [--timeout S] [--repeat N] [--parallel "
                  "N] [--warm]\n",
                  problem);
    return EXIT_USAGE;
}

static int parse_args(int argc, char **argv, struct plan *ret)
{
    static const struct option options[] = {
        { "timeout", required_argument, NULL, 't' },
        { "repeat", required_argument, NULL, 'r' },
        { "parallel", required_argument, NULL, 'p' },
        { "warm", no_argument, NULL, 'w' },
        { NULL, 0, NULL, 0 },
    };
    uint64_t seconds = 120;
    struct plan p = { .json = "{}", .repeat = 0, .parallel = 1 };
    int opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 'w') {
            p.warm = true;
            continue;
        }
        uint64_t *to = opt == 't'   ? &seconds
                       : opt == 'r' ? &p.repeat
                       : opt == 'p' ? &p.parallel
                                    : NULL;
        if (to == NULL || parse_u64(optarg, to) < 0)
            return -1;
    }
    if (argc - optind < 2 || argc - optind > 3 || p.parallel < 1 || p.parallel > PARALLEL_MAX ||
        seconds > UINT32_MAX)
        return -1;
    p.endpoint = argv[optind];
    p.method = argv[optind + 1];
    if (argc - optind == 3)
        p.json = argv[optind + 2];
    if (p.parallel > 1 && p.repeat == 0)
        p.repeat = p.parallel;
    p.timeout_ms = seconds * 1000;
    *ret = p;
    return 0;
}

static int read_stdin(struct strbuf *sb, struct error *err)
{
    char buf[65536];
    size_t n;
    while ((n = fread(buf, 1, sizeof(buf), stdin)) > 0)
        strbuf_add(sb, buf, n);
    return strbuf_check(sb, "standard input", err);
}

static int check_request(const struct plan *p, json_t *request, struct error *err)
{
    json_t *one;
    size_t i;
    if (!json_is_array(request))
        return csi_client_check(p->method, request, err);
    json_array_foreach (request, i, one)
        if (csi_client_check(p->method, one, err) < 0)
            return -1;
    return 0;
}

static int read_request(const struct plan *p, json_t **ret, struct error *err)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(INPUT_MAX);
    if (strcmp(p->json, "-") != 0)
        strbuf_adds(&sb, p->json);
    else if (read_stdin(&sb, err) < 0)
        return -1;
    AUTO_JSON json_t *request = NULL;
    if (strbuf_check(&sb, "the request", err) < 0 ||
        json_parse(strbuf_text(&sb), sb.len, "the request", &request, err) < 0 ||
        check_request(p, request, err) < 0)
        return -1;
    *ret = TAKE_PTR(request);
    return 0;
}

static int fail(const struct error *err)
{
    (void)fprintf(stderr, "%s: %s\n", error_code_name(err->code), err->msg);
    return status_from_error(err->code);
}

static int call_once(const struct plan *p, struct csi_client *client, json_t *request)
{
    struct error err = ERROR_INIT;
    AUTO_JSON json_t *reply = NULL;
    if (csi_client_request(client, p->method, request, p->timeout_ms, &reply, &err) < 0)
        return fail(&err);
    if (json_dumpf(reply, stdout, JSON_COMPACT | JSON_SORT_KEYS) < 0 || putchar('\n') == EOF)
        return EXIT_USAGE;
    return 0;
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void *load_thread(void *arg)
{
    struct load *l = arg;
    for (;;) {
        unsigned long long i = atomic_fetch_add(&l->next, 1);
        if (i >= l->plan->repeat)
            return NULL;
        struct error err = ERROR_INIT;
        AUTO_JSON json_t *reply = NULL;
        json_t *request = json_is_array(l->request) ? json_array_get(l->request, i) : l->request;
        uint64_t start = now_ns();
        int rc = csi_client_request(l->client, l->plan->method, request, l->plan->timeout_ms,
                                    &reply, &err);
        l->took_ns[i] = now_ns() - start;
        atomic_fetch_add(&l->by_code[rc == 0 ? ERR_OK : err.code], 1);
    }
}

static int warm_up(const struct plan *p, struct csi_client *client, struct error *err)
{
    AUTO_JSON json_t *request = json_object();
    AUTO_JSON json_t *reply = NULL;
    return csi_client_request(client, "csi.v1.Identity/Probe", request, p->timeout_ms, &reply, err);
}

static int compare_u64(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static int print_load(struct load *l, uint64_t started)
{
    uint64_t n = l->plan->repeat;
    double seconds = (double)(now_ns() - started) / 1e9;
    int code = 0;
    qsort(l->took_ns, n, sizeof(*l->took_ns), compare_u64);
    (void)printf("{\"calls\":%llu,\"seconds\":%.3f,\"p50_us\":%llu,\"p99_us\":%llu,\"codes\":{",
                 (unsigned long long)n, seconds, (unsigned long long)l->took_ns[n / 2] / 1000,
                 (unsigned long long)l->took_ns[n * 99 / 100] / 1000);
    const char *comma = "";
    for (int i = 0; i < ERR_CODE_COUNT; i++) {
        unsigned long long count = atomic_load(&l->by_code[i]);
        if (count == 0)
            continue;
        (void)printf("%s\"%s\":%llu", comma, error_code_name((enum error_code)i), count);
        comma = ",";
        if (i != ERR_OK)
            code = status_from_error((enum error_code)i);
    }
    (void)printf("}}\n");
    return code;
}

static int call_many(const struct plan *p, struct csi_client *client, json_t *request)
{
    static struct load l;
    pthread_t threads[PARALLEL_MAX];
    uint64_t n = 0;
    l.plan = p;
    l.client = client;
    l.request = request;
    l.took_ns = calloc(p->repeat, sizeof(*l.took_ns));
    if (l.took_ns == NULL)
        return usage("--repeat is too large");
    uint64_t started = now_ns();
    while (n < p->parallel && pthread_create(&threads[n], NULL, load_thread, &l) == 0)
        n++;
    for (uint64_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    int code =
        n == p->parallel ? print_load(&l, started) : usage("--parallel: a thread can't be started");
    free(l.took_ns);
    return code;
}

static int run(int argc, char **argv)
{
    struct plan p;
    struct error err = ERROR_INIT;
    if (parse_args(argc, argv, &p) < 0)
        return usage("wrong arguments");
    AUTO_JSON json_t *request = NULL;
    AUTO_CSI_CLIENT struct csi_client *client = NULL;
    if (read_request(&p, &request, &err) < 0 || csi_client_open(p.endpoint, &client, &err) < 0)
        return usage(err.msg);
    if (json_is_array(request))
        p.repeat = json_array_size(request);
    if (p.warm && warm_up(&p, client, &err) < 0)
        return fail(&err);
    return p.repeat > 0 ? call_many(&p, client, request) : call_once(&p, client, request);
}

int main(int argc, char **argv)
{
    csi_server_exit(run(argc, argv));
}
