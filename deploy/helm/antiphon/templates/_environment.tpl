{{/* The environment of each component. Values of Secrets are read by the kubelet; none is in the chart. */}}

{{/* The Secret of a user of NATS, its own or that of all: (dict "root" $ "user" KEY). */}}
{{- define "antiphon.nats-secret" -}}
{{- $user := ternary "persistence" .user (eq .user "projections") -}}
{{- $auth := .root.Values.nats.auth -}}
{{- tpl ((index $auth.users $user).existingSecret | default $auth.existingSecret) .root -}}
{{- end }}

{{- define "antiphon.env.nats" -}}
{{- $secret := include "antiphon.nats-secret" . -}}
{{- with .root -}}
- {name: ANTIPHON_NATS_URL, value: {{ tpl .Values.nats.url . | quote }}}
{{- with .Values.nats.auth }}
{{- if and $secret (eq .type "userPassword") $.root.Values.secrets.asFiles }}
- {name: ANTIPHON_NATS_USER_FILE, value: /etc/antiphon/secrets/nats/user}
- {name: ANTIPHON_NATS_PASSWORD_FILE, value: /etc/antiphon/secrets/nats/password}
{{- else if and $secret (eq .type "userPassword") }}
- name: ANTIPHON_NATS_USER
  valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: {{ .userKey | quote }}}}
- name: ANTIPHON_NATS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: {{ .passwordKey | quote }}}}
{{- else if $secret }}
- {name: ANTIPHON_NATS_CREDS, value: /etc/antiphon/nats-auth/nats.creds}
{{- end }}
{{- end }}
{{- with .Values.nats.tls }}
{{- if .existingSecret }}
- {name: ANTIPHON_NATS_CA, value: /etc/antiphon/nats-tls/ca.crt}
{{- if .clientCertificate }}
- {name: ANTIPHON_NATS_CERT, value: /etc/antiphon/nats-tls/tls.crt}
- {name: ANTIPHON_NATS_KEY, value: /etc/antiphon/nats-tls/tls.key}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "antiphon.env.streams" -}}
{{- with .Values.nats.replicas }}
- {name: ANTIPHON_NATS_REPLICAS, value: {{ . | quote }}}
{{- end }}
{{- with .Values.nats.streamMaxBytes }}
- {name: ANTIPHON_STREAM_MAX_BYTES, value: {{ int64 . | quote }}}
{{- end }}
{{- end }}

{{/* Of a login: (dict "root" $ "login" KEY-OF-dsnKeys); the owner's, where it has no key. */}}
{{- define "antiphon.env.postgres" -}}
{{- $postgres := .root.Values.postgres -}}
{{- if .root.Values.secrets.asFiles -}}
- {name: ANTIPHON_POSTGRES_DSN_FILE, value: /etc/antiphon/secrets/postgres/dsn}
{{- else -}}
- name: ANTIPHON_POSTGRES_DSN
  valueFrom:
    secretKeyRef: {name: {{ tpl $postgres.existingSecret .root | quote }}, key: {{ get $postgres.dsnKeys .login | default $postgres.dsnKey | quote }}}
{{- end }}
{{- end }}

{{- define "antiphon.env.livekit" -}}
{{- with .Values.livekit -}}
- {name: LIVEKIT_URL, value: {{ tpl .url $ | quote }}}
{{- if $.Values.secrets.asFiles }}
- {name: LIVEKIT_API_KEY_FILE, value: /etc/antiphon/secrets/livekit/key}
- {name: LIVEKIT_API_SECRET_FILE, value: /etc/antiphon/secrets/livekit/secret}
{{- else }}
- name: LIVEKIT_API_KEY
  valueFrom: {secretKeyRef: {name: {{ tpl .existingSecret $ | quote }}, key: {{ .apiKeyKey | quote }}}}
- name: LIVEKIT_API_SECRET
  valueFrom: {secretKeyRef: {name: {{ tpl .existingSecret $ | quote }}, key: {{ .apiSecretKey | quote }}}}
{{- end }}
{{- if .tls.existingSecret }}
- {name: SSL_CERT_FILE, value: /etc/antiphon/livekit-tls/ca.crt}
{{- end }}
{{- end }}
{{- end }}

{{- define "antiphon.env.logs" -}}
- {name: ANTIPHON_LOG_LEVEL, value: {{ .Values.log.level }}}
- {name: ANTIPHON_LOG_FORMAT, value: {{ .Values.log.format }}}
{{- with .Values.otel.endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* Of services that the public reaches: the others serve metrics beside their health. */}}
{{- define "antiphon.env.metrics" -}}
- {name: ANTIPHON_METRICS_HOST, value: {{ .Values.pod.bindAddress | quote }}}
- {name: ANTIPHON_METRICS_PORT, value: "9464"}
{{- end }}

{{- define "antiphon.env.session-api" -}}
{{ include "antiphon.env.nats" (dict "root" . "user" "sessionApi") }}
{{ include "antiphon.env.postgres" (dict "root" . "login" "sessionApi") }}
{{ include "antiphon.env.livekit" . }}
- {name: ANTIPHON_API_HOST, value: {{ .Values.pod.bindAddress | quote }}}
- {name: ANTIPHON_API_PORT, value: "8000"}
{{ include "antiphon.env.metrics" . }}
- {name: ANTIPHON_SHUTDOWN_DELAY_SECONDS, value: {{ .Values.sessionApi.shutdownDelaySeconds | quote }}}
{{- with .Values.agentWorker.agentName }}
- {name: ANTIPHON_AGENT_NAME, value: {{ . | quote }}}
{{- end }}
{{- with .Values.livekit.publicUrl }}
- {name: ANTIPHON_LIVEKIT_PUBLIC_URL, value: {{ . | quote }}}
{{- end }}
{{- with .Values.sessionApi.publicUrl }}
- {name: ANTIPHON_API_PUBLIC_URL, value: {{ . | quote }}}
{{- end }}
{{- if and .Values.sessionApi.bootstrapKeySecret .Values.secrets.asFiles }}
- {name: ANTIPHON_BOOTSTRAP_API_KEY_FILE, value: /etc/antiphon/secrets/bootstrap/api-key}
{{- else if .Values.sessionApi.bootstrapKeySecret }}
- name: ANTIPHON_BOOTSTRAP_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ tpl .Values.sessionApi.bootstrapKeySecret . | quote }}
      key: {{ .Values.sessionApi.bootstrapKeyKey | quote }}
{{- end }}
{{- end }}

{{- define "antiphon.env.webhook-ingest" -}}
{{ include "antiphon.env.nats" (dict "root" . "user" "webhookIngest") }}
{{ include "antiphon.env.livekit" . }}
- {name: ANTIPHON_WEBHOOKS_HOST, value: {{ .Values.pod.bindAddress | quote }}}
- {name: ANTIPHON_WEBHOOKS_PORT, value: "8001"}
{{ include "antiphon.env.metrics" . }}
- {name: ANTIPHON_SHUTDOWN_DELAY_SECONDS, value: {{ .Values.webhookIngest.shutdownDelaySeconds | quote }}}
{{- end }}

{{- define "antiphon.env.persistence" -}}
{{ include "antiphon.env.of-persistence" (dict "root" . "login" "persistence") }}
{{- end }}

{{- define "antiphon.env.projections" -}}
{{ include "antiphon.env.of-persistence" (dict "root" . "login" "projections") }}
{{- end }}

{{- define "antiphon.env.of-persistence" -}}
{{ include "antiphon.env.nats" (dict "root" .root "user" "persistence") }}
{{- include "antiphon.env.streams" .root }}
{{ include "antiphon.env.postgres" . }}
- {name: ANTIPHON_PERSISTENCE_HEALTH_HOST, value: {{ .root.Values.pod.bindAddress | quote }}}
- {name: ANTIPHON_PERSISTENCE_HEALTH_PORT, value: "8002"}
{{- end }}

{{- define "antiphon.env.agent-worker" -}}
{{ include "antiphon.env.nats" (dict "root" . "user" "agentWorker") }}
{{ include "antiphon.env.livekit" . }}
- {name: ANTIPHON_AGENT_HEALTH_HOST, value: {{ .Values.pod.bindAddress | quote }}}
- {name: ANTIPHON_AGENT_HEALTH_PORT, value: "8003"}
- {name: ANTIPHON_AGENT_CALLS, value: {{ int .Values.agentWorker.callsPerPod | quote }}}
- {name: ANTIPHON_AGENT_IDLE_PROCESSES, value: {{ int .Values.agentWorker.idleProcesses | quote }}}
- {name: ANTIPHON_POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: ANTIPHON_JOURNAL_DIR, value: /var/lib/antiphon/journals}
- {name: ANTIPHON_AGENT_DRAIN_TIMEOUT_SECONDS, value: {{ int .Values.agentWorker.longestCallSeconds | quote }}}
{{- with .Values.agentWorker.agentName }}
- {name: ANTIPHON_AGENT_NAME, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{- define "antiphon.env.fleet" -}}
{{ include "antiphon.env.nats" (dict "root" . "user" "fleet") }}
- {name: ANTIPHON_FLEET_HOST, value: {{ .Values.pod.bindAddress | quote }}}
- {name: ANTIPHON_FLEET_PORT, value: "8005"}
- {name: ANTIPHON_FLEET_WARM_CALLS, value: {{ int .Values.fleet.warmCalls | quote }}}
- {name: ANTIPHON_FLEET_DELETION_COST, value: {{ ternary "kubernetes" "off" .Values.fleet.deletionCosts | quote }}}
- {name: ANTIPHON_FLEET_NAMESPACE, value: {{ .Release.Namespace }}}
- {name: ANTIPHON_FLEET_POD_SELECTOR, value: "app.kubernetes.io/instance={{ .Release.Name }},app.kubernetes.io/component=agent-worker"}
{{- end }}

{{- define "antiphon.env.migrate" -}}
{{ include "antiphon.env.postgres" (dict "root" . "login" "") }}
- {name: ANTIPHON_MIGRATE_STATEMENT_TIMEOUT_SECONDS, value: {{ int .Values.migration.statementTimeoutSeconds | quote }}}
{{ include "antiphon.env.logs" . }}
{{- end }}

{{- define "antiphon.env.ensure" -}}
{{ include "antiphon.env.nats" (dict "root" . "user" "persistence") }}
{{- include "antiphon.env.streams" . }}
{{ include "antiphon.env.postgres" (dict "root" . "login" "") }}
{{ include "antiphon.env.logs" . }}
{{- end }}

{{/* All of a component's: (dict "root" $ "component" NAME "values" BLOCK). */}}
{{- define "antiphon.env" -}}
{{ include (printf "antiphon.env.%s" .component) .root }}
{{ include "antiphon.env.logs" .root }}
{{- range $name, $value := .values.settings }}
- {name: {{ $name }}, value: {{ include "antiphon.text" $value | quote }}}
{{- end }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A value of a setting as text; a large whole number without an exponent. */}}
{{- define "antiphon.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end }}
