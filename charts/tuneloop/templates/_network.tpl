{{/* Rules of NetworkPolicies. */}}

{{/* Pods of one part of this release, as a peer: (list $ "gateway"). */}}
{{- define "tuneloop.peer" -}}
- podSelector:
    matchLabels: {{- include "tuneloop.selectorLabels" . | nindent 6 }}
{{- end }}

{{/* To what is outside of the release: one of networkPolicy.egress. */}}
{{- define "tuneloop.egressTo" -}}
- ports:
  {{- range .ports }}
    - {protocol: TCP, port: {{ int . }}}
  {{- end }}
  {{- with .to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "tuneloop.egressToDns" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
  {{- with .Values.networkPolicy.dns }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* Where a service goes: (list $ component). */}}
{{- define "tuneloop.serviceEgress" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $egress := $root.Values.networkPolicy.egress -}}
{{ include "tuneloop.egressToDns" $root }}
{{ include "tuneloop.egressTo" $egress.kafka }}
{{- if $component.s3 }}
{{ include "tuneloop.egressTo" $egress.s3 }}
{{- end }}
{{- if $component.database }}
{{ include "tuneloop.egressTo" $egress.database }}
{{- end }}
{{- if $component.kubernetes }}
{{ include "tuneloop.egressTo" $egress.kubernetes }}
{{- end }}
{{- if $root.Values.tracing.otlpEndpoint }}
{{ include "tuneloop.egressTo" $egress.tracing }}
{{- end }}
{{- if eq $component.key "rollout" }}
{{ include "tuneloop.egressTo" $egress.prometheus }}
{{- if $egress.webhooks.ports }}
{{ include "tuneloop.egressTo" $egress.webhooks }}
{{- end }}
{{- end }}
{{- if dig "embeddingsUrl" "" $component.values.settings }}
{{ include "tuneloop.egressTo" $egress.embeddings }}
{{- end }}
{{- if eq $component.key "gateway" }}
- ports:
    - {protocol: TCP, port: engine}
  to: {{- include "tuneloop.gatewayTargets" $root | nindent 4 }}
{{- end }}
{{- end }}

{{/* Whether training jobs tell their progress to trackers; "true" or nothing. */}}
{{- define "tuneloop.tracks" -}}
{{- with (include "tuneloop.component" (list . "trainer") | fromYaml).values }}{{ if and .enabled (dig "trackers" list .settings) }}true{{ end }}{{ end -}}
{{- end }}

{{/* Model servers: also those of other releases in this namespace, which a gateway serves as well. */}}
{{- define "tuneloop.gatewayTargets" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/part-of: tuneloop
      app.kubernetes.io/component: serving
{{- end }}

{{/* Who reaches a service: (list $ component). */}}
{{- define "tuneloop.serviceIngress" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $policy := $root.Values.networkPolicy -}}
- ports:
    - {protocol: TCP, port: http}
    {{- if $component.stateful }}
    - {protocol: TCP, port: engine}
    {{- end }}
  from:
    {{- include "tuneloop.peer" (list $root "test") | nindent 4 }}
    {{- with $policy.monitoring }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- /* The gateway's door for clients is the one for people, too. */}}
{{- if and $policy.operators (ne $component.key "gateway") }}
- ports:
    - {protocol: TCP, port: http}
  from: {{- toYaml $policy.operators | nindent 4 }}
{{- end }}
{{- if eq $component.key "gateway" }}
- ports:
    - {protocol: TCP, port: http}
  {{- with $policy.gatewayClients }}
  from: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- else if $component.stateful }}
- ports:
    - {protocol: TCP, port: engine}
  from:
    - podSelector:
        matchLabels:
          app.kubernetes.io/part-of: tuneloop
          app.kubernetes.io/component: gateway
    {{- with $policy.modelServerClients }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}

{{/* An endpoint at a port that pods may not go to, as a line, or nothing: (list $ "s3" "s3.endpoint" "http://s3:8333"). */}}
{{- define "tuneloop.closedPort" -}}
{{- $ports := (index (index . 0).Values.networkPolicy.egress (index . 1)).ports -}}
{{- $url := index . 3 -}}
{{- $port := regexFind ":[0-9]+(/|$)" $url | trimPrefix ":" | trimSuffix "/" | default (ternary "80" "443" (hasPrefix "http://" $url)) -}}
{{- if not (has $port (toStrings $ports)) }}
  {{ index . 2 }} is at port {{ $port }}, and networkPolicy.egress.{{ index . 1 }}.ports lets pods go to {{ join ", " (toStrings $ports) | default "none" }}
{{- end }}
{{- end }}

{{/* All of those. */}}
{{- define "tuneloop.closedPorts" -}}
{{- if .Values.networkPolicy.enabled }}
{{- include "tuneloop.closedPort" (list . "s3" "s3.endpoint" .Values.s3.endpoint) }}
{{- range splitList "," .Values.kafka.bootstrapServers }}
{{- include "tuneloop.closedPort" (list $ "kafka" "kafka.bootstrapServers" .) }}
{{- end }}
{{- include "tuneloop.closedPort" (list . "prometheus" "prometheus.url" .Values.prometheus.url) }}
{{- with .Values.tracing.otlpEndpoint }}{{ include "tuneloop.closedPort" (list $ "tracing" "tracing.otlpEndpoint" .) }}{{ end }}
{{- with index .Values.jobs.env "MLFLOW_TRACKING_URI" }}{{ if include "tuneloop.tracks" $ }}{{ include "tuneloop.closedPort" (list $ "trackers" "jobs.env.MLFLOW_TRACKING_URI" .) }}{{ end }}{{ end }}
{{- with dig "embeddingsUrl" "" (include "tuneloop.component" (list . "drift") | fromYaml).values.settings }}{{ include "tuneloop.closedPort" (list $ "embeddings" "drift.settings.embeddingsUrl" .) }}{{ end }}
{{- end }}
{{- end }}
