{{/* Who decides on the number of pods. */}}

{{/* Whether a service is scaled by KEDA; "true" or nothing. */}}
{{- define "tuneloop.isScaledByLag" -}}
{{- if and .topics .values.keda.enabled }}true{{ end -}}
{{- end }}

{{/* Whether anybody but the values decides; "true" or nothing. */}}
{{- define "tuneloop.isScaled" -}}
{{- if or (include "tuneloop.isScaledByLag" .) (dig "autoscaling" "enabled" false .values) }}true{{ end -}}
{{- end }}
