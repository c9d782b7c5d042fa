/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd/recv.h: one frame and the descriptors that came with it. Whatever arrived is owned by the
 * struct, so that no path can leak a descriptor a peer sent.
 */
#ifndef COFFER_KEYD_RECV_H
#define COFFER_KEYD_RECV_H

#include "common/base.h"
#include "common/error.h"
#include "keyd/wire.h"

#define RECEIVED_FDS 8u /* more: MSG_CTRUNC, and the kernel closes the rest */

struct received {
    struct wire_frame frame;
    int fds[RECEIVED_FDS];
    size_t n_fds;
};

enum recv_result {
    RECV_FRAME,
    RECV_NOTHING, /* not readable after all */
    RECV_CLOSED,  /* the peer went away */
    RECV_BROKEN,  /* too long, or its descriptors were cut: end the connection; err says why */
};

/* r: empty or released. Non-blocking when fd is. */
enum recv_result receive_frame(int fd, struct received *r, struct error *err);
void received_release(struct received *r); /* closes the descriptors, wipes the frame */

#endif
