{{/*
The services, by their key in the values. `service` is the module's name and the end of the consumer group's,
`topics` is what that group consumes, `groups` are others of its groups with the topic of each (tests compare all with the code); `launches` says that it runs jobs.
*/}}
{{- define "tuneloop.components" -}}
dataIngest:
  name: data-ingest
  service: data_ingest
  database: true
  s3: true
  topics: [tuneloop.datasets, tuneloop.pipelines]
trainer:
  name: trainer
  service: trainer
  database: true
  s3: true
  launches: true
  topics: [tuneloop.datasets, tuneloop.drift, tuneloop.models, tuneloop.pipelines]
evaluator:
  name: evaluator
  service: evaluator
  database: true
  s3: true
  launches: true
  topics: [tuneloop.datasets, tuneloop.drift, tuneloop.models, tuneloop.pipelines, tuneloop.runs]
registry:
  name: registry
  service: registry
  database: true
  topics: [tuneloop.datasets, tuneloop.evaluations, tuneloop.rollouts, tuneloop.runs]
rollout:
  name: rollout
  service: rollout
  database: true
  topics: [tuneloop.adapters, tuneloop.models, tuneloop.pipelines, tuneloop.units]
drift:
  name: drift
  service: drift
  database: true
  s3: true
  topics: [tuneloop.evaluations, tuneloop.models, tuneloop.pipelines]
  # Samples have a group of their own.
  groups: {tuneloop-drift-samples: tuneloop.samples}
gateway:
  name: gateway
  service: gateway
serving:
  name: serving
  service: serving
  s3: true
  stateful: true
{{- end }}

{{/*
A service's values, its own over the defaults, and what is known of it, as one YAML document with the keys
`key`, `name`, …, `values`: (list $ "gateway"). `rewrites` says that it splits traffic by llm-d's InferenceModelRewrite,
`kubernetes` that it asks the Kubernetes API for anything.
*/}}
{{- define "tuneloop.component" -}}
{{- $root := index . 0 -}}
{{- $key := index . 1 -}}
{{- $component := index (include "tuneloop.components" $root | fromYaml) $key -}}
{{- $values := mergeOverwrite (deepCopy $root.Values.defaults) (deepCopy (index $root.Values $key)) -}}
{{- $rewrites := eq "inference-model-rewrite" (dig "trafficBackend" "" $values) -}}
{{- $kubernetes := or $rewrites (dig "launches" false $component) -}}
{{- merge (dict "key" $key "values" $values "rewrites" $rewrites "kubernetes" $kubernetes) $component | toYaml -}}
{{- end }}

{{/* Keys of the services that are there, as a YAML document {keys: […]}. */}}
{{- define "tuneloop.enabled" -}}
{{- $enabled := list -}}
{{- range $key := include "tuneloop.components" . | fromYaml | keys | sortAlpha -}}
{{- if (include "tuneloop.component" (list $ $key) | fromYaml).values.enabled }}{{ $enabled = append $enabled $key }}{{ end -}}
{{- end -}}
{{- dict "keys" $enabled | toYaml -}}
{{- end }}

{{/* Whether model servers are all that this release has, as one for a second base model; "true" or nothing. */}}
{{- define "tuneloop.hasModelServersAlone" -}}
{{- if eq "serving" (join "," (include "tuneloop.enabled" . | fromYaml).keys) }}true{{ end -}}
{{- end }}
