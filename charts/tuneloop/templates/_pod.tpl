{{/* What all pods have in common. */}}

{{/* Security of a pod: its security context. Service links would be TUNELOOP_ variables that no service knows. */}}
{{- define "tuneloop.podBasics" -}}
enableServiceLinks: false
securityContext: {{- toYaml .podSecurityContext | nindent 2 }}
{{- end }}

{{/* Where pods go that are of no service. */}}
{{- define "tuneloop.defaultScheduling" -}}
{{- with .Values.defaults.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.defaults.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "tuneloop.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where a service's pods go: (list $ component). */}}
{{- define "tuneloop.scheduling" -}}
{{- $component := index . 1 -}}
{{- $values := $component.values -}}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.topologySpreadConstraints }}
{{- $selector := dict "matchLabels" (include "tuneloop.selectorLabels" (list (index $ 0) $component.name) | fromYaml) }}
{{- $constraints := list }}
{{- range . }}{{ $constraints = append $constraints (merge (deepCopy .) (dict "labelSelector" $selector)) }}{{ end }}
topologySpreadConstraints: {{- toYaml $constraints | nindent 2 }}
{{- end }}
{{- end }}

{{/* The head of a service's pod spec: (list $ component). */}}
{{- define "tuneloop.podHead" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
serviceAccountName: {{ include "tuneloop.serviceAccountName" (list $root $component.name $component.values.serviceAccount) }}
automountServiceAccountToken: {{ $component.kubernetes }}
{{ include "tuneloop.podBasics" $component.values }}
{{- include "tuneloop.pullSecrets" $root }}
terminationGracePeriodSeconds: {{ int $component.values.terminationGracePeriodSeconds }}
{{- include "tuneloop.scheduling" . }}
{{- end }}

{{/* Metadata of a service's pods: (list $ component). */}}
{{- define "tuneloop.podMetadata" -}}
{{- $component := index . 1 -}}
labels: {{- include "tuneloop.labels" (list (index . 0) $component.name) | nindent 2 }}
{{- with $component.values.podLabels }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.values.podAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* One probe: (list "readinessProbe" "/readyz" "http" timing). */}}
{{- define "tuneloop.probe" -}}
{{ index . 0 }}:
  httpGet: {path: {{ index . 1 }}, port: {{ index . 2 }}}
  {{- toYaml (index . 3) | nindent 2 }}
{{- end }}

{{/* The probes of a service: its values. */}}
{{- define "tuneloop.probes" -}}
{{ include "tuneloop.probe" (list "startupProbe" "/healthz" "http" .probes.startup) }}
{{ include "tuneloop.probe" (list "readinessProbe" "/readyz" "http" .probes.readiness) }}
{{ include "tuneloop.probe" (list "livenessProbe" "/healthz" "http" .probes.liveness) }}
{{- end }}
