{{/* Secrets, by name: what is mounted where. The bridge reads a *_FILE again when it
changes, so that a rotated Secret needs no restart; that is why none is mounted by
subPath. */}}

{{- /* Lists of what is mounted: the volume's name, the Secret's, and the keys by the names
of their files; mounts and volumes are made from them. */ -}}
{{- define "bridge.secrets" -}}
{{- $found := list -}}
{{- with .Values -}}
{{- if not .accounts -}}
{{- $found = append $found (dict "volume" "dryapi" "secret" .dryapi.existingSecret "files" (dict "api-token" .dryapi.apiTokenKey)) -}}
{{- end -}}
{{- if .pusher.tls.existingSecret -}}
{{- $found = append $found (dict "volume" "pusher-tls" "secret" .pusher.tls.existingSecret "files" (dict "ca.crt" .pusher.tls.caKey)) -}}
{{- end -}}
{{- $found = concat $found (include "bridge.kafkaSecrets" .kafka | fromYamlArray) -}}
{{- if .schemaRegistry.existingSecret -}}
{{- $found = append $found (dict "volume" "registry" "secret" .schemaRegistry.existingSecret "files" (dict "password" .schemaRegistry.passwordKey)) -}}
{{- end -}}
{{- if .schemaRegistry.tls.existingSecret -}}
{{- $found = append $found (dict "volume" "registry-tls" "secret" .schemaRegistry.tls.existingSecret "files" (dict "ca.crt" .schemaRegistry.tls.caKey)) -}}
{{- end -}}
{{- if .webhook.enabled -}}
{{- if not .accounts -}}
{{- $found = append $found (dict "volume" "webhook" "secret" .webhook.existingSecret "files" (dict "secret" .webhook.secretKey)) -}}
{{- end -}}
{{- if .webhook.tls.existingSecret -}}
{{- $found = append $found (dict "volume" "webhook-tls" "secret" .webhook.tls.existingSecret "files" (dict "tls.crt" .webhook.tls.certKey "tls.key" .webhook.tls.keyKey)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{- /* Those with which brokers are reached; of .Values.kafka. */ -}}
{{- define "bridge.kafkaSecrets" -}}
{{- $found := list -}}
{{- $way := include "bridge.signIn" . -}}
{{- if eq $way "password" -}}
{{- $found = append $found (dict "volume" "kafka-sasl" "secret" .sasl.existingSecret "files" (dict "password" .sasl.passwordKey)) -}}
{{- else if eq $way "oauth" -}}
{{- with .sasl.oauth -}}
{{- $found = append $found (dict "volume" "kafka-oauth" "secret" .existingSecret "files" (dict "client-secret" .clientSecretKey)) -}}
{{- if .tls.existingSecret -}}
{{- $found = append $found (dict "volume" "kafka-oauth-tls" "secret" .tls.existingSecret "files" (dict "ca.crt" .tls.caKey)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .tls.existingSecret -}}
{{- $found = append $found (dict "volume" "kafka-tls" "secret" .tls.existingSecret "files" (dict "ca.crt" .tls.caKey "tls.crt" .tls.certKey "tls.key" .tls.keyKey "key-password" .tls.keyPasswordKey)) -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{- define "bridge.mounts" -}}
{{- range . }}
- name: {{ .volume }}
  mountPath: /etc/bridge/{{ .volume }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "bridge.secretMounts" -}}
{{- include "bridge.mounts" (include "bridge.secrets" . | fromYamlArray) }}
{{- if .Values.accounts }}
- name: accounts
  mountPath: /etc/bridge/accounts
  readOnly: true
- name: config
  mountPath: /etc/bridge/config
  readOnly: true
{{- end }}
{{- end -}}

{{- /* Mode 0440: the files belong to root and to the pod's fsGroup. */ -}}
{{- define "bridge.volumes" -}}
{{- range . }}
- name: {{ .volume }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items:
      {{- range $path, $key := .files }}
      {{- if $key }}
      - key: {{ $key | quote }}
        path: {{ $path }}
      {{- end }}
      {{- end }}
{{- end }}
{{- end -}}

{{- define "bridge.secretVolumes" -}}
{{- include "bridge.volumes" (include "bridge.secrets" . | fromYamlArray) }}
{{- with .Values.accounts }}
- name: accounts
  projected:
    defaultMode: 0440
    sources:
      {{- range $account := . }}
      - secret:
          name: {{ .existingSecret }}
          items:
            - key: {{ .apiTokenKey | default "api-token" | quote }}
              path: {{ include "bridge.tokenFile" . | quote }}
            {{- with .webhookSecretKey }}
            - key: {{ . | quote }}
              path: {{ include "bridge.webhookSecretFile" $account | quote }}
            {{- end }}
      {{- end }}
- name: config
  configMap:
    name: {{ include "bridge.fullname" $ }}-config
{{- end }}
{{- end -}}

{{- /* Named after the account, not numbered: a container that starts again reads the newest
list of accounts with the mounts of the pod that it is in. The prefix keeps ".." away. */ -}}
{{- define "bridge.tokenFile" -}}
token-{{ .clientId }}
{{- end -}}
{{- define "bridge.webhookSecretFile" -}}
webhook-{{ .clientId }}
{{- end -}}

{{- /* The file that --config names; what it holds is read at the start alone. */ -}}
{{- define "bridge.config" -}}
# Everything else comes from the pod's environment, which goes before this file.
{{- range .Values.accounts }}
[[accounts]]
client_id = {{ .clientId | quote }}
api_token_file = {{ printf "/etc/bridge/accounts/%s" (include "bridge.tokenFile" .) | quote }}
{{- if .webhookSecretKey }}
webhook_secret_file = {{ printf "/etc/bridge/accounts/%s" (include "bridge.webhookSecretFile" .) | quote }}
{{- end }}
{{- end }}
{{- end -}}
