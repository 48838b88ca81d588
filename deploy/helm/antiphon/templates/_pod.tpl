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
