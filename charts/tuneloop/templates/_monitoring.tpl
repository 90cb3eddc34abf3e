{{/* One port to scrape: (list $ port job). Jobs are called as on one machine, so that dashboards and rules fit both. */}}
{{- define "tuneloop.scrape" -}}
- port: {{ index . 1 }}
  path: /metrics
  interval: {{ (index . 0).Values.monitoring.interval }}
  scrapeTimeout: {{ (index . 0).Values.monitoring.interval }}
  relabelings:
    - {targetLabel: job, replacement: {{ index . 2 }}}
{{- end }}
