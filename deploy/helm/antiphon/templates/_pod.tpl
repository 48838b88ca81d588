{{/* What all pods share: the restricted security of Kubernetes, volumes, probes, and where they run. */}}

{{- define "antiphon.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int .Values.pod.runAsUser }}
runAsGroup: {{ int .Values.pod.runAsGroup }}
fsGroup: {{ int .Values.pod.runAsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "antiphon.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "antiphon.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* (dict "root" $ "user" KEY), as for the Secret of a user of NATS. */}}
{{- define "antiphon.volumes" -}}
{{- $secret := include "antiphon.nats-secret" . -}}
{{- with .root -}}
- {name: tmp, emptyDir: {sizeLimit: 256Mi}}
{{- if and $secret (eq .Values.nats.auth.type "creds") }}
- name: nats-auth
  secret:
    secretName: {{ $secret | quote }}
    items: [{key: {{ .Values.nats.auth.credsKey | quote }}, path: nats.creds}]
{{- end }}
{{- if .Values.nats.tls.existingSecret }}
- name: nats-tls
  secret: {secretName: {{ tpl .Values.nats.tls.existingSecret . | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "antiphon.mounts" -}}
{{- $secret := include "antiphon.nats-secret" . -}}
{{- with .root -}}
- {name: tmp, mountPath: /tmp}
{{- if and $secret (eq .Values.nats.auth.type "creds") }}
- {name: nats-auth, mountPath: /etc/antiphon/nats-auth, readOnly: true}
{{- end }}
{{- if .Values.nats.tls.existingSecret }}
- {name: nats-tls, mountPath: /etc/antiphon/nats-tls, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{/* The Secrets that a component reads, as JSON by the name of their volume: (dict "root" $ "component" NAME). */}}
{{- define "antiphon.secretsOf" -}}
{{- $found := dict -}}
{{- $database := has .component (list "session-api" "persistence" "projections" "migrate") -}}
{{- $calls := has .component (list "session-api" "webhook-ingest" "agent-worker") -}}
{{- $users := dict "migrate" "persistence" "publish-flows" "flowPublisher" -}}
{{- $user := get $users .component | default (.component | replace "-" "_" | camelcase | untitle) -}}
{{- $nats := include "antiphon.nats-secret" (dict "root" .root "user" $user) -}}
{{- $login := ternary "" $user (eq .component "migrate") -}}
{{- with .root.Values -}}
{{- if and .secrets.asFiles $nats (eq .nats.auth.type "userPassword") -}}
{{- $_ := set $found "secrets/nats" (dict "name" $nats "user" .nats.auth.userKey "password" .nats.auth.passwordKey) -}}
{{- end -}}
{{- if and .secrets.asFiles $database -}}
{{- $_ := set $found "secrets/postgres" (dict "name" .postgres.existingSecret "dsn" (get .postgres.dsnKeys $login | default .postgres.dsnKey)) -}}
{{- end -}}
{{- if and .secrets.asFiles $calls -}}
{{- $_ := set $found "secrets/livekit" (dict "name" .livekit.existingSecret "key" .livekit.apiKeyKey "secret" .livekit.apiSecretKey) -}}
{{- end -}}
{{- if and .secrets.asFiles .sessionApi.bootstrapKeySecret (eq $.component "session-api") -}}
{{- $_ := set $found "secrets/bootstrap" (dict "name" .sessionApi.bootstrapKeySecret "api-key" .sessionApi.bootstrapKeyKey) -}}
{{- end -}}
{{- if and .postgres.tls.existingSecret $database -}}
{{- $_ := set $found "postgres-tls" (dict "name" .postgres.tls.existingSecret) -}}
{{- end -}}
{{- if and .livekit.tls.existingSecret $calls -}}
{{- $_ := set $found "livekit-tls" (dict "name" .livekit.tls.existingSecret) -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}

{{/* A volume for each, replaced by the kubelet when the Secret changes: a subPath would stay as it was. */}}
{{- define "antiphon.secretVolumes" -}}
{{- range $path, $secret := include "antiphon.secretsOf" . | fromJson }}
- name: {{ $path | replace "/" "-" }}
  secret:
    secretName: {{ tpl $secret.name $.root | quote }}
    {{- with omit $secret "name" }}
    items:
      {{- range $file, $key := . }}
      - {key: {{ $key | quote }}, path: {{ $file }}}
      {{- end }}
    {{- end }}
{{- end }}
{{- end }}

{{- define "antiphon.secretMounts" -}}
{{- range $path, $secret := include "antiphon.secretsOf" . | fromJson }}
- {name: {{ $path | replace "/" "-" }}, mountPath: /etc/antiphon/{{ $path }}, readOnly: true}
{{- end }}
{{- end }}

{{/* Live says that the event loop runs, and never that NATS, Postgres or LiveKit answer: their outage restarts nothing.
     A readiness check has 3 s for its answer. */}}
{{- define "antiphon.probes" -}}
startupProbe:
  httpGet: {path: /health/live, port: {{ .health }}}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 90
livenessProbe:
  httpGet: {path: /health/live, port: {{ .health }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /health/ready, port: {{ .health }}}
  periodSeconds: 5
  timeoutSeconds: 4
  failureThreshold: 2
{{- end }}

{{/* The nodes of a service: Jobs and tests with its image run there too. */}}
{{- define "antiphon.nodes" -}}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "antiphon.nodes-of-job" -}}
{{- include "antiphon.nodes" . }}
{{- with pick (.values.affinity | default (dict)) "nodeAffinity" }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "antiphon.placement" -}}
{{- include "antiphon.nodes" . }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- if .values.topologySpreadConstraints }}
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
{{- else }}
{{- $context := . }}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels: {{- include "antiphon.selector" $context | nindent 8 }}
{{- end }}
{{- end }}
{{- end }}
