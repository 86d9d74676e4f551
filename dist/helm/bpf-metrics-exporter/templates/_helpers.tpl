{{/* Name of the chart, for labels. */}}
{{- define "bpf-metrics-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of all objects: at most 50 characters, so that suffixes have room. */}}
{{- define "bpf-metrics-exporter.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "bpf-metrics-exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "bpf-metrics-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "bpf-metrics-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "bpf-metrics-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/component: metrics
app.kubernetes.io/part-of: {{ include "bpf-metrics-exporter.name" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{ include "bpf-metrics-exporter.selectorLabels" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "bpf-metrics-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "bpf-metrics-exporter.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The image, by digest where there is one. */}}
{{- define "bpf-metrics-exporter.image" -}}
{{- $image := .Values.image }}
{{- $name := $image.repository }}
{{- with $image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end }}
{{- if $image.digest }}
{{- printf "%s@%s" $name $image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{/* What the schema cannot say: values that exclude each other. */}}
{{- define "bpf-metrics-exporter.validate" -}}
{{- $values := .Values }}
{{- if and $values.baseline.text $values.baseline.configMap }}
{{- fail "baseline.text and baseline.configMap exclude each other" }}
{{- end }}
{{- if and $values.prometheus.monitor.enabled (not $values.service.enabled) }}
{{- fail "prometheus.monitor.enabled needs service.enabled; prometheus.podMonitor.enabled does not" }}
{{- end }}
{{- if and $values.prometheus.monitor.enabled $values.prometheus.podMonitor.enabled }}
{{- fail "prometheus.monitor.enabled and prometheus.podMonitor.enabled would scrape each pod twice" }}
{{- end }}
{{- if and (eq $values.collection.netns "all") (not $values.hostPID) }}
{{- fail "collection.netns: all needs hostPID: true" }}
{{- end }}
{{- if and $values.leastPrivilege (hasPrefix "sample" (toString $values.collection.runStats)) }}
{{- fail "collection.runStats: sample needs capabilities that leastPrivilege gives up" }}
{{- end }}
{{- $address := $values.web.listenAddress }}
{{- if and $address (not (hasPrefix "unix:" $address)) (not (hasSuffix (printf ":%v" $values.service.targetPort) $address)) }}
{{- fail "web.listenAddress and service.targetPort have different ports" }}
{{- end }}
{{- range $name, $probe := dict "livenessProbe" $values.livenessProbe "readinessProbe" $values.readinessProbe }}
{{- if $probe.enabled }}
{{- if include "bpf-metrics-exporter.isExec" (dict "probe" $probe "root" $) }}
{{- if $probe.httpHeaders }}
{{- fail (printf "%s.httpHeaders has no effect on a probe that runs a command: see %s.exec" $name $name) }}
{{- end }}
{{- else if include "bpf-metrics-exporter.isLocal" $ }}
{{- fail (printf "%s.exec: false: the kubelet cannot connect to web.listenAddress %s" $name $address) }}
{{- end }}
{{- end }}
{{- end }}
{{- if $values.prometheus.rules.enabled }}
{{- range $values.prometheus.rules.disabledAlerts }}
{{- if not (regexMatch (printf "(?m)alert: %s$" .) ($.Files.Get "files/rules/bpf-alerts.yaml")) }}
{{- fail (printf "prometheus.rules.disabledAlerts: no alert is named %s" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- if not $values.otlp.destinations }}
{{- range $name, $value := dict "otlp.headersSecret" $values.otlp.headersSecret "otlp.tls.caSecret" $values.otlp.tls.caSecret "otlp.tls.clientSecret" $values.otlp.tls.clientSecret "otlp.backlog.volume" $values.otlp.backlog.volume }}
{{- if $value }}{{ fail (printf "%s needs otlp.destinations" $name) }}{{ end }}
{{- end }}
{{- end }}
{{- range $values.extraArgs }}
{{- if not (hasPrefix "--" .) }}{{ fail (printf "extraArgs: %q is not a flag: give --FLAG=VALUE" .) }}{{ end }}
{{- end }}
{{- end }}

{{/* Settings, by the names of their variables without the prefix. As variables they hold for `doctor` in the pod as well. */}}
{{- define "bpf-metrics-exporter.settings" -}}
{{- $values := .Values }}
{{- $settings := dict "WEB_LISTEN_ADDRESS" (default (printf ":%v" $values.service.targetPort) $values.web.listenAddress) }}
{{- if ne $values.web.telemetryPath "/metrics" }}{{ $_ := set $settings "WEB_TELEMETRY_PATH" $values.web.telemetryPath }}{{ end }}
{{- if ne (int $values.web.maxRequests) 40 }}{{ $_ := set $settings "WEB_MAX_REQUESTS" $values.web.maxRequests }}{{ end }}
{{- $hosts := list }}
{{- if $values.service.enabled }}
{{- $name := include "bpf-metrics-exporter.fullname" . }}
{{- $service := printf "%s.%s" $name (include "bpf-metrics-exporter.namespace" .) }}
{{- $hosts = list $name $service (printf "%s.svc" $service) (printf "%s.svc.%s" $service $values.web.clusterDomain) }}
{{- end }}
{{- with concat $hosts $values.web.allowedHosts }}{{ $_ := set $settings "WEB_ALLOWED_HOSTS" (join "," .) }}{{ end }}
{{- if not $values.web.page }}{{ $_ := set $settings "WEB_PAGE" false }}{{ end }}
{{- if $values.web.createdTimestamps }}{{ $_ := set $settings "WEB_CREATED_TIMESTAMPS" true }}{{ end }}
{{- with $values.web.configSecret }}
{{- $_ := set $settings "WEB_CONFIG_FILE" (printf "/etc/bpf-metrics-exporter/web/%s" (default "web-config.yml" .key)) }}
{{- end }}
{{- $receivers := dict "grpc" list "http" list }}
{{- range $values.otlp.destinations }}
{{- $protocol := default "grpc" .protocol }}
{{- $_ := set $receivers $protocol (append (get $receivers $protocol) .endpoint) }}
{{- end }}
{{- with $receivers.grpc }}{{ $_ := set $settings "OTLP_GRPC" (join "," .) }}{{ end }}
{{- with $receivers.http }}{{ $_ := set $settings "OTLP_HTTP" (join "," .) }}{{ end }}
{{- if $values.otlp.destinations }}
{{- $_ := set $settings "INTERVAL" $values.otlp.interval }}
{{- with $values.otlp.compression }}{{ $_ := set $settings "OTLP_COMPRESSION" . }}{{ end }}
{{- if not $values.otlp.eventLogs }}{{ $_ := set $settings "EVENT_LOGS" false }}{{ end }}
{{- $_ := set $settings "OTLP_MAX_REQUEST_BYTES" $values.otlp.maxRequestBytes }}
{{- $_ := set $settings "OTLP_BACKLOG_BYTES" $values.otlp.backlog.bytes }}
{{- if $values.otlp.backlog.volume }}{{ $_ := set $settings "OTLP_BACKLOG_DIR" "/var/lib/bpf-metrics-exporter/backlog" }}{{ end }}
{{- else }}
{{- $_ := set $settings "OTLP_GRPC" "none" }}
{{- end }}
{{- if $values.mounts.hostRoot }}{{ $_ := set $settings "HOST_ROOT" "/host/root" }}{{ end }}
{{- if $values.leastPrivilege }}{{ $_ := set $settings "LEAST_PRIVILEGE" true }}{{ end }}
{{- /* YAML 1.1 reads `on` and `off` as booleans. */}}
{{- $runStats := toString $values.collection.runStats }}
{{- $_ := set $settings "RUN_STATS" (get (dict "true" "on" "false" "off") $runStats | default $runStats) }}
{{- if ne $values.collection.kernelReader "auto" }}{{ $_ := set $settings "KERNEL_READER" $values.collection.kernelReader }}{{ end }}
{{- if ne $values.collection.hooksInterval "60s" }}{{ $_ := set $settings "HOOKS_INTERVAL" $values.collection.hooksInterval }}{{ end }}
{{- $_ := set $settings "NETNS" (default (ternary "all" "own" $values.hostPID) $values.collection.netns) }}
{{- with $values.collection.countByWalking }}{{ $_ := set $settings "COUNT_BY_WALKING" . }}{{ end }}
{{- if not $values.collection.eventStream }}{{ $_ := set $settings "EVENT_STREAM" false }}{{ end }}
{{- if or $values.baseline.text $values.baseline.configMap }}
{{- $_ := set $settings "BASELINE" (printf "/etc/bpf-metrics-exporter/baseline/%s" (default "baseline.txt" $values.baseline.configMap.key)) }}
{{- end }}
{{- with $values.runtimeSockets.cri }}{{ $_ := set $settings "CRI_SOCKET" (join "," .) }}{{ end }}
{{- with $values.runtimeSockets.docker }}{{ $_ := set $settings "DOCKER_SOCKET" (join "," .) }}{{ end }}
{{- with $values.selection.only }}{{ $_ := set $settings "ONLY" (join ";" .) }}{{ end }}
{{- with $values.selection.except }}{{ $_ := set $settings "EXCEPT" (join ";" .) }}{{ end }}
{{- if ne $values.selection.minAge "0s" }}{{ $_ := set $settings "MIN_AGE" $values.selection.minAge }}{{ end }}
{{- with $values.selection.includeMetrics }}{{ $_ := set $settings "INCLUDE_METRICS" (join "," .) }}{{ end }}
{{- with $values.selection.excludeMetrics }}{{ $_ := set $settings "EXCLUDE_METRICS" (join "," .) }}{{ end }}
{{- with $values.selection.maxSeries }}{{ $_ := set $settings "MAX_SERIES" . }}{{ end }}
{{- if not $values.selection.perObject }}{{ $_ := set $settings "PER_OBJECT" false }}{{ end }}
{{- if not $values.selection.holders }}{{ $_ := set $settings "HOLDERS" false }}{{ end }}
{{- if not $values.selection.programMaps }}{{ $_ := set $settings "PROGRAM_MAPS" false }}{{ end }}
{{- $_ := set $settings "LOG_LEVEL" $values.log.level }}
{{- $_ := set $settings "LOG_FORMAT" $values.log.format }}
{{- range $name, $value := $settings }}
- name: BPF_METRICS_EXPORTER_{{ $name }}
  {{- /* Helm reads whole numbers as floating-point ones. */}}
  value: {{ kindIs "float64" $value | ternary (int64 $value) $value | toString | quote }}
{{- end }}
{{- end }}

{{/* Attributes of the resource: key=value, separated by commas. The schema keeps out what would need encoding. */}}
{{- define "bpf-metrics-exporter.resourceAttributes" -}}
{{- $attributes := dict }}
{{- if not (or .Values.hostPID .Values.mounts.hostRoot) }}{{ $_ := set $attributes "host.name" "$(NODE_NAME)" }}{{ end }}
{{- with .Values.clusterName }}{{ $_ := set $attributes "k8s.cluster.name" . }}{{ end }}
{{- $attributes = merge (deepCopy .Values.resourceAttributes) $attributes }}
{{- $members := list }}
{{- range $key, $value := $attributes }}{{ $members = append $members (printf "%s=%s" $key $value) }}{{ end }}
{{- join "," $members }}
{{- end }}

{{/* Directories of the sockets of container runtimes, and sockets that are mounted alone: their paths, sorted, once each. */}}
{{- define "bpf-metrics-exporter.socketPaths" -}}
{{- $paths := list }}
{{- range concat .Values.runtimeSockets.cri .Values.runtimeSockets.docker }}
{{- $directory := dir . }}
{{- $paths = append $paths (ternary . $directory (has $directory (list "/run" "/var/run"))) }}
{{- end }}
{{- uniq $paths | sortAlpha | toJson }}
{{- end }}

{{/* "true" if the endpoint is served on loopback or Unix sockets only, where the kubelet cannot connect. */}}
{{- define "bpf-metrics-exporter.isLocal" -}}
{{- $others := list }}
{{- range splitList "," .Values.web.listenAddress }}
{{- if not (regexMatch `(?i)^(unix:|([^:]*\.)?localhost:|127\.|\[::1\]:|\[::ffff:127\.)` (trim .)) }}{{ $others = append $others . }}{{ end }}
{{- end }}
{{- if not $others }}true{{ end }}
{{- end }}

{{/* "true" if a probe runs a command: as its value says, else where a request of the kubelet would fail. */}}
{{- define "bpf-metrics-exporter.isExec" -}}
{{- $configured := or (ne .probe.scheme "HTTP") .probe.httpHeaders }}
{{- if kindIs "bool" .probe.exec }}
{{- if .probe.exec }}true{{ end }}
{{- else if or (include "bpf-metrics-exporter.isLocal" .root) (and .root.Values.web.configSecret (not $configured)) }}true
{{- end }}
{{- end }}

{{/* A probe: values of the chart and of the probe, and its path. */}}
{{- define "bpf-metrics-exporter.probe" -}}
{{- if include "bpf-metrics-exporter.isExec" . -}}
exec:
  command: [/bpf-metrics-exporter, healthy, {{ if eq .path "/-/healthy" }}--live, {{ end }}--timeout={{ .probe.timeoutSeconds }}s]
{{- else -}}
httpGet:
  path: {{ .path }}
  port: {{ .root.Values.service.portName }}
  scheme: {{ .probe.scheme }}
  {{- with .probe.httpHeaders }}
  httpHeaders:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
initialDelaySeconds: {{ .probe.initialDelaySeconds }}
periodSeconds: {{ .probe.periodSeconds }}
timeoutSeconds: {{ .probe.timeoutSeconds }}
failureThreshold: {{ .probe.failureThreshold }}
{{- end }}

{{/* What a ServiceMonitor and a PodMonitor have in common of an endpoint. */}}
{{- define "bpf-metrics-exporter.scrape" -}}
{{- $monitor := .monitor -}}
port: {{ .Values.service.portName }}
path: {{ .Values.web.telemetryPath }}
scheme: {{ $monitor.scheme }}
honorLabels: {{ $monitor.honorLabels }}
{{- range $key := list "interval" "scrapeTimeout" "proxyUrl" }}
{{- with get $monitor $key }}
{{ $key }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- range $key := list "tlsConfig" "basicAuth" "params" "relabelings" "metricRelabelings" }}
{{- with get $monitor $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The same of its specification. */}}
{{- define "bpf-metrics-exporter.monitorSpec" -}}
{{- $monitor := .monitor -}}
selector:
  matchLabels:
    {{- include "bpf-metrics-exporter.selectorLabels" . | nindent 4 }}
namespaceSelector:
  matchNames:
    - {{ include "bpf-metrics-exporter.namespace" . }}
{{- range $key := list "jobLabel" "podTargetLabels" "targetLabels" "sampleLimit" "labelLimit" "attachMetadata" }}
{{- with get $monitor $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
