{{/* What works and may be regretted: NOTES prints it. */}}
{{- define "antiphon.warnings" -}}
{{- if not (.Values.test.apiKeySecret | default .Values.sessionApi.bootstrapKeySecret) }}
- "no API key: set sessionApi.bootstrapKeySecret, without which nobody can call the API and `helm test` tests nothing"
{{- else if .Values.sessionApi.bootstrapKeySecret }}
- "sessionApi.bootstrapKeySecret opens everything: make keys of your own with it, then remove it"
{{- end }}
{{- if not (.Values.nats.auth.existingSecret | default .Values.nats.auth.users.agentWorker.existingSecret) }}
- "nats.auth.existingSecret is not set: everyone who reaches NATS may write API keys and delete streams"
{{- end }}
{{- if lt (int (.Values.nats.replicas | default 1)) 3 }}
- "nats.replicas is {{ int (.Values.nats.replicas | default 1) }}: the loss of a server's disk loses what is not in Postgres yet; 3 needs three servers"
{{- end }}
{{- if not .Values.networkPolicy.enabled }}
- "networkPolicy.enabled is false: every pod of the cluster reaches the services"
{{- end }}
{{- if and .Values.sessionApi.ingress.enabled (not .Values.sessionApi.ingress.tlsSecret) }}
- "sessionApi.ingress.tlsSecret is not set: API keys travel in the clear, unless something before it ends TLS"
{{- end }}
{{- range $key := list "sessionApi" "webhookIngest" "persistence" "agentWorker" }}
{{- if eq (toString (index $.Values $key).replicas) "1" }}
- "{{ $key }}.replicas is 1: the service is gone while its node restarts"
{{- end }}
{{- end }}
{{- if lt (int .Values.agentWorker.longestCallSeconds) 600 }}
- "agentWorker.longestCallSeconds is {{ int .Values.agentWorker.longestCallSeconds }}: longer calls are cut off at each upgrade and each scale-in"
{{- end }}
{{- if and .Values.agentWorker.autoscaling.enabled (eq (int .Values.fleet.warmCalls) 0) }}
- "fleet.warmCalls is 0: new calls wait until a pod has started whenever all workers are full"
{{- end }}
{{- if and .Values.metrics.prometheusRule.enabled (not (include "antiphon.scraped" .)) }}
- "metrics.prometheusRule.enabled without metrics.podMonitor.enabled or metrics.annotations: unless something else reads the metrics, AntiphonServiceDown fires"
{{- end }}
{{- if and (or .Values.metrics.prometheusRule.enabled .Values.metrics.dashboards.enabled) (not .Values.metrics.docsUrl) }}
- "metrics.docsUrl is not set: alerts and dashboards link to runbooks at https://antiphon.example, which is nowhere"
{{- end }}
{{- if and (eq .Values.image.pullPolicy "Always") (eq .Values.image.tag "latest") }}
- "image.tag is latest: pods of one release may run different code"
{{- end }}
{{- end }}
