{{/* The volumes of Deployments: the root file system is read-only, so what a service writes has a place of its own. */}}

{{- define "tuneloop.volumes" -}}
- name: tmp
  emptyDir: {}
{{- if eq .key "dataIngest" }}
- name: work
{{- with .values.work }}
{{- if .claim }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests: {storage: {{ .size }}}
{{- else }}
  emptyDir: {sizeLimit: {{ .size }}}
{{- end }}
{{- end }}
{{- else if eq .key "gateway" }}
# The last route table: a restarted container serves it while Kafka is away.
- name: state
  emptyDir: {sizeLimit: 64Mi}
{{- if .values.apiKeys.existingSecret }}
- name: api-keys
  secret: {secretName: {{ .values.apiKeys.existingSecret }}, defaultMode: 0440}
{{- end }}
{{- else if and (eq .key "rollout") .values.webhooks.existingSecret }}
- name: webhook-secrets
  secret: {secretName: {{ .values.webhooks.existingSecret }}, defaultMode: 0440}
{{- end }}
{{- with .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tuneloop.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if eq .key "dataIngest" }}
- {name: work, mountPath: /work}
{{- else if eq .key "gateway" }}
- {name: state, mountPath: /state}
{{- if .values.apiKeys.existingSecret }}
- {name: api-keys, mountPath: /etc/tuneloop/api-keys, readOnly: true}
{{- end }}
{{- else if and (eq .key "rollout") .values.webhooks.existingSecret }}
- {name: webhook-secrets, mountPath: /etc/tuneloop/webhook-secrets, readOnly: true}
{{- end }}
{{- with .values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Certificates for Kafka, where there are any; everybody who has tuneloop.kafkaEnv has them. */}}
{{- define "tuneloop.hasKafkaFiles" -}}
{{- with .Values.kafka }}{{ if and (hasSuffix "SSL" .securityProtocol) (or .tls.ca.existingSecret .tls.existingSecret) }}true{{ end }}{{ end -}}
{{- end }}

{{- define "tuneloop.kafkaVolume" -}}
{{- if include "tuneloop.hasKafkaFiles" . }}
- name: kafka-tls
  projected:
    defaultMode: 0440
    sources:
    {{- with .Values.kafka.tls }}
    {{- if .ca.existingSecret }}
      - secret: {name: {{ .ca.existingSecret }}, items: [{key: {{ .ca.key }}, path: ca.crt}]}
    {{- end }}
    {{- if .existingSecret }}
      - secret: {name: {{ .existingSecret }}, items: [{key: {{ .certKey }}, path: user.crt}, {key: {{ .keyKey }}, path: user.key}]}
    {{- end }}
    {{- end }}
{{- end }}
{{- end }}

{{- define "tuneloop.kafkaMount" -}}
{{- if include "tuneloop.hasKafkaFiles" . }}
- {name: kafka-tls, mountPath: /etc/tuneloop/kafka, readOnly: true}
{{- end }}
{{- end }}

{{/* Who signed for S3, where that is no public authority; everybody who has tuneloop.s3Env has it. */}}
{{- define "tuneloop.s3Volume" -}}
{{- with .Values.s3.ca }}
{{- if .existingSecret }}
- name: s3-ca
  secret: {secretName: {{ .existingSecret }}, items: [{key: {{ .key }}, path: ca.crt}], defaultMode: 0440}
{{- end }}
{{- end }}
{{- end }}

{{- define "tuneloop.s3Mount" -}}
{{- if .Values.s3.ca.existingSecret }}
- {name: s3-ca, mountPath: /etc/tuneloop/s3, readOnly: true}
{{- end }}
{{- end }}
