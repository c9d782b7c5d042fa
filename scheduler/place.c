/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/place.h"

#include "common/cleanup.h"

static const char *const verdicts[PLACE_VERDICTS] = {
    [PLACE_FITS] = "fits",
    [PLACE_OTHER_NODE] = "the volume is elsewhere",
    [PLACE_CLOSED] = "takes no VMs now",
    [PLACE_NO_MEMORY] = "too little memory",
    [PLACE_NO_STORAGE] = "too little room for the volume",
    [PLACE_TOO_MANY] = "as many VMs as it may have",
};

static bool sticky(const struct place_request *r)
{
    return r->volume_node[0] != '\0';
}

/* A VM whose volume is here may use the headroom: it has nowhere else to go. */
static bool memory_fits(const struct place_node *node, const struct place_request *r)
{
    uint32_t percent = r->headroom_percent < 100 ? r->headroom_percent : 100;
    uint64_t kept = sticky(r) ? 0 : node->memory / 100 * percent;
    uint64_t usable = node->memory - kept;

    return node->memory_used <= usable && r->memory <= usable - node->memory_used;
}

enum place_verdict place_judge(const struct place_node *node, const struct place_request *r)
{
    if (sticky(r) && strcmp(node->name, r->volume_node) != 0)
        return PLACE_OTHER_NODE;
    if (!node->schedulable)
        return PLACE_CLOSED;
    if (!memory_fits(node, r))
        return PLACE_NO_MEMORY;
    if (!sticky(r) && r->storage > node->storage_free)
        return PLACE_NO_STORAGE;
    if (node->vms_max != 0 && node->vms >= node->vms_max)
        return PLACE_TOO_MANY;
    return PLACE_FITS;
}

/* Negative: a comes before b. Shares of memory are compared without rounding. */
static int compare(const struct place_node *a, const struct place_node *b,
                   const struct place_request *r)
{
    unsigned __int128 of_a = (unsigned __int128)a->memory_used * (b->memory > 0 ? b->memory : 1);
    unsigned __int128 of_b = (unsigned __int128)b->memory_used * (a->memory > 0 ? a->memory : 1);

    if (of_a != of_b)
        return (of_a > of_b) == r->spread ? 1 : -1;
    return strcmp(a->name, b->name);
}

/* "no node has room: 3 too little memory, 1 takes no VMs now". Where no node was seen to lack room
 * (each is away, or cordoned), the same request may fit a moment later. */
static int no_room(const size_t counts[PLACE_VERDICTS], size_t n, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(512);
    bool all_closed = n > 0 && counts[PLACE_CLOSED] == n;

    for (size_t i = 1; i < PLACE_VERDICTS; i++) {
        if (counts[i] > 0)
            strbuf_addf(&text, "%s%zu %s", text.len > 0 ? ", " : ": ", counts[i], verdicts[i]);
    }
    return error_set(err, all_closed ? ERR_UNAVAILABLE : ERR_EXHAUSTED, "no node has room%s",
                     text.len > 0 ? strbuf_text(&text) : ": there is none");
}

static int place_sticky(const struct place_node *nodes, size_t n, const struct place_request *r,
                        size_t *ret, struct error *err)
{
    enum place_verdict verdict = PLACE_OTHER_NODE;

    for (size_t i = 0; i < n && verdict == PLACE_OTHER_NODE; i++) {
        verdict = place_judge(&nodes[i], r);
        if (verdict == PLACE_FITS) {
            *ret = i;
            return 0;
        }
    }
    if (verdict == PLACE_OTHER_NODE)
        return error_set(err, ERR_UNAVAILABLE, "node '%s', where the volume is, isn't there",
                         r->volume_node);
    return error_set(err, verdict == PLACE_CLOSED ? ERR_UNAVAILABLE : ERR_EXHAUSTED,
                     "node '%s', where the volume is: %s", r->volume_node, verdicts[verdict]);
}

int place(const struct place_node *nodes, size_t n, const struct place_request *r, size_t *ret,
          struct error *err)
{
    size_t counts[PLACE_VERDICTS] = { 0 }, best = 0;

    if (sticky(r))
        return place_sticky(nodes, n, r, ret, err);
    for (size_t i = 0; i < n; i++) {
        enum place_verdict verdict = place_judge(&nodes[i], r);

        if (verdict == PLACE_FITS &&
            (counts[PLACE_FITS] == 0 || compare(&nodes[i], &nodes[best], r) < 0))
            best = i;
        counts[verdict]++;
    }
    if (counts[PLACE_FITS] == 0)
        return no_room(counts, n, err);
    *ret = best;
    return 0;
}

struct judged {
    const struct place_node *node;
    enum place_verdict verdict;
};

/* Those that fit in the order in which they would be taken, then the others, the volume's first. */
static int judged_order(const void *pa, const void *pb, void *request)
{
    const struct judged *a = pa, *b = pb;
    bool elsewhere_a = a->verdict == PLACE_OTHER_NODE, elsewhere_b = b->verdict == PLACE_OTHER_NODE;

    if (elsewhere_a != elsewhere_b)
        return elsewhere_a ? 1 : -1;
    if (a->verdict != b->verdict)
        return a->verdict < b->verdict ? -1 : 1;
    return compare(a->node, b->node, request);
}

static void add_line(struct strbuf *to, const struct judged *j, bool chosen)
{
    const struct place_node *node = j->node;

    strbuf_addf(
        to, "%s %s: %s (%llu of %llu MiB of memory taken, %llu MiB free for volumes, %u VMs",
        chosen ? "*" : " ", node->name, verdicts[j->verdict],
        (unsigned long long)(node->memory_used >> 20), (unsigned long long)(node->memory >> 20),
        (unsigned long long)(node->storage_free >> 20), node->vms);
    if (node->vms_max != 0)
        strbuf_addf(to, " of at most %u", node->vms_max);
    strbuf_adds(to, ")\n");
}

static void add_rest(struct strbuf *to, const struct judged *rest, size_t n)
{
    size_t counts[PLACE_VERDICTS] = { 0 };

    for (size_t i = 0; i < n; i++)
        counts[rest[i].verdict]++;
    strbuf_addf(to, "  and %zu more:", n);
    for (size_t i = 0, listed = 0; i < PLACE_VERDICTS; i++) {
        if (counts[i] > 0)
            strbuf_addf(to, "%s %zu %s", listed++ > 0 ? "," : "", counts[i], verdicts[i]);
    }
    strbuf_adds(to, "\n");
}

int place_explain(const struct place_node *nodes, size_t n, const struct place_request *r,
                  struct strbuf *to, struct error *err)
{
    AUTO_FREE struct judged *all = calloc(n > 0 ? n : 1, sizeof(*all));
    struct place_request order = *r;
    struct error why = ERROR_INIT;
    size_t chosen = n, shown = n < PLACE_EXPLAINED ? n : PLACE_EXPLAINED;

    if (all == NULL)
        return error_set(err, ERR_EXHAUSTED, "no memory to explain a placement");
    for (size_t i = 0; i < n; i++)
        all[i] = (struct judged){ &nodes[i], place_judge(&nodes[i], r) };
    qsort_r(all, n, sizeof(*all), judged_order, &order);
    if (place(nodes, n, r, &chosen, &why) < 0)
        strbuf_addf(to, "%s\n", why.msg);
    for (size_t i = 0; i < shown; i++)
        add_line(to, &all[i], chosen < n && all[i].node == &nodes[chosen]);
    if (n > shown)
        add_rest(to, all + shown, n - shown);
    return strbuf_check(to, "the explanation", err);
}
