{{/* From .Values.settings to variables, mounted files and a TOML file. */}}

{{- /* A tree of settings as one map of paths to values, without empty ones: a list of a
prefix and the tree. */ -}}
{{- define "bridge.flat" -}}
{{- range $name, $value := last . }}
{{- $path := printf "%s%s" (first $) $name }}
{{- if and (kindIs "map" $value) (not (hasKey $value "existingSecret")) }}
{{- include "bridge.flat" (list (printf "%s." $path) $value) }}
{{- else if kindIs "map" $value }}
{{- if $value.existingSecret }}
{{ dict $path $value | toYaml }}
{{- end }}
{{- else if not (or (kindIs "slice" $value) (kindIs "invalid" $value) (eq (toString $value) "")) }}
{{ dict $path $value | toYaml }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The settings that are given. */ -}}
{{- define "bridge.given" -}}
{{ include "bridge.flat" (list "" .Values.settings) }}
{{- end -}}

{{- /* The same with the bridge's defaults, where templates need to know them. */ -}}
{{- define "bridge.known" -}}
{{- $defaults := (.Files.Get "files/settings.yaml" | fromYaml).defaults -}}
{{- toYaml (mergeOverwrite $defaults (include "bridge.given" . | fromYaml)) -}}
{{- end -}}

{{- /* The settings of the bridge's pod. */ -}}
{{- define "bridge.own" -}}
{{- range $path, $value := include "bridge.given" . | fromYaml }}
{{- if not (hasPrefix "board." $path) }}
{{ dict $path $value | toYaml }}
{{- end }}
{{- end }}
outbox.dir: /var/lib/bridge
{{- end -}}

{{- /* Variables: a list of the root and settings by path. */ -}}
{{- define "bridge.env" -}}
{{- $secrets := ((first .).Files.Get "files/settings.yaml" | fromYaml).secrets }}
{{- range $path, $value := last . }}
{{- $name := printf "BRIDGE_%s" ($path | replace "." "_" | upper) }}
{{- if not (kindIs "map" $value) }}
- name: {{ $name }}
  {{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}
  {{- /* As digits: Helm would write 1e+09. */}}
  value: {{ int64 $value | quote }}
  {{- else }}
  value: {{ $value | quote }}
  {{- end }}
{{- else if or (has $path $secrets) (hasSuffix "_file" $path) }}
- name: {{ $name }}{{ if has $path $secrets }}_FILE{{ end }}
  value: /etc/bridge/secrets/{{ $path }}
{{- else }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $value.existingSecret }}
      key: {{ $value.key | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The files of a pod, as Secrets with lists of their items: a list of the root,
settings by path, and accounts. Named after settings and accounts, not numbered: a container
that starts again reads the newest list of accounts with the mounts of its pod. */ -}}
{{- define "bridge.files" -}}
{{- $secrets := ((first .).Files.Get "files/settings.yaml" | fromYaml).secrets -}}
{{- $files := dict -}}
{{- range $path, $value := index . 1 -}}
{{- if and (kindIs "map" $value) (or (has $path $secrets) (hasSuffix "_file" $path)) -}}
{{- $_ := set $files $path $value -}}
{{- end -}}
{{- end -}}
{{- range $account := last . -}}
{{- range $name, $value := omit $account "client_id" -}}
{{- $_ := set $files (printf "accounts.%s.%s" $account.client_id $name) $value -}}
{{- end -}}
{{- end -}}
{{- $found := dict -}}
{{- range $path, $value := $files -}}
{{- $items := get $found $value.existingSecret | default list -}}
{{- $_ := set $found $value.existingSecret (append $items (dict "key" $value.key "path" $path)) -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{- /* The volume of these files. The bridge reads a file again when it changes, so that a
rotated Secret needs no restart; a mount by subPath would never change. Mode 0440: the files
belong to root and to the pod's fsGroup. */ -}}
{{- define "bridge.secretVolume" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range $secret, $items := . }}
      - secret:
          name: {{ $secret }}
          items:
            {{- toYaml $items | nindent 12 }}
      {{- end }}
{{- end -}}

{{- define "bridge.secretMount" -}}
- name: secrets
  mountPath: /etc/bridge/secrets
  readOnly: true
{{- end -}}

{{- /* The file that --config names; it is only read at the start. */ -}}
{{- define "bridge.config" -}}
# All other settings come from the pod's environment, which overrides this file.
{{- range $account := .Values.settings.accounts }}
[[accounts]]
client_id = {{ .client_id | quote }}
{{- range $name, $_ := omit . "client_id" }}
{{ $name }}_file = {{ printf "/etc/bridge/secrets/accounts.%s.%s" $account.client_id $name | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The port of an address, with or without a scheme. */ -}}
{{- define "bridge.port" -}}
{{- $default := ternary 443 80 (or (hasPrefix "https:" .) (hasPrefix "wss:" .)) -}}
{{- regexFind "^[0-9]+" (regexFind ":[0-9]+(/|$)" . | trimPrefix ":") | default $default -}}
{{- end -}}
