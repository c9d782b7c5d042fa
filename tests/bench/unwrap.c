/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-unwrap SOCKET KMS TENANT VOLUME-ID UUID KIND CIPHERTEXT VERSION COUNT PARALLEL: unwraps the
 * same key COUNT times through coffer-keyd, from PARALLEL threads, and says how long it took, as
 * JSON. What the keys are is looked at: each must be the same.
 */
#include "common/base.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/parse.h"
#include "common/strbuf.h"
#include "keyd/client.h"
#include "keyd/frame.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static struct {
    const char *socket;
    struct keyd_binding binding;
    struct keyd_wrapped key;
    atomic_llong left;
    atomic_bool failed;
} task;

static int unwrap_one(unsigned char ret[sizeof(struct key_frame)], struct error *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_errno(err, errno, "make a pipe");
    AUTO_CLOSE int in = fds[0], out = fds[1];
    if (keyd_unwrap(task.socket, &task.binding, &task.key, KEYD_USE_STAGE, NULL, out,
                    deadline_in(60000), err) < 0)
        return -1;
    if (read(in, ret, sizeof(struct key_frame)) != sizeof(struct key_frame))
        return error_set(err, ERR_INTERNAL, "no key came");
    return 0;
}

static void *work(void *unused UNUSED)
{
    unsigned char first[sizeof(struct key_frame)], next[sizeof(struct key_frame)];
    struct error err = ERROR_INIT;
    bool have = false;

    while (!atomic_load(&task.failed) && atomic_fetch_sub(&task.left, 1) > 0) {
        if (unwrap_one(have ? next : first, &err) < 0 ||
            (have && memcmp(first, next, sizeof(struct key_frame)) != 0)) {
            (void)fprintf(stderr, "bench-unwrap: %s\n", err.msg);
            atomic_store(&task.failed, true);
        }
        have = true;
    }
    explicit_bzero(first, sizeof(first));
    explicit_bzero(next, sizeof(next));
    return NULL;
}

static uint64_t wall_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int run_threads(uint64_t parallel)
{
    pthread_t threads[256];
    uint64_t n = 0;

    while (n < parallel && n < ARRAY_SIZE(threads) &&
           pthread_create(&threads[n], NULL, work, NULL) == 0)
        n++;
    for (uint64_t i = 0; i < n; i++)
        (void)pthread_join(threads[i], NULL);
    return n == parallel ? 0 : -1;
}

int main(int argc, char **argv)
{
    uint64_t count, parallel, version;

    if (argc != 11 || parse_u64(argv[8], &version) < 0 || parse_u64(argv[9], &count) < 0 ||
        parse_u64(argv[10], &parallel) < 0 ||
        str_copy(task.key.kind, sizeof(task.key.kind), argv[6]) < 0 ||
        str_copy(task.key.ciphertext, sizeof(task.key.ciphertext), argv[7]) < 0)
        return 2;
    task.key.version = version;
    task.socket = argv[1];
    task.binding = (struct keyd_binding){ argv[2], argv[3], argv[4], argv[5] };
    atomic_store(&task.left, (long long)count);
    uint64_t started = wall_ns();
    if (run_threads(parallel) < 0 || atomic_load(&task.failed))
        return 1;
    (void)printf("{\"wall_ns\": %llu}\n", (unsigned long long)(wall_ns() - started));
    return 0;
}
