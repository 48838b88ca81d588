{{/* What Prometheus reads, and who may. */}}

{{/* Whether something reads metrics in this cluster, and the NetworkPolicies let it in. */}}
{{- define "antiphon.scraped" -}}
{{- if or .Values.metrics.podMonitor.enabled .Values.metrics.annotations -}}true{{- end -}}
{{- end }}

{{/* The annotations of pods, those of the values over ours: (dict "root" $ "each" COMPONENT "values" BLOCK). */}}
{{- define "antiphon.pod-annotations" -}}
{{- $ours := dict -}}
{{- if .root.Values.metrics.annotations -}}
{{- $ours = dict "prometheus.io/scrape" "true" "prometheus.io/port" (toString .each.metricsPort) "prometheus.io/path" "/metrics" -}}
{{- end -}}
{{- toYaml (mergeOverwrite $ours (.values.podAnnotations | default (dict))) -}}
{{- end }}

{{/* A file of rules or a dashboard, with links to the user's copy of the documentation: (dict "root" $ "path" PATH). */}}
{{- define "antiphon.linked-file" -}}
{{- $text := .root.Files.Get .path -}}
{{- with .root.Values.metrics.docsUrl -}}
{{- $text = replace "https://antiphon.example" (trimSuffix "/" .) $text -}}
{{- end -}}
{{- $text -}}
{{- end }}
