# Node: opens volumes of every tenant, one at a time. (coffer-keyd --allow UNWRAP,UNWRAP_CLIENT)
# Nothing here makes, rewraps, exports, rotates or changes a key. For a node or pod of one tenant: node-tenant.hcl.

# A storage key for one volume: the context names it, and another one fails. batch_input would take its contexts from the
# items and so go round "context"; not listing it refuses it, denying it says so.
path "@TRANSIT@/decrypt/@TENANT_KEY@*" {
  capabilities        = ["update"]
  required_parameters = ["context", "ciphertext"]
  allowed_parameters  = { "context" = [], "ciphertext" = [] }
  denied_parameters   = { "batch_input" = [] }
}

# A storage key that the user's device made, wrapped for the server's RSA key. RSA has no context: the volume is named inside
# what was encrypted, and coffer-keyd checks it.
path "@TRANSIT@/decrypt/@SERVER_KEY@*" {
  capabilities        = ["update"]
  required_parameters = ["ciphertext"]
  allowed_parameters  = { "ciphertext" = [] }
  denied_parameters   = { "batch_input" = [] }
}

# A storage key as a secret, for key service hcvault+kv. Its name is a random uuid; no listing.
path "@KV@/data/@KV_PREFIX@/+" {
  capabilities = ["read"]
}

# Its own token, which doesn't have the default policy, and what it may do (asked at first contact).
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
path "sys/capabilities-self" {
  capabilities = ["update"]
}
