# Node or pod of one tenant: opens volumes of the tenant that its login names, and no others.
# @ACCESSOR@ is the accessor of the mount it logs in at (`vault auth list`); the tenant is the Kubernetes namespace in the
# metadata of its alias there. auth/kubernetes sets it by itself; auth/jwt needs in its role
# claim_mappings = { "/kubernetes.io/namespace" = "service_account_namespace" }.

# No "*": exactly one key. A login without that metadata has no such line, so nothing.
path "@TRANSIT@/decrypt/@TENANT_KEY@{{identity.entity.aliases.@ACCESSOR@.metadata.service_account_namespace}}" {
  capabilities        = ["update"]
  required_parameters = ["context", "ciphertext"]
  allowed_parameters  = { "context" = [], "ciphertext" = [] }
  denied_parameters   = { "batch_input" = [] }
}

# Nothing of @KV@: the path of a secret there is a random uuid, which doesn't say whose it is.

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
