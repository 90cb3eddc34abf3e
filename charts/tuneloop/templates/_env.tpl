{{/* Environment variables, as items of a container's env. */}}

{{/* One variable with a value: (list "NAME" value). Whole numbers are written as such, and nothing for "". */}}
{{- define "tuneloop.variable" -}}
{{- $value := index . 1 -}}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}{{ $value = int64 $value }}{{ end -}}
{{- if ne (toString $value) "" }}
- {name: {{ index . 0 }}, value: {{ toString $value | quote }}}
{{- end }}
{{- end }}

{{/* A settings map: maxUploadBytes becomes TUNELOOP_MAX_UPLOAD_BYTES. Maps are told as JSON, lists with commas. */}}
{{- define "tuneloop.settings" -}}
{{- range $key, $value := . }}
{{- if kindIs "map" $value }}{{ $value = toJson $value }}{{ else if kindIs "slice" $value }}{{ $value = join "," $value }}{{ end }}
{{- include "tuneloop.variable" (list (printf "TUNELOOP_%s" (snakecase $key | upper)) $value) }}
{{- end }}
{{- end }}

{{/* A variable from a secret: (list "NAME" secret key). */}}
{{- define "tuneloop.secretVariable" }}
- name: {{ index . 0 }}
  valueFrom: {secretKeyRef: {name: {{ index . 1 }}, key: {{ index . 2 }}}}
{{- end }}

{{/* What every process of ours is told: (list $ port). */}}
{{- define "tuneloop.commonEnv" -}}
{{- $values := (index . 0).Values -}}
{{- include "tuneloop.variable" (list "TUNELOOP_HTTP_HOST" "0.0.0.0") }}
{{- include "tuneloop.variable" (list "TUNELOOP_HTTP_PORT" (index . 1)) }}
{{- include "tuneloop.variable" (list "TUNELOOP_LOG_LEVEL" $values.logging.level) }}
{{- include "tuneloop.variable" (list "TUNELOOP_LOG_FORMAT" $values.logging.format) }}
{{- include "tuneloop.variable" (list "TUNELOOP_OTLP_ENDPOINT" $values.tracing.otlpEndpoint) }}
{{- end }}

{{- define "tuneloop.kafkaEnv" -}}
{{- include "tuneloop.variable" (list "TUNELOOP_KAFKA_BOOTSTRAP" .Values.kafka.bootstrapServers) }}
{{- include "tuneloop.variable" (list "TUNELOOP_KAFKA_SESSION_TIMEOUT_MS" .Values.kafka.sessionTimeoutMs) }}
{{- with .Values.kafka }}
{{- include "tuneloop.variable" (list "TUNELOOP_KAFKA_SECURITY_PROTOCOL" .securityProtocol) }}
{{- if hasSuffix "SSL" .securityProtocol }}
{{- if .tls.ca.existingSecret }}{{ include "tuneloop.variable" (list "TUNELOOP_KAFKA_CA_FILE" "/etc/tuneloop/kafka/ca.crt") }}{{ end }}
{{- if .tls.existingSecret }}
{{- include "tuneloop.variable" (list "TUNELOOP_KAFKA_CERT_FILE" "/etc/tuneloop/kafka/user.crt") }}
{{- include "tuneloop.variable" (list "TUNELOOP_KAFKA_KEY_FILE" "/etc/tuneloop/kafka/user.key") }}
{{- end }}
{{- end }}
{{- if hasPrefix "SASL" .securityProtocol }}
{{- include "tuneloop.variable" (list "TUNELOOP_KAFKA_SASL_MECHANISM" .sasl.mechanism) }}
{{- include "tuneloop.variable" (list "TUNELOOP_KAFKA_USERNAME" .sasl.username) }}
{{- include "tuneloop.secretVariable" (list "TUNELOOP_KAFKA_PASSWORD" .sasl.existingSecret .sasl.passwordKey) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "tuneloop.s3Env" -}}
{{- with .Values.s3 }}
{{- include "tuneloop.variable" (list "TUNELOOP_S3_ENDPOINT" .endpoint) }}
{{- include "tuneloop.variable" (list "TUNELOOP_S3_BUCKET" .bucket) }}
{{- include "tuneloop.variable" (list "TUNELOOP_S3_REGION" .region) }}
{{- if .ca.existingSecret }}{{ include "tuneloop.variable" (list "TUNELOOP_S3_CA_FILE" "/etc/tuneloop/s3/ca.crt") }}{{ end }}
{{- if .existingSecret }}
{{- include "tuneloop.secretVariable" (list "TUNELOOP_S3_ACCESS_KEY" .existingSecret .accessKeyKey) }}
{{- include "tuneloop.secretVariable" (list "TUNELOOP_S3_SECRET_KEY" .existingSecret .secretKeyKey) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The database of a service: (list $ component). */}}
{{- define "tuneloop.databaseEnv" -}}
{{- include "tuneloop.secretVariable" (list "TUNELOOP_DATABASE_URL" (index . 0).Values.database.existingSecret (index . 1).name) }}
{{- end }}

{{/* How trainer and evaluator run their jobs. */}}
{{- define "tuneloop.launcherEnv" -}}
{{- $jobs := .Values.jobs -}}
{{- $s3 := .Values.s3 -}}
{{- include "tuneloop.variable" (list "TUNELOOP_LAUNCHER" "kubernetes") }}
{{- include "tuneloop.variable" (list "TUNELOOP_CACHE_DIR" "/cache") }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_IMAGE" (include "tuneloop.image" (list . "trainer"))) }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_IMAGE_PULL_POLICY" .Values.images.pullPolicy) }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_IMAGE_PULL_SECRETS" (join "," .Values.images.pullSecrets)) }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_OWNER" (include "tuneloop.fullname" .)) }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_SERVICE_ACCOUNT" (include "tuneloop.serviceAccountName" (list . "job" $jobs.serviceAccount))) }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_CPU" $jobs.cpu) }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_MEMORY" $jobs.memory) }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_SCRATCH_SIZE" $jobs.scratchSize) }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_CACHE_CLAIM" $jobs.cacheClaim) }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_QUEUE" $jobs.queue) }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_PRIORITY_CLASS" $jobs.priorityClassName) }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_GRACE_SECONDS" $jobs.graceSeconds) }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_KEEP_SECONDS" $jobs.keepSeconds) }}
{{- if $jobs.hardware }}{{ include "tuneloop.variable" (list "TUNELOOP_JOB_HARDWARE" (toJson $jobs.hardware)) }}{{ end }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_SECRETS" (join "," $jobs.existingSecrets)) }}
{{- if $jobs.env }}{{ include "tuneloop.variable" (list "TUNELOOP_JOB_ENV" (toJson $jobs.env)) }}{{ end }}
{{- if $s3.ca.existingSecret }}{{ include "tuneloop.variable" (list "TUNELOOP_JOB_S3_CA" (printf "%s/%s" $s3.ca.existingSecret $s3.ca.key)) }}{{ end }}
{{- if $s3.existingSecret }}
{{- $credentials := dict "TUNELOOP_S3_ACCESS_KEY" (printf "%s/%s" $s3.existingSecret $s3.accessKeyKey) "TUNELOOP_S3_SECRET_KEY" (printf "%s/%s" $s3.existingSecret $s3.secretKeyKey) }}
{{- include "tuneloop.variable" (list "TUNELOOP_JOB_SECRET_ENV" (toJson $credentials)) }}
{{- end }}
{{- end }}

{{/* What one service needs and others do not: (list $ component). */}}
{{- define "tuneloop.ownEnv" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- if $component.launches }}{{ include "tuneloop.launcherEnv" $root }}{{ end }}
{{- if eq $component.key "dataIngest" }}
{{- include "tuneloop.variable" (list "TUNELOOP_WORK_DIR" "/work") }}
{{- else if eq $component.key "rollout" }}
{{- include "tuneloop.variable" (list "TUNELOOP_PROMETHEUS_URL" $root.Values.prometheus.url) }}
{{- if $component.rewrites }}
{{- include "tuneloop.variable" (list "TUNELOOP_TRAFFIC_BACKEND" $component.values.trafficBackend) }}
{{- include "tuneloop.variable" (list "TUNELOOP_INFERENCE_POOLS" (toJson $component.values.inferencePools)) }}
{{- end }}
{{- with $component.values }}
{{- if .webhooks.existingSecret }}{{ include "tuneloop.variable" (list "TUNELOOP_WEBHOOK_SECRETS_DIR" "/etc/tuneloop/webhook-secrets") }}{{ end }}
{{- include "tuneloop.variable" (list "TUNELOOP_WEBHOOK_HOSTS" (join "," .webhooks.hosts)) }}
{{- if .notifications }}{{ include "tuneloop.variable" (list "TUNELOOP_NOTIFICATIONS" (toJson .notifications)) }}{{ end }}
{{- end }}
{{- else if eq $component.key "drift" }}
{{- with $component.values.embeddings }}
{{- if .existingSecret }}{{ include "tuneloop.secretVariable" (list "TUNELOOP_EMBEDDINGS_KEY" .existingSecret .key) }}{{ end }}
{{- end }}
{{- else if eq $component.key "gateway" }}
{{- include "tuneloop.variable" (list "TUNELOOP_STATE_DIR" "/state") }}
{{- with $component.values.apiKeys }}
{{- if .existingSecret }}{{ include "tuneloop.variable" (list "TUNELOOP_API_KEYS_FILE" (printf "/etc/tuneloop/api-keys/%s" .key)) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/* All of a Deployment's container: (list $ component). */}}
{{- define "tuneloop.env" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- include "tuneloop.commonEnv" (list $root 8080) }}
{{- include "tuneloop.kafkaEnv" $root }}
{{- if $component.s3 }}{{ include "tuneloop.s3Env" $root }}{{ end }}
{{- if $component.database }}{{ include "tuneloop.databaseEnv" . }}{{ end }}
{{- include "tuneloop.ownEnv" . }}
{{- include "tuneloop.settings" $component.values.settings }}
{{- with $component.values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
