/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inline.h: requests to a node that come by kubelet (docs/client-keys.md). A pod has an inline
 * volume of this driver in its spec (in CSI's words an ephemeral one), which holds nothing: what is
 * asked for is in its attributes, what must stay a secret in the Secret that it names. Kubelet
 * repeats the call until it went well, so each request says how it can be told that what it asks
 * for is so already. Here are the words that coffer-scheduler and coffer-node share.
 */
#ifndef COFFER_VOLUME_INLINE_H
#define COFFER_VOLUME_INLINE_H

/* Kubelet's own, which it puts over what the pod says (CSIDriver: podInfoOnMount). */
#define INLINE_EPHEMERAL "csi.storage.k8s.io/ephemeral" /* "true" */
#define INLINE_NAMESPACE "csi.storage.k8s.io/pod.namespace"
#define INLINE_POD       "csi.storage.k8s.io/pod.name"

/* Attributes; nothing in them is a secret. */
#define INLINE_ACTION      "action"
#define INLINE_VOLUME      "volume"        /* the volume's id */
#define INLINE_FINGERPRINT "fingerprint"   /* of the device that comes or goes */
#define INLINE_WRAPPED     "wrappedSha256" /* of what is wrapped for the one that comes: hex */
#define INLINE_COMMITMENT  "commitment"    /* the new key's, when one goes */

/* Actions. The first two want a session, unless what they ask for is so already. */
#define INLINE_ADD    "add-device"
#define INLINE_REMOVE "remove-device"
#define INLINE_CLOSED "closed" /* goes well when no mapping of the volume is left on the node */

/* Secrets: NodeStage's three are what the asking device lends the present key with; these are the
 * new device's, and the new key's. */
#define INLINE_SECRET_KEY             "publicKey"
#define INLINE_SECRET_ALGORITHM       "algorithm"
#define INLINE_SECRET_FORM            "wrapped"
#define INLINE_SECRET_LABEL           "label"
#define INLINE_SECRET_NEW_SESSION     "newSession"
#define INLINE_SECRET_NEW_SERVER_KEY  "newServerKey"
#define INLINE_SECRET_NEW_FINGERPRINT "newFingerprint"
#define INLINE_SECRET_NEW_RECIPIENTS  "newRecipients"

#endif
