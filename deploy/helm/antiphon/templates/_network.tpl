{{/* Who talks with whom: the blocks of `networkPolicy` that a component reaches, and the port that others reach. */}}
{{- define "antiphon.talks" -}}
{{- $policy := .Values.networkPolicy -}}
- component: session-api
  port: 8000
  to: [nats, postgres, livekit]
  from: {{ include "antiphon.from" (dict "root" . "peers" $policy.sessionApiFrom "test" true) }}
- {component: persistence, to: [nats, postgres]}
- {component: migrate, to: [nats, postgres]}
- {component: agent-worker, to: [nats, livekit]}
- {component: test}
{{- if or .Values.flows.files .Values.flows.existingConfigMap }}
- {component: publish-flows, to: [nats]}
{{- end }}
{{- if .Values.projections.enabled }}
- {component: projections, to: [nats, postgres]}
{{- end }}
{{- if .Values.webhookIngest.enabled }}
- component: webhook-ingest
  port: 8001
  to: [nats, livekit]
  from: {{ toJson $policy.webhookIngestFrom }}
{{- end }}
{{- if .Values.fleet.enabled }}
- component: fleet
  port: 8005
  to: {{ ternary "[nats, kubernetesApi]" "[nats]" .Values.fleet.deletionCosts }}
  from: {{ toJson $policy.kedaFrom }}
{{- end }}
{{- end }}

{{/* Peers that may come in, with the pod of `helm test`; none of them means everyone. */}}
{{- define "antiphon.from" -}}
{{- $test := dict "podSelector" (dict "matchLabels" (include "antiphon.selector" (dict "root" .root "component" "test") | fromYaml)) -}}
{{- if .peers -}}{{ append .peers $test | toJson }}{{- else -}}[]{{- end -}}
{{- end }}

{{- define "antiphon.peers" -}}
{{- with . -}}
to: {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end }}

{{- define "antiphon.egress" -}}
- ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
  {{- include "antiphon.peers" .to | nindent 2 }}
{{- end }}

{{/* The media of calls, and what flows reach on the internet: no private addresses, and no metadata of the cloud. */}}
{{- define "antiphon.egress-media" -}}
- ports:
    {{- range .livekit.mediaTcpPorts }}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
    {{- range .livekit.mediaUdpPorts }}
    - {protocol: UDP, port: {{ int .port }}{{ with .endPort }}, endPort: {{ int . }}{{ end }}}
    {{- end }}
  {{- include "antiphon.peers" .livekit.to | nindent 2 }}
{{- if .agentWorkerInternet }}
- ports: [{protocol: TCP, port: 80}, {protocol: TCP, port: 443}]
  to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: [10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]
    - ipBlock: {cidr: "::/0", except: ["fc00::/7", "fe80::/10"]}
{{- end }}
{{- with .agentWorkerEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}
