// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/hashicorp/vault/audit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
)

var auditFile = audit.NewFileBackend

// limitJSON sets what Vault's configuration parser sets when a listener's stanza doesn't.
func limitJSON(l *configutil.Listener) {
	l.CustomMaxJSONDepth = vaulthttp.CustomMaxJSONDepth
	l.CustomMaxJSONStringValueLength = vaulthttp.CustomMaxJSONStringValueLength
	l.CustomMaxJSONObjectEntryCount = vaulthttp.CustomMaxJSONObjectEntryCount
	l.CustomMaxJSONArrayElementCount = vaulthttp.CustomMaxJSONArrayElementCount
	l.CustomMaxJSONToken = vaulthttp.CustomMaxJSONToken
}
