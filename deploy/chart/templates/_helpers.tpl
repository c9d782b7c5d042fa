{{/* labels of all objects; of a component's: (list . "node") */}}
{{- define "coffer.labels" -}}
app.kubernetes.io/name: coffer
{{- end }}
{{- define "coffer.component" -}}
app.kubernetes.io/name: coffer
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "coffer.image" -}}
image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- define "coffer.logFlags" -}}
- --log-format={{ .Values.log.format }}
{{- if ne .Values.log.level "info" }}
- --log-level={{ .Values.log.level }}
{{- end }}
{{- end }}

{{/* a pod's first lines: (dict "root" . "account" "coffer-node" "priority" "…") */}}
{{- define "coffer.pod" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
priorityClassName: {{ .priority }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* the pods' settings change with the configuration: so they are replaced, one after the other */}}
{{- define "coffer.annotations" -}}
kubectl.kubernetes.io/default-container: {{ .container }}
checksum/config: {{ printf "%s%s" (toJson .root.Values.config) .root.Values.vault.ca | sha256sum }}
{{- end }}

{{/* /healthz on a named port */}}
{{- define "coffer.probes" -}}
{{- range $probe := list "livenessProbe" "readinessProbe" }}
{{ $probe }}:
  httpGet:
    path: /healthz
    port: {{ $ }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}
{{- end }}

{{/* everything that isn't coffer-node; the argument is the user */}}
{{- define "coffer.least" -}}
securityContext:
  runAsUser: {{ . }}
  runAsGroup: 65532
  runAsNonRoot: true
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "coffer.nodeName" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}

{{/* What a node's coffer-keyd answers: wrapping for recipients, and devices' sessions, only where somebody wants it. */}}
{{- define "coffer.nodeOperations" -}}
{{- $wrap := .Values.recipients }}
{{- range .Values.config.pools }}{{ if .escrow }}{{ $wrap = true }}{{ end }}{{ end -}}
{{ ternary "UNWRAP,WRAP_FOR" "UNWRAP" $wrap }}{{ ternary ",UNWRAP_CLIENT" "" .Values.clientKeys.enabled }}
{{- end }}

{{/* (dict "root" . "allow" "UNWRAP" "peer" "0:0" "role" "coffer-node") */}}
{{- define "coffer.keyd" -}}
- name: coffer-keyd
  {{- include "coffer.image" .root | nindent 2 }}
  command: [coffer-keyd]
  args:
    - --socket=/run/coffer/keyd/keyd.sock
    - --allow={{ .allow }}
    - --peer={{ .peer }}
    {{- if .root.Values.vault.enabled }}
    - --vault-role={{ .role }}
    {{- end }}
    {{- if .root.Values.insecureFileKms }}
    - --insecure-file-kms
    {{- end }}
    - --http=:9812
    {{- include "coffer.logFlags" .root | nindent 4 }}
  ports:
    - name: http-keyd
      containerPort: 9812
  {{- include "coffer.probes" "http-keyd" | nindent 2 }}
  resources: {{- toYaml .root.Values.resources.keyd | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  {{- include "coffer.least" 65532 | nindent 2 }}
  volumeMounts:
    - name: config
      mountPath: /etc/coffer
      readOnly: true
    - name: keyd
      mountPath: /run/coffer/keyd
    {{- if .root.Values.vault.enabled }}
    - name: vault-login
      mountPath: /var/run/secrets/vault
      readOnly: true
    {{- end }}
    {{- if .root.Values.insecureFileKms }}
    - name: pools
      mountPath: {{ .root.Values.poolsDir }}
      readOnly: true
      mountPropagation: HostToContainer
    {{- end }}
{{- end }}

{{/* what coffer-keyd's pods have in common */}}
{{- define "coffer.keydVolumes" -}}
- name: config
  projected:
    sources:
      - configMap:
          name: coffer-config
      {{- if .Values.vault.enabled }}
      - configMap:
          name: coffer-vault-ca
      {{- end }}
- name: keyd
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
{{- if .Values.vault.enabled }}
- name: vault-login
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          audience: {{ .Values.vault.audience }}
          path: token
          expirationSeconds: 3600
{{- end }}
- name: pools
  hostPath:
    path: {{ .Values.poolsDir }}
    type: DirectoryOrCreate
{{- end }}

{{/* both containers of the rotation's pods; the user is the pools' owner */}}
{{- define "coffer.rotationContainer" -}}
resources: {{- toYaml .Values.resources.rotation | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
{{- include "coffer.least" 65533 | nindent 0 }}
volumeMounts:
  - name: config
    mountPath: /etc/coffer
    readOnly: true
  - name: vault-login
    mountPath: /var/run/secrets/vault
    readOnly: true
  - name: pools
    mountPath: {{ .Values.poolsDir }}
    mountPropagation: HostToContainer
{{- end }}

{{/* what the sidecars' pods have in common: the socket, and the API server's token in the one container that needs it */}}
{{- define "coffer.sidecarVolumes" -}}
- name: csi
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
- name: api-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3607
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                fieldPath: metadata.namespace
{{- end }}
{{- define "coffer.sidecarMounts" -}}
volumeMounts:
  - name: csi
    mountPath: /run/csi
    readOnly: true
  - name: api-token
    mountPath: /var/run/secrets/kubernetes.io/serviceaccount
    readOnly: true
{{- end }}

{{- define "coffer.schedulerAccount" -}}
- kind: ServiceAccount
  name: coffer-scheduler
  namespace: {{ .Release.Namespace }}
{{- end }}
