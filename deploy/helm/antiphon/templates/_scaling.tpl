{{/* What the ScaledObjects share: (dict "name" DEPLOYMENT "autoscaling" BLOCK). */}}
{{- define "antiphon.scaled-object" -}}
scaleTargetRef: {name: {{ .name }}}
pollingInterval: {{ int .autoscaling.pollingIntervalSeconds }}
minReplicaCount: {{ int .autoscaling.minReplicas }}
maxReplicaCount: {{ int .autoscaling.maxReplicas }}
{{- end }}

{{/* Up at once, down one pod a minute after a quiet time. */}}
{{- define "antiphon.scale-behavior" -}}
scaleDown:
  stabilizationWindowSeconds: {{ int .scaleDownStabilizationSeconds }}
  policies: [{type: Pods, value: 1, periodSeconds: 60}]
{{- end }}
