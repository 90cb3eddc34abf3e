{{/* What the schema cannot say: values that must fit each other. */}}
{{- define "tuneloop.checks" -}}
{{- with .Values.httpRoute }}
{{- if and .enabled (not .parentRefs) }}{{ fail "httpRoute.parentRefs: name the Gateway that the route attaches to" }}{{ end }}
{{- end }}
{{- with .Values.kafka }}
{{- if and (hasPrefix "SASL" .securityProtocol) (not (and .sasl.username .sasl.existingSecret)) }}
{{- fail (printf "kafka.sasl: securityProtocol %s needs username, and existingSecret with its password" .securityProtocol) }}
{{- end }}
{{- if and (not (hasSuffix "SSL" .securityProtocol)) (or .tls.ca.existingSecret .tls.existingSecret) }}
{{- fail (printf "kafka.tls: securityProtocol %s uses no TLS; it must be SSL or SASL_SSL" .securityProtocol) }}
{{- end }}
{{- end }}
{{- with .Values.serving }}
{{- if lt (int .maxCpuLoras) (int .maxLoras) }}
{{- fail (printf "serving.maxCpuLoras is %d and serving.maxLoras %d: what is computed with is in memory, too" (int .maxCpuLoras) (int .maxLoras)) }}
{{- end }}
{{- $needed := add (mul 2 (int .drainSeconds)) 15 }}
{{- if lt (int .terminationGracePeriodSeconds) (int $needed) }}
{{- fail (printf "serving.terminationGracePeriodSeconds is %d, and drainSeconds %d needs %d: twice as long, and 15 for the agent" (int .terminationGracePeriodSeconds) (int .drainSeconds) $needed) }}
{{- end }}
{{- end }}
{{- with .Values.rollout }}
{{- if and (eq .trafficBackend "inference-model-rewrite") (not .inferencePools) }}
{{- fail "rollout.inferencePools: name the InferencePool of each base model, which rollout.trafficBackend inference-model-rewrite needs" }}
{{- end }}
{{- end }}
{{- with .Values.gateway }}
{{- $needed := add (int .preStopSeconds) (dig "shutdownSeconds" 20 .settings | int) 5 }}
{{- if lt (int .terminationGracePeriodSeconds) (int $needed) }}
{{- fail (printf "gateway.terminationGracePeriodSeconds is %d, and preStopSeconds and settings.shutdownSeconds need %d" (int .terminationGracePeriodSeconds) $needed) }}
{{- end }}
{{- if gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas) }}
{{- fail (printf "gateway.autoscaling.minReplicas is %d, and maxReplicas %d" (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}
{{- end }}
{{- end }}
{{- end }}
