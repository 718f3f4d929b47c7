{{- define "staging.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "staging.labels" -}}
{{ include "staging.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- range $name := list "campaign" "cell" "version" "mode" }}
pytest-staging/{{ $name }}: {{ index $.Values.labels $name | quote }}
{{- end }}
{{- end }}

{{- define "staging.annotations" -}}
{{- range $name := list "campaign" "cell" "version" "mode" }}
pytest-staging/{{ $name }}: {{ index $.Values.annotations $name | quote }}
{{- end }}
{{- end }}

{{- define "staging.environment" -}}
{{- $given := fromJson .Values.environmentJson }}
{{- if hasKey $given "Error" }}{{ fail (printf "environmentJson is no JSON object: %s" $given.Error) }}{{ end }}
{{- $ours := dict "STAGING_HOST" "0.0.0.0" "STAGING_PORT" (.Values.port | toString) }}
{{- range $name, $value := merge $ours $given }}
- name: {{ $name | quote }}
  {{- /* Kubernetes would put another variable in the place of $(NAME). */}}
  value: {{ $value | toString | replace "$(" "$$(" | quote }}
{{- end }}
{{- end }}
