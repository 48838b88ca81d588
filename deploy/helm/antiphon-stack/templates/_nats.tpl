{{/* What the account of the log may take of the volumes of all servers: nine tenths, so that none of them is ever full. */}}
{{- define "antiphon-stack.max-file" -}}
{{- $config := .Values.nats.config -}}
{{- $size := $config.jetstream.fileStore.maxSize | default $config.jetstream.fileStore.pvc.size | toString -}}
{{- if not (regexMatch "^[1-9][0-9]*[GT]i$" $size) -}}
{{- fail (printf "\nnats.config.jetstream.fileStore.pvc.size is %s, of which the limit of the account of the log is made. Set it to a whole number of Gi or Ti, such as 20Gi." $size) -}}
{{- end -}}
{{- $gib := mul (trimSuffix "Ti" (trimSuffix "Gi" $size)) (ternary 1024 1 (hasSuffix "Ti" $size)) -}}
max_file: {{ div (mul $gib (ternary $config.cluster.replicas 1 $config.cluster.enabled) 1073741824 9) 10 }}
{{- end }}
