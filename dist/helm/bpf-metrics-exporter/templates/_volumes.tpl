{{/* Directories of the host that are mounted at the same path: name, value of `mounts`, path and type. Directories of the kernel
exist or the feature does not; those of the kubelet are made by who comes first. */}}
{{- define "bpf-metrics-exporter.hostDirectories" -}}
- {name: cgroup, switch: cgroup, path: /sys/fs/cgroup, type: Directory}
- {name: bpffs, switch: bpffs, path: /sys/fs/bpf, type: Directory}
- {name: securityfs, switch: securityfs, path: /sys/kernel/security, type: Directory}
- {name: pod-logs, switch: podLogs, path: /var/log/pods, type: DirectoryOrCreate}
- {name: container-logs, switch: podLogs, path: /var/log/containers, type: DirectoryOrCreate}
{{- end }}

{{- define "bpf-metrics-exporter.volumeMounts" -}}
{{- $values := .Values }}
{{- $mounts := list }}
{{- range include "bpf-metrics-exporter.hostDirectories" . | fromYamlArray }}
{{- if get $values.mounts .switch }}
{{- $mounts = append $mounts (dict "name" .name "mountPath" .path "readOnly" true "mountPropagation" "HostToContainer") }}
{{- end }}
{{- end }}
{{- if $values.mounts.hostRoot }}
{{- $mounts = append $mounts (dict "name" "host-root" "mountPath" "/host/root" "readOnly" true "mountPropagation" "HostToContainer") }}
{{- end }}
{{- range $index, $path := include "bpf-metrics-exporter.socketPaths" . | fromJsonArray }}
{{- $mounts = append $mounts (dict "name" (printf "runtime-%d" $index) "mountPath" $path "readOnly" true "mountPropagation" "HostToContainer") }}
{{- end }}
{{- if or $values.baseline.text $values.baseline.configMap }}
{{- $mounts = append $mounts (dict "name" "baseline" "mountPath" "/etc/bpf-metrics-exporter/baseline" "readOnly" true) }}
{{- end }}
{{- if $values.web.configSecret }}
{{- $mounts = append $mounts (dict "name" "web-config" "mountPath" "/etc/bpf-metrics-exporter/web" "readOnly" true) }}
{{- end }}
{{- if $values.otlp.tls.caSecret }}
{{- $mounts = append $mounts (dict "name" "otlp-ca" "mountPath" "/etc/bpf-metrics-exporter/otlp-ca" "readOnly" true) }}
{{- end }}
{{- if $values.otlp.tls.clientSecret }}
{{- $mounts = append $mounts (dict "name" "otlp-client" "mountPath" "/etc/bpf-metrics-exporter/otlp-client" "readOnly" true) }}
{{- end }}
{{- if $values.otlp.backlog.volume }}
{{- $mounts = append $mounts (dict "name" "otlp-backlog" "mountPath" "/var/lib/bpf-metrics-exporter") }}
{{- end }}
{{- with concat $mounts $values.extraVolumeMounts }}{{ toYaml . }}{{ end }}
{{- end }}

{{- define "bpf-metrics-exporter.volumes" -}}
{{- $values := .Values }}
{{- $volumes := list }}
{{- range include "bpf-metrics-exporter.hostDirectories" . | fromYamlArray }}
{{- if get $values.mounts .switch }}
{{- $volumes = append $volumes (dict "name" .name "hostPath" (dict "path" .path "type" .type)) }}
{{- end }}
{{- end }}
{{- if $values.mounts.hostRoot }}
{{- $volumes = append $volumes (dict "name" "host-root" "hostPath" (dict "path" "/" "type" "Directory")) }}
{{- end }}
{{- $sockets := concat $values.runtimeSockets.cri $values.runtimeSockets.docker }}
{{- range $index, $path := include "bpf-metrics-exporter.socketPaths" . | fromJsonArray }}
{{- $volumes = append $volumes (dict "name" (printf "runtime-%d" $index) "hostPath" (dict "path" $path "type" (ternary "Socket" "Directory" (has $path $sockets)))) }}
{{- end }}
{{- if or $values.baseline.text $values.baseline.configMap }}
{{- $name := default (printf "%s-baseline" (include "bpf-metrics-exporter.fullname" .)) $values.baseline.configMap.name }}
{{- $volumes = append $volumes (dict "name" "baseline" "configMap" (dict "name" $name)) }}
{{- end }}
{{- range $name, $secret := dict "web-config" $values.web.configSecret "otlp-ca" $values.otlp.tls.caSecret "otlp-client" $values.otlp.tls.clientSecret }}
{{- if $secret }}
{{- $volumes = append $volumes (dict "name" $name "secret" (dict "secretName" $secret.name "defaultMode" 256)) }}
{{- end }}
{{- end }}
{{- with $values.otlp.backlog.volume }}
{{- $volumes = append $volumes (merge (dict "name" "otlp-backlog") .) }}
{{- end }}
{{- with concat $volumes $values.extraVolumes }}{{ toYaml . }}{{ end }}
{{- end }}
