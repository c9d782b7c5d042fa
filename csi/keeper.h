/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.h: a server whose socket lies in somebody else's directory, which may be emptied or made
 * anew at any time. When the socket isn't there any more (or another one is), the server is made
 * again; when that can't be done now, each tick tries. A live socket of somebody else stays. For
 * the thread of csi_server_run alone.
 */
#ifndef COFFER_CSI_KEEPER_H
#define COFFER_CSI_KEEPER_H

#include "common/base.h"
#include "common/error.h"
#include "csi/server.h"

struct csi_keeper {
    struct csi_server_options options; /* the caller's, as is the next */
    struct csi_service service;
    struct csi_server *server; /* NULL: it doesn't serve now */
    struct error problem;      /* why not, as it was logged */
};

int csi_keeper_start(struct csi_keeper *k, struct error *err) MUST_CHECK;
void csi_keeper_tick(struct csi_keeper *k);
/* Removes the socket, then ends the server. -1: its calls didn't end (csi_server_stop). */
int csi_keeper_stop(struct csi_keeper *k);

#endif
