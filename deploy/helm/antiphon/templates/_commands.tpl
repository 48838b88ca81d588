{{/* What the containers run: the images start the module of their service, and take its arguments. */}}

{{- define "antiphon.args" -}}
{{- $views := .root.Values.projections.views -}}
{{- if eq .component "persistence" -}}
{{- if .root.Values.projections.enabled -}}["run", "--no-views"]{{- else -}}["run"]{{- end -}}
{{- else if eq .component "projections" -}}
{{- if $views -}}["run", "--no-ingest", "--only", {{ join "," $views | quote }}]{{- else -}}["run", "--no-ingest"]{{- end -}}
{{- else if eq .component "agent-worker" -}}
["run"]
{{- end -}}
{{- end }}

{{/* Seconds from the start of the end of a pod until it is killed: (dict "root" $ "component" NAME "values" BLOCK). */}}
{{- define "antiphon.grace" -}}
{{- if eq .component "agent-worker" -}}
{{- int (.values.terminationGracePeriodSeconds | default (add .values.longestCallSeconds 120)) -}}
{{- else -}}
{{- int .values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end }}

{{/* The containers that prepare the database and then the broker, one after the other: a list. */}}
{{- define "antiphon.prepare" -}}
{{- $context := dict "root" . "image" .Values.persistence.image -}}
- name: migrate
  image: {{ include "antiphon.image" $context | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: ["migrate"]
  securityContext: {{- include "antiphon.containerSecurity" . | nindent 4 }}
  env: {{- include "antiphon.env.migrate" . | trim | nindent 4 }}
  resources: {{- toYaml .Values.migration.resources | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    {{- include "antiphon.secretMounts" (dict "root" . "component" "migrate") | indent 4 }}
- name: streams
  image: {{ include "antiphon.image" $context | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: ["streams", "ensure"]
  securityContext: {{- include "antiphon.containerSecurity" . | nindent 4 }}
  env: {{- include "antiphon.env.ensure" . | trim | nindent 4 }}
  resources: {{- toYaml .Values.migration.resources | nindent 4 }}
  volumeMounts:
    {{- include "antiphon.mounts" (dict "root" . "user" "persistence") | nindent 4 }}
    {{- include "antiphon.secretMounts" (dict "root" . "component" "migrate") | indent 4 }}
{{- end }}
