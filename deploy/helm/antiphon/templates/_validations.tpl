{{/* What the schema cannot see: values that do not fit together. Each message says what to do. */}}

{{- define "antiphon.validate" -}}
{{- include "antiphon.validate.moved" . -}}
{{- include "antiphon.validate.names" . -}}
{{- include "antiphon.validate.labels" (dict "root" . "name" "commonLabels" "labels" .Values.commonLabels) -}}
{{- include "antiphon.validate.labels" (dict "root" . "name" "migration.podLabels" "labels" .Values.migration.podLabels) -}}
{{- include "antiphon.validate.connections" . -}}
{{- include "antiphon.validate.migration" . -}}
{{- include "antiphon.validate.views" . -}}
{{- include "antiphon.validate.agents" . -}}
{{- include "antiphon.validate.metrics" . -}}
{{- range $each := include "antiphon.components" . | fromYamlArray -}}
{{- $context := dict "root" $ "key" $each.key "component" $each.component "values" (index $.Values $each.key) -}}
{{- include "antiphon.validate.labels" (dict "root" $ "name" (printf "%s.podLabels" $each.key) "labels" $context.values.podLabels) -}}
{{- include "antiphon.validate.scaling" $context -}}
{{- include "antiphon.validate.pods" $context -}}
{{- include "antiphon.validate.environment" $context -}}
{{- include "antiphon.validate.entrance" $context -}}
{{- end -}}
{{- end }}

{{/* Keys that other charts have, and where they are here. */}}
{{- define "antiphon.validate.moved" -}}
{{- $moved := dict
  "replicaCount" "set `replicas` of a service, such as sessionApi.replicas"
  "resources" "set `resources` of a service, such as sessionApi.resources"
  "autoscaling" "set `autoscaling` of a service, such as agentWorker.autoscaling"
  "ingress" "set sessionApi.ingress"
  "service" "set sessionApi.service"
  "env" "set `settings` or `extraEnv` of a service"
  "nodeSelector" "set `nodeSelector` of a service"
  "tolerations" "set `tolerations` of a service"
  "postgresql" "set postgres.existingSecret: this chart installs no Postgres; the chart antiphon-stack does"
-}}
{{- range $key, $advice := $moved -}}
{{- if hasKey $.Values $key -}}
{{- fail (printf "\n%s is not a value of this chart: %s." $key $advice) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* A Service begins with a letter and has no dot; the API server would say so after the migration. */}}
{{- define "antiphon.validate.names" -}}
{{- $name := include "antiphon.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "\nThe names of objects would begin with %s, which no Service may. Set fullnameOverride to a letter, and then small letters, digits and `-`, such as antiphon." $name) -}}
{{- end -}}
{{- end }}

{{/* Labels by which Services and Deployments find their pods: (dict "root" $ "name" VALUE "labels" LABELS). */}}
{{- define "antiphon.validate.labels" -}}
{{- $ours := keys (include "antiphon.labels" (dict "root" (merge (dict "Values" (dict)) (omit .root "Values")) "component" "any") | fromYaml) -}}
{{- range $label, $value := .labels -}}
{{- if has $label $ours -}}
{{- fail (printf "\n%s has %s, which the chart sets itself, and by which it finds its pods. Remove it, or choose a name of your own, such as example.com/%s." $.name $label (base $label)) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "antiphon.validate.connections" -}}
{{- if not .Values.nats.url -}}
{{- fail "\nnats.url is not set. Set it to the servers of NATS, such as nats://nats.nats.svc:4222." -}}
{{- end -}}
{{- if contains "@" .Values.nats.url -}}
{{- fail "\nnats.url has a user or a password, which everyone who may read Deployments would see. Put them into a Secret with the keys `user` and `password`, and set nats.auth.existingSecret to its name." -}}
{{- end -}}
{{- if not .Values.postgres.existingSecret -}}
{{- fail "\npostgres.existingSecret is not set. Make a Secret with the DSN of Postgres, and set postgres.existingSecret to its name:\n  kubectl create secret generic antiphon-postgres --from-literal=dsn=postgresql://user:password@host:5432/antiphon" -}}
{{- end -}}
{{- if not .Values.livekit.url -}}
{{- fail "\nlivekit.url is not set. Set it to LiveKit as pods reach it, such as ws://livekit-server.livekit.svc:80." -}}
{{- end -}}
{{- if not .Values.livekit.existingSecret -}}
{{- fail "\nlivekit.existingSecret is not set. Make a Secret with LiveKit's API key, and set livekit.existingSecret to its name:\n  kubectl create secret generic antiphon-livekit --from-literal=api-key=… --from-literal=api-secret=…" -}}
{{- end -}}
{{- if and .Values.nats.tls.clientCertificate (not .Values.nats.tls.existingSecret) -}}
{{- fail "\nnats.tls.clientCertificate is true, but nats.tls.existingSecret is not set. Set it to the Secret with ca.crt, tls.crt and tls.key, or set clientCertificate to false." -}}
{{- end -}}
{{- if and .Values.flows.files .Values.flows.existingConfigMap -}}
{{- fail "\nflows.files and flows.existingConfigMap are both set. Keep the flows in one of them, and remove the other." -}}
{{- end -}}
{{- end }}

{{- define "antiphon.validate.migration" -}}
{{- $migration := .Values.migration -}}
{{- if le (int $migration.activeDeadlineSeconds) (int $migration.statementTimeoutSeconds) -}}
{{- fail (printf "\nmigration.activeDeadlineSeconds is %d, not more than migration.statementTimeoutSeconds (%d): the Job would be killed before its statement is cancelled. Raise the first, or lower the second." (int $migration.activeDeadlineSeconds) (int $migration.statementTimeoutSeconds)) -}}
{{- end -}}
{{- end }}

{{- define "antiphon.validate.views" -}}
{{- if and .Values.projections.autoscaling.enabled (not .Values.projections.enabled) -}}
{{- fail "\nprojections.autoscaling.enabled is true, but projections.enabled is not: the views are in the pods of persistence. Set projections.enabled to true, or projections.autoscaling.enabled to false." -}}
{{- end -}}
{{- end }}

{{- define "antiphon.validate.agents" -}}
{{- $agents := .Values.agentWorker -}}
{{- $grace := include "antiphon.grace" (dict "component" "agent-worker" "values" $agents) | int -}}
{{- $needed := add $agents.longestCallSeconds 100 | int -}}
{{- if lt $grace $needed -}}
{{- fail (printf "\nagentWorker.terminationGracePeriodSeconds is %d: a call of agentWorker.longestCallSeconds (%d) would be killed before its record is published. Set it to %d or more (longest call + 100), or leave it unset." $grace (int $agents.longestCallSeconds) $needed) -}}
{{- end -}}
{{- if $agents.autoscaling.enabled -}}
{{- if not .Values.fleet.enabled -}}
{{- fail "\nagentWorker.autoscaling.enabled needs the service that counts calls. Set fleet.enabled to true." -}}
{{- end -}}
{{- if lt (int $agents.autoscaling.scaleDownStabilizationSeconds) 300 -}}
{{- fail (printf "\nagentWorker.autoscaling.scaleDownStabilizationSeconds is %d: a short pause between calls would remove workers. Set it to 300 or more." (int $agents.autoscaling.scaleDownStabilizationSeconds)) -}}
{{- end -}}
{{- $fallback := int ($agents.autoscaling.fallbackReplicas | default $agents.autoscaling.minReplicas) -}}
{{- if gt $fallback (int $agents.autoscaling.maxReplicas) -}}
{{- fail (printf "\nagentWorker.autoscaling.fallbackReplicas is %d, more than maxReplicas (%d). Lower the one or raise the other." $fallback (int $agents.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "antiphon.validate.scaling" -}}
{{- $scaling := .values.autoscaling | default (dict) -}}
{{- if $scaling.enabled -}}
{{- if not (kindIs "invalid" .values.replicas) -}}
{{- fail (printf "\n%s.replicas and %s.autoscaling.enabled are both set: an upgrade would fight with the autoscaler. Remove replicas, and set autoscaling.minReplicas." .key .key) -}}
{{- end -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "\n%s.autoscaling.minReplicas is %d, more than maxReplicas (%d). Lower the one or raise the other." .key (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if hasKey $scaling "targetCPUUtilizationPercentage" -}}
{{- if not (dig "requests" "cpu" "" (.values.resources | default (dict))) -}}
{{- fail (printf "\n%s.autoscaling.enabled needs %s.resources.requests.cpu: the HPA compares the used CPU with it. Set it, such as to 250m." .key .key) -}}
{{- end -}}
{{- else -}}
{{- if not (.root.Capabilities.APIVersions.Has "keda.sh/v1alpha1/ScaledObject") -}}
{{- fail (printf "\n%s.autoscaling.enabled needs KEDA, which this cluster does not have. Install KEDA first (https://keda.sh/docs/latest/deploy/), or set %s.autoscaling.enabled to false. With `helm template`, add --api-versions keda.sh/v1alpha1/ScaledObject." .key .key) -}}
{{- end -}}
{{- end -}}
{{- if and (has .key (list "persistence" "projections")) (gt (int $scaling.maxReplicas) 16) -}}
{{- fail (printf "\n%s.autoscaling.maxReplicas is %d, but the log has 16 partitions: more pods would have nothing to do. Set it to 16 or less." .key (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if and (eq .key "persistence") (not .root.Values.nats.monitoring.endpoint) -}}
{{- fail "\npersistence.autoscaling.enabled needs nats.monitoring.endpoint, where KEDA reads what waits on the stream. Set it to host and port of the monitoring of NATS, such as nats-headless.nats.svc:8222." -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "antiphon.validate.pods" -}}
{{- $budget := .values.podDisruptionBudget | default (dict) -}}
{{- if and $budget.enabled (has (toString $budget.maxUnavailable) (list "0" "0%")) -}}
{{- fail (printf "\n%s.podDisruptionBudget.maxUnavailable is %v: no node could ever be drained. Set it to 1 or more, or podDisruptionBudget.enabled to false." .key $budget.maxUnavailable) -}}
{{- end -}}
{{- if and (hasKey .values "shutdownDelaySeconds") (lt (int .values.terminationGracePeriodSeconds) (add (int .values.shutdownDelaySeconds) 15 | int)) -}}
{{- fail (printf "\n%s.terminationGracePeriodSeconds is %d: open requests need up to 15 s after shutdownDelaySeconds (%d). Set it to %d or more." .key (int .values.terminationGracePeriodSeconds) (int .values.shutdownDelaySeconds) (add (int .values.shutdownDelaySeconds) 15)) -}}
{{- end -}}
{{- end }}

{{- define "antiphon.validate.environment" -}}
{{- $set := list -}}
{{- range include "antiphon.env" . | fromYamlArray -}}
{{- if has .name $set -}}
{{- fail (printf "\n%s is set twice for %s. Remove it from %s.extraEnv: the chart sets it from its own values, or it is in settings." .name $.component $.key) -}}
{{- end -}}
{{- $set = append $set .name -}}
{{- end -}}
{{- end }}

{{- define "antiphon.validate.entrance" -}}
{{- $ingress := .values.ingress | default (dict) -}}
{{- if and $ingress.enabled (not $ingress.host) -}}
{{- fail (printf "\n%s.ingress.enabled needs %s.ingress.host: without it, every host name of the controller would lead here. Set it, such as to api.example.com." .key .key) -}}
{{- end -}}
{{- $route := .values.httpRoute | default (dict) -}}
{{- if $route.enabled -}}
{{- if not $route.parentRefs -}}
{{- fail (printf "\n%s.httpRoute.enabled needs %s.httpRoute.parentRefs: the Gateways it belongs to, such as [{name: public, namespace: gateways}]." .key .key) -}}
{{- end -}}
{{- if not (.root.Capabilities.APIVersions.Has "gateway.networking.k8s.io/v1/HTTPRoute") -}}
{{- fail (printf "\n%s.httpRoute.enabled needs the Gateway API, which this cluster does not have. Install its CRDs, or use %s.ingress. With `helm template`, add --api-versions gateway.networking.k8s.io/v1/HTTPRoute." .key .key) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "antiphon.validate.metrics" -}}
{{- range $name, $kind := dict "podMonitor" "PodMonitor" "prometheusRule" "PrometheusRule" -}}
{{- if and (index $.Values.metrics $name).enabled (not ($.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" $kind))) -}}
{{- fail (printf "\nmetrics.%s.enabled needs the Prometheus operator, which this cluster does not have. Install it first (https://prometheus-operator.dev), or set metrics.%s.enabled to false; metrics.annotations needs no operator. With `helm template`, add --api-versions monitoring.coreos.com/v1/%s." $name $name $kind) -}}
{{- end -}}
{{- include "antiphon.validate.labels" (dict "root" $ "name" (printf "metrics.%s.labels" $name) "labels" (index $.Values.metrics $name).labels) -}}
{{- end -}}
{{- include "antiphon.validate.labels" (dict "root" . "name" "metrics.dashboards.labels" "labels" .Values.metrics.dashboards.labels) -}}
{{- if hasPrefix "https://antiphon.example" .Values.metrics.docsUrl -}}
{{- fail "\nmetrics.docsUrl is an example. Set it to where your site of `make docs` is, or leave it empty." -}}
{{- end -}}
{{- end }}
