{{/* The names, labels and images of all objects. Helpers of one component take (dict "root" $ "component" NAME). */}}

{{- define "antiphon.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "antiphon.name" -}}
{{- printf "%s-%s" (include "antiphon.fullname" .root) .component -}}
{{- end }}

{{- define "antiphon.selector" -}}
app.kubernetes.io/name: antiphon
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "antiphon.labels" -}}
{{ include "antiphon.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: antiphon
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The image of a component: (dict "root" $ "image" IMAGE). */}}
{{- define "antiphon.image" -}}
{{- $values := .root.Values.image -}}
{{- $name := .image.repository -}}
{{- if $values.registry -}}{{- $name = printf "%s/%s" (trimSuffix "/" $values.registry) $name -}}{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.image.tag | default $values.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{/* What the services have in common with each other, and what they do not. The others' values are .Values[key]. */}}
{{- define "antiphon.components" -}}
- {component: session-api, key: sessionApi, module: antiphon.session_api, port: 8000, health: http, metrics: metrics, metricsPort: 9464, replicas: 2}
{{- if .Values.webhookIngest.enabled }}
- {component: webhook-ingest, key: webhookIngest, module: antiphon.webhook_ingest, port: 8001, health: http, metrics: metrics, metricsPort: 9464, replicas: 2}
{{- end }}
- {component: persistence, key: persistence, module: antiphon.persistence, port: 8002, health: health, metrics: health, metricsPort: 8002, replicas: 2}
{{- if .Values.projections.enabled }}
- {component: projections, key: projections, module: antiphon.persistence, port: 8002, health: health, metrics: health, metricsPort: 8002, replicas: 1}
{{- end }}
- {component: agent-worker, key: agentWorker, module: antiphon.agent_worker, port: 8003, health: health, metrics: health, metricsPort: 8003, replicas: 2}
{{- if .Values.fleet.enabled }}
- {component: fleet, key: fleet, module: antiphon.fleet, port: 8005, health: http, metrics: http, metricsPort: 8005, replicas: 1}
{{- end }}
{{- end }}

{{/* Pods of a component that nothing scales: (dict "values" BLOCK "default" NUMBER). */}}
{{- define "antiphon.replicas" -}}
{{- ternary .default .values.replicas (kindIs "invalid" .values.replicas) | int -}}
{{- end }}

{{/* The replicas that a Deployment is written with: (dict "values" BLOCK "default" NUMBER "context" CONTEXT). With an autoscaler
     none, or, if a release before has written them, those that run: Helm removes what it has written once, and Kubernetes
     then runs 1 pod until the autoscaler looks. */}}
{{- define "antiphon.written-replicas" -}}
{{- if not (include "antiphon.scaled" .values) -}}
{{- include "antiphon.replicas" . -}}
{{- else -}}
{{- $name := include "antiphon.name" .context -}}
{{- $live := lookup "apps/v1" "Deployment" .context.root.Release.Namespace $name | default (dict) -}}
{{- if hasKey ($live.metadata | default (dict) | dig "annotations" (dict)) "antiphon/replicas" -}}
{{- max $live.spec.replicas .values.autoscaling.minReplicas -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Whether an autoscaler owns the number of pods of a block. */}}
{{- define "antiphon.scaled" -}}
{{- if dig "autoscaling" "enabled" false . -}}true{{- end -}}
{{- end }}
