# Controller: makes volumes' keys that it can never read, and destroys them. (coffer-keyd --allow MINT,DESTROY)
# Nothing here decrypts, reads a secret, rewraps, exports, rotates or changes a key.

# A new storage key, wrapped under the tenant's key. "wrapped" never returns the plaintext; datakey/plaintext is another path.
# Only "context" may be sent: without it the key would be bound to no volume, and "bits" is left at its default of 256.
path "@TRANSIT@/datakey/wrapped/@TENANT_KEY@*" {
  capabilities        = ["update"]
  required_parameters = ["context"]
  allowed_parameters  = { "context" = [] }
}

# A tenant's key, made at its first volume (not with `tenants: listed`: then leave this block out). Exactly this type, and
# derived: a key that isn't would take any context, so that nothing bound a ciphertext to its volume. An existing key stays
# as it is. "+" is one path segment: with "@TENANT_KEY@*" instead, a request to …/rotate or …/config that also carries these
# two parameters would be allowed. So names of other keys can be taken too: the mount should be Coffer's own.
path "@TRANSIT@/keys/+" {
  capabilities        = ["update"]
  required_parameters = ["type", "derived"]
  allowed_parameters  = { "type" = ["aes256-gcm96"], "derived" = [true] }
}

# A storage key as a secret, for key service hcvault+kv. "create" without "update": a secret that is there, or was deleted and
# not destroyed, can't be replaced (403). Without "read" the key is forgotten here as soon as it is stored. Whether a refused one
# is there already, from an attempt that was interrupted, its metadata say ("read" below): versions and dates, no key.
path "@KV@/data/@KV_PREFIX@/+" {
  capabilities = ["create"]
}

# Erasing: the data of versions, then everything that is known of the secret. Deleting data/… only hides it, so isn't here.
path "@KV@/destroy/@KV_PREFIX@/+" {
  capabilities = ["update"]
}
path "@KV@/metadata/@KV_PREFIX@/+" {
  capabilities = ["read", "delete"]
}

# Its own token, which doesn't have the default policy, and what it may do (asked after each login).
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
