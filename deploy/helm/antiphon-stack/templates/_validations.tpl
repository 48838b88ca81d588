{{- define "antiphon-stack.validate" -}}
{{- if and .Values.install.operators (or .Values.install.antiphon .Values.install.postgres) -}}
{{- fail "\ninstall.operators goes into a release of its own: the kinds of its objects must exist before those of this one. Install it first, with -f operators.yaml, then this release without it." -}}
{{- end -}}
{{- if and .Values.install.postgres (not (.Capabilities.APIVersions.Has "postgresql.cnpg.io/v1/Cluster")) -}}
{{- fail "\ninstall.postgres needs the operator CloudNativePG, which this cluster does not have. Install it first (helm install operators … -f operators.yaml), or set install.postgres to false and antiphon.postgres.existingSecret to the Secret of your Postgres." -}}
{{- end -}}
{{- if and .Values.install.antiphon .Values.install.postgres (eq .Values.antiphon.migration.run "hook") -}}
{{- fail "\nantiphon.migration.run is hook, but the Postgres of this release starts after the hook. Set it to init." -}}
{{- end -}}
{{- end }}
