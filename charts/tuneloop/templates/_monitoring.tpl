{{/* One port to scrape: (list $ port job). Jobs are called as on one machine, so that dashboards and rules fit both. */}}
{{- define "tuneloop.scrape" -}}
- port: {{ index . 1 }}
  path: /metrics
  interval: {{ (index . 0).Values.monitoring.interval }}
  scrapeTimeout: {{ (index . 0).Values.monitoring.interval }}
  relabelings:
    - {targetLabel: job, replacement: {{ index . 2 }}}
{{- end }}
{{/* Rules without those that are switched off, with whole addresses of the runbook: (list $ rules), as YAML. */}}
{{- define "tuneloop.rules" -}}
{{- $monitoring := (index . 0).Values.monitoring }}
{{- $kept := list }}
{{- range $rule := index . 1 }}
{{- if not (has ($rule.alert | default "") $monitoring.disabledAlerts) }}
{{- with $rule.annotations }}
{{- $_ := set . "runbook_url" (printf "%s%s" $monitoring.runbookBaseUrl .runbook_url) }}
{{- end }}
{{- $kept = append $kept $rule }}
{{- end }}
{{- end }}
{{- toYaml $kept }}
{{- end }}
