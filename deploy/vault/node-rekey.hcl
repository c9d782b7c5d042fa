# Beside node.hcl, for nodes that may give a volume a new storage key (cofferctl volume rotate-key): coffer-keyd
# --allow MINT,UNWRAP. Not given by default. It makes no tenant's key: that is controller.hcl's.

# A new storage key, wrapped under the tenant's key and bound to one volume. "wrapped" never returns the plaintext.
path "@TRANSIT@/datakey/wrapped/@TENANT_KEY@*" {
  capabilities        = ["update"]
  required_parameters = ["context"]
  allowed_parameters  = { "context" = [] }
}
