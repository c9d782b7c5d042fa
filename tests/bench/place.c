/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place NODES USERS: NODES equal nodes fill with USERS users; then users come and go and nodes are
 * lost and come back, while scheduler/place.c decides where each new cloud goes and whether each
 * old one can be opened. Prints JSON: what a decision cost (CPU ns), which share of the nodes is
 * used, how full these are, and how much room is lost to fragmentation. Fixed seed, no clock but
 * the CPU's. Fails when a node was ever given more than it has, or a VM went where its volume
 * isn't.
 */
#include "common/base.h"

#include "common/cleanup.h"
#include "common/parse.h"
#include "scheduler/place.h"

#include <time.h>

#define VM_MEMORY    MIB(256)
#define VOLUME       GIB(1)
#define NODE_MEMORY  GIB(64)
#define NODE_STORAGE GIB(400)
#define HEADROOM     10
#define AWAY         UINT32_MAX /* the user has no cloud */

struct user {
    uint32_t node; /* where the volume is */
    bool runs;
};

struct cost {
    uint64_t ns, n, refused;
};

struct world {
    struct place_node *nodes;
    struct user *users;
    size_t n_nodes, n_users;
    struct cost new, old;
    uint64_t seed, wrong;
};

static uint64_t draw(struct world *w, uint64_t below)
{
    w->seed ^= w->seed << 13;
    w->seed ^= w->seed >> 7;
    w->seed ^= w->seed << 17;
    return w->seed % below;
}

static uint64_t cpu_now(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* A new cloud, or the VM of one that is locked. */
static void decide(struct world *w, struct user *u)
{
    bool is_new = u->node == AWAY;
    struct place_request r = { .volume_node = is_new ? "" : w->nodes[u->node].name,
                               .memory = VM_MEMORY,
                               .storage = VOLUME,
                               .headroom_percent = HEADROOM };
    struct cost *cost = is_new ? &w->new : &w->old;
    struct error err = ERROR_INIT;
    uint64_t start = cpu_now();
    size_t at = 0;
    int rc = place(w->nodes, w->n_nodes, &r, &at, &err);

    cost->ns += cpu_now() - start;
    cost->n++;
    cost->refused += rc < 0;
    if (rc < 0)
        return;
    w->wrong += !is_new && at != u->node;
    w->nodes[at].memory_used += VM_MEMORY;
    w->nodes[at].vms++;
    w->nodes[at].storage_free -= is_new ? VOLUME : 0;
    w->wrong += w->nodes[at].memory_used > w->nodes[at].memory ||
                w->nodes[at].storage_free > NODE_STORAGE || !w->nodes[at].schedulable;
    *u = (struct user){ .node = (uint32_t)at, .runs = true };
}

static void stop(struct world *w, struct user *u)
{
    w->nodes[u->node].memory_used -= VM_MEMORY;
    w->nodes[u->node].vms--;
    u->runs = false;
}

static void leave(struct world *w, struct user *u)
{
    if (u->runs)
        stop(w, u);
    w->nodes[u->node].storage_free += VOLUME;
    u->node = AWAY;
}

/* Its VMs end; the volumes stay on it, and open nowhere until it is back. */
static void lose(struct world *w, uint32_t node)
{
    w->nodes[node].schedulable = false;
    for (size_t i = 0; i < w->n_users; i++) {
        if (w->users[i].node == node && w->users[i].runs)
            stop(w, &w->users[i]);
    }
}

/* One user does something: a new one comes, a locked one unlocks, an open one locks or leaves. */
static void one_event(struct world *w)
{
    struct user *u = &w->users[draw(w, w->n_users)];

    if (u->node == AWAY || !u->runs)
        decide(w, u);
    else if (draw(w, 4) == 0)
        leave(w, u);
    else
        stop(w, u);
}

static void churn(struct world *w)
{
    for (size_t i = 0; i < w->n_users / 2; i++) {
        if (i % 50000 == 0) {
            uint32_t node = (uint32_t)draw(w, w->n_nodes);

            if (w->nodes[node].schedulable)
                lose(w, node);
            else
                w->nodes[node].schedulable = true;
        }
        one_event(w);
    }
}

/* fragmentation: of the memory that the used nodes have for new clouds, the share that is free in
 * pieces smaller than a VM. */
static void report(const char *when, const struct world *w)
{
    uint64_t used = 0, memory = 0, all = 0, lost = 0;

    for (size_t i = 0; i < w->n_nodes; i++) {
        uint64_t usable = NODE_MEMORY - NODE_MEMORY / 100 * HEADROOM;
        uint64_t free_here =
            usable > w->nodes[i].memory_used ? usable - w->nodes[i].memory_used : 0;

        if (w->nodes[i].vms == 0)
            continue;
        used++;
        memory += w->nodes[i].memory_used;
        all += usable;
        lost += free_here % VM_MEMORY;
    }
    (void)printf("\"%s\":{\"nodes_used\":%.4f,\"fullness\":%.4f,\"fragmentation\":%.4f}", when,
                 (double)used / (double)w->n_nodes,
                 (double)memory / ((double)used * (double)NODE_MEMORY),
                 all > 0 ? (double)lost / (double)all : 0.0);
}

static void report_cost(const char *what, const struct cost *c)
{
    (void)printf("\"%s\":{\"ns\":%llu,\"decisions\":%llu,\"refused\":%llu},", what,
                 (unsigned long long)(c->n > 0 ? c->ns / c->n : 0), (unsigned long long)c->n,
                 (unsigned long long)c->refused);
}

static int run(struct world *w)
{
    for (size_t i = 0; i < w->n_nodes; i++) {
        w->nodes[i] = (struct place_node){ .schedulable = true,
                                           .memory = NODE_MEMORY,
                                           .storage_free = NODE_STORAGE };
        (void)snprintf(w->nodes[i].name, sizeof(w->nodes[i].name), "node-%05zu.example.com", i);
    }
    for (size_t i = 0; i < w->n_users; i++) {
        w->users[i].node = AWAY;
        decide(w, &w->users[i]);
    }
    (void)printf("{");
    report("filled", w);
    (void)printf(",");
    churn(w);
    report_cost("new", &w->new);
    report_cost("old", &w->old);
    report("churned", w);
    (void)printf(",\"wrong\":%llu}\n", (unsigned long long)w->wrong);
    return w->wrong == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct world w = { .seed = 88172645463325252u };
    uint64_t nodes, users;
    int rc = 1;

    if (argc != 3 || parse_u64(argv[1], &nodes) < 0 || parse_u64(argv[2], &users) < 0 ||
        nodes == 0 || users == 0 || nodes >= AWAY || users > AWAY) {
        (void)fprintf(stderr, "usage: place NODES USERS\n");
        return 2;
    }
    w.n_nodes = nodes;
    w.n_users = users;
    w.nodes = calloc(nodes, sizeof(*w.nodes));
    w.users = calloc(users, sizeof(*w.users));
    if (w.nodes != NULL && w.users != NULL)
        rc = run(&w);
    free(w.nodes);
    free(w.users);
    return rc;
}
