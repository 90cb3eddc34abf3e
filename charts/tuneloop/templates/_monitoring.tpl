{{/* One port to scrape: (list $ port job). Jobs are called as on one machine, so that dashboards and rules fit both. */}}
{{- define "tuneloop.scrape" -}}
- port: {{ index . 1 }}
  path: /metrics
  interval: {{ (index . 0).Values.monitoring.interval }}
  scrapeTimeout: {{ (index . 0).Values.monitoring.interval }}
  relabelings:
    - {targetLabel: job, replacement: {{ index . 2 }}}
{{- end }}
{{/* Rules without those that are switched off, or that miss a service that is; with whole addresses of the runbook and
the thresholds of the values: (list $ rules), as YAML. */}}
{{- define "tuneloop.rules" -}}
{{- $root := index . 0 }}
{{- $enabled := (include "tuneloop.enabled" $root | fromYaml).keys }}
{{- $pointless := list }}
{{- range $key, $component := include "tuneloop.components" $root | fromYaml }}
{{- if not (has $key $enabled) }}{{ $pointless = append $pointless (printf "absent(up{job=%q})" $component.service) }}{{ end }}
{{- end }}
{{- $kept := list }}
{{- range $rule := index . 1 }}
{{- if not (or (has ($rule.alert | default "") $root.Values.monitoring.disabledAlerts) (has $rule.expr $pointless)) }}
{{- if dig "annotations" "runbook_url" "" $rule }}
{{- $_ := set $rule.annotations "runbook_url" (print $root.Values.monitoring.runbookBaseUrl $rule.annotations.runbook_url) }}
{{- end }}
{{- if eq ($rule.record | default "") "tuneloop_threshold" }}
{{- $_ := set $rule "expr" (printf "vector(%v)" (index $root.Values.monitoring.thresholds $rule.labels.name)) }}
{{- end }}
{{- $kept = append $kept $rule }}
{{- end }}
{{- end }}
{{- toYaml $kept }}
{{- end }}
{{/* A dashboard as JSON, with whole addresses of the runbook, or without links to it: (list $ dashboard). */}}
{{- define "tuneloop.dashboard" -}}
{{- $base := (index . 0).Values.monitoring.runbookBaseUrl }}
{{- $dashboard := index . 1 }}
{{- $links := list }}
{{- range $link := $dashboard.links }}
{{- if not (hasPrefix "/public/docs/" (default "" $link.url)) }}
{{- $links = append $links $link }}
{{- else if $base }}
{{- $links = append $links (set $link "url" (printf "%s%s" $base (trimPrefix "/public/" $link.url))) }}
{{- end }}
{{- end }}
{{- if hasKey $dashboard "links" }}
{{- $_ := set $dashboard "links" $links }}
{{- end }}
{{- toRawJson $dashboard }}
{{- end }}
