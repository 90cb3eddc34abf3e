{{/* Who decides on the number of pods. */}}

{{/* Whether a service is scaled by KEDA; "true" or nothing. */}}
{{- define "tuneloop.isScaledByLag" -}}
{{- if and .topics .values.keda.enabled }}true{{ end -}}
{{- end }}

{{/* Whether anybody but the values decides; "true" or nothing. */}}
{{- define "tuneloop.isScaled" -}}
{{- if or (include "tuneloop.isScaledByLag" .) (dig "autoscaling" "enabled" false .values) }}true{{ end -}}
{{- end }}

{{/* Whether KEDA needs certificates or a login; "true" or nothing. */}}
{{- define "tuneloop.kedaAsksForKafka" -}}
{{- $scaled := "" -}}
{{- range $key := (include "tuneloop.enabled" . | fromYaml).keys -}}
{{- if include "tuneloop.isScaledByLag" (include "tuneloop.component" (list $ $key) | fromYaml) }}{{ $scaled = "true" }}{{ end -}}
{{- end -}}
{{- if or (hasPrefix "SASL" .Values.kafka.securityProtocol) (include "tuneloop.hasKafkaFiles" .) }}{{ $scaled }}{{ end -}}
{{- end }}

{{/* KEDA's look at one group's lag on one topic: (list $ keda group topic). */}}
{{- define "tuneloop.lagTrigger" -}}
{{- $root := index . 0 -}}
{{- $kafka := $root.Values.kafka -}}
- type: kafka
  metadata:
    bootstrapServers: {{ $kafka.bootstrapServers }}
    consumerGroup: {{ index . 2 }}
    topic: {{ index . 3 }}
    lagThreshold: {{ int (index . 1).lagThreshold | quote }}
    offsetResetPolicy: earliest
    {{- if hasSuffix "SSL" $kafka.securityProtocol }}
    tls: enable
    {{- end }}
    {{- if hasPrefix "SASL" $kafka.securityProtocol }}
    sasl: {{ get (dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512") $kafka.sasl.mechanism }}
    {{- end }}
  {{- if include "tuneloop.kedaAsksForKafka" $root }}
  authenticationRef:
    name: {{ include "tuneloop.objectName" (list $root "kafka") }}
  {{- end }}
{{- end }}
