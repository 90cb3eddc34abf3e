{{/* Names and labels. */}}

{{- define "tuneloop.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Release and chart, or the release alone where it has the chart's name in it. */}}
{{- define "tuneloop.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "tuneloop.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* The name of a part's objects: (list $ "gateway"). */}}
{{- define "tuneloop.objectName" -}}
{{- printf "%s-%s" (include "tuneloop.fullname" (index . 0)) (index . 1) -}}
{{- end }}

{{/* Labels by which a part's pods are found: (list $ "gateway"). They never change. */}}
{{- define "tuneloop.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tuneloop.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of a part's objects: (list $ "gateway"). */}}
{{- define "tuneloop.labels" -}}
{{- $root := index . 0 -}}
{{ include "tuneloop.selectorLabels" . }}
app.kubernetes.io/part-of: tuneloop
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels that the pods of the launched jobs have; see shared/launchers/kubernetes. */}}
{{- define "tuneloop.jobLabels" -}}
app.kubernetes.io/name: tuneloop-job
tuneloop.dev/owner: {{ include "tuneloop.fullname" . }}
{{- end }}

{{/* A service account's name: (list $ "gateway" $values.serviceAccount). */}}
{{- define "tuneloop.serviceAccountName" -}}
{{- $account := index . 2 -}}
{{- default (ternary (include "tuneloop.objectName" .) "default" $account.create) $account.name -}}
{{- end }}

{{/* An image: (list $ "controlPlane"). */}}
{{- define "tuneloop.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- with $root.Values.images.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default $root.Chart.AppVersion $image.tag }}{{ end -}}
{{- end }}
