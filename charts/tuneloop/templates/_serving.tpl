{{/* The pod of a model server: vLLM or the small engine, and the adapter agent. All take the serving component. */}}

{{/* Where vLLM and its libraries write; without it they try the read-only root. */}}
{{- define "tuneloop.serverCaches" }}
- {name: HOME, value: /tmp}
- {name: USER, value: tuneloop}
- {name: XDG_CACHE_HOME, value: /cache/xdg}
- {name: VLLM_CACHE_ROOT, value: /cache/vllm}
- {name: TRITON_CACHE_DIR, value: /cache/triton}
{{- end }}

{{/* The pod's name is the replica's: a StatefulSet gives it to the next pod, too. */}}
{{- define "tuneloop.podName" }}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end }}

{{/* Environment of the model server: (list $ component). */}}
{{- define "tuneloop.serverEnv" -}}
{{- $root := index . 0 -}}
{{- $values := (index . 1).values -}}
{{- include "tuneloop.podName" $root }}
{{- include "tuneloop.commonEnv" (list $root 8000) }}
{{- include "tuneloop.s3Env" $root }}
{{- include "tuneloop.variable" (list "TUNELOOP_BASE_MODEL" $values.baseModel) }}
{{- include "tuneloop.variable" (list "TUNELOOP_CACHE_DIR" "/cache") }}
{{- include "tuneloop.variable" (list "TUNELOOP_MAX_LORA_RANK" $values.maxLoraRank) }}
{{- if eq $values.engine "vllm" }}
{{- include "tuneloop.variable" (list "TUNELOOP_WANTED_FILE" "/cache/serving/$(POD_NAME).wanted.json") }}
{{- include "tuneloop.variable" (list "TUNELOOP_MAX_LORAS" $values.maxLoras) }}
{{- include "tuneloop.variable" (list "TUNELOOP_MAX_CPU_LORAS" $values.maxCpuLoras) }}
{{- $arguments := list (printf "--shutdown-timeout %d" (int $values.drainSeconds)) }}
{{- range $values.vllm.arguments }}{{ $arguments = append $arguments (squote .) }}{{ end }}
{{- include "tuneloop.variable" (list "TUNELOOP_VLLM_ARGUMENTS" (join " " $arguments)) }}
{{- include "tuneloop.settings" $values.vllm.settings }}
{{- else }}
{{- /* The small engine has no slots apart from its memory. */}}
{{- include "tuneloop.variable" (list "TUNELOOP_MAX_LORAS" $values.maxCpuLoras) }}
{{- include "tuneloop.settings" $values.small.settings }}
{{- end }}
{{- include "tuneloop.serverCaches" $root }}
{{- with $values.server.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Environment of the adapter agent: (list $ component). */}}
{{- define "tuneloop.agentEnv" -}}
{{- $root := index . 0 -}}
{{- $values := (index . 1).values -}}
{{- include "tuneloop.podName" $root }}
- name: POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
{{- include "tuneloop.commonEnv" (list $root 8080) }}
{{- include "tuneloop.kafkaEnv" $root }}
# Its memory goes with the pod's volume, so each pod reads the routes from their beginning, as a group of its own.
{{- include "tuneloop.variable" (list "TUNELOOP_KAFKA_GROUP_SUFFIX" "-$(POD_UID)") }}
{{- include "tuneloop.s3Env" $root }}
{{- include "tuneloop.variable" (list "TUNELOOP_DATABASE_URL" "sqlite:////cache/agent.db") }}
{{- include "tuneloop.variable" (list "TUNELOOP_REPLICA" "$(POD_NAME)") }}
{{- include "tuneloop.variable" (list "TUNELOOP_ENGINE_URL" "http://127.0.0.1:8000") }}
{{- include "tuneloop.variable" (list "TUNELOOP_ADVERTISED_ENDPOINT" (printf "http://$(POD_NAME).%s.svc:8000" $root.Release.Namespace)) }}
{{- include "tuneloop.variable" (list "TUNELOOP_BASE_MODEL" $values.baseModel) }}
{{- include "tuneloop.variable" (list "TUNELOOP_CACHE_DIR" "/cache") }}
{{- include "tuneloop.variable" (list "TUNELOOP_MAX_LORAS" $values.maxLoras) }}
{{- include "tuneloop.variable" (list "TUNELOOP_MAX_CPU_LORAS" $values.maxCpuLoras) }}
{{- include "tuneloop.variable" (list "TUNELOOP_MAX_LORA_RANK" $values.maxLoraRank) }}
{{- include "tuneloop.settings" $values.settings }}
{{- with $values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The model server's container: (list $ component). */}}
{{- define "tuneloop.serverContainer" -}}
{{- $root := index . 0 -}}
{{- $values := (index . 1).values -}}
- name: engine
  image: {{ include "tuneloop.image" (list $root (ternary "vllm" "trainer" (eq $values.engine "vllm"))) }}
  imagePullPolicy: {{ $root.Values.images.pullPolicy }}
  command: {{ ternary $values.vllm.command (list "python" "-m" "services.serving.engine") (eq $values.engine "vllm") | toJson }}
  env: {{- include "tuneloop.serverEnv" . | trim | nindent 4 }}
  ports:
    - {name: engine, containerPort: 8000}
  {{- include "tuneloop.probe" (list "startupProbe" "/health" "engine" $values.server.probes.startup) | nindent 2 }}
  {{- include "tuneloop.probe" (list "readinessProbe" "/health" "engine" $values.server.probes.readiness) | nindent 2 }}
  {{- include "tuneloop.probe" (list "livenessProbe" "/health" "engine" $values.server.probes.liveness) | nindent 2 }}
  lifecycle:
    preStop:
      exec:
        command: {{ list (ternary "python3" "python" (eq $values.engine "vllm")) "-m" "services.serving.drain" "--agent" "http://127.0.0.1:8080" "--engine" "http://127.0.0.1:8000" "--seconds" (int $values.drainSeconds | toString) | toJson }}
  resources: {{- toYaml $values.server.resources | nindent 4 }}
  securityContext: {{- toYaml $values.securityContext | nindent 4 }}
  volumeMounts: {{- include "tuneloop.servingMounts" . | nindent 4 }}
    - {name: shared-memory, mountPath: /dev/shm}
{{- end }}

{{/* The agent's container, a sidecar: there before the model server, and until that has drained. (list $ component) */}}
{{- define "tuneloop.agentContainer" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
- name: agent
  restartPolicy: Always
  image: {{ include "tuneloop.image" (list $root "controlPlane") }}
  imagePullPolicy: {{ $root.Values.images.pullPolicy }}
  command: [python, -m, services.{{ $component.service }}]
  env: {{- include "tuneloop.agentEnv" . | trim | nindent 4 }}
  ports:
    - {name: http, containerPort: 8080}
  {{- include "tuneloop.probes" $component.values | nindent 2 }}
  resources: {{- toYaml $component.values.resources | nindent 4 }}
  securityContext: {{- toYaml $component.values.securityContext | nindent 4 }}
  volumeMounts: {{- include "tuneloop.servingMounts" . | nindent 4 }}
    {{- include "tuneloop.kafkaMount" $root | nindent 4 }}
{{- end }}

{{- define "tuneloop.servingMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: cache, mountPath: /cache}
{{- include "tuneloop.s3Mount" (index . 0) }}
{{- with (index . 1).values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
