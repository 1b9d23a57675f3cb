{{/* The bridge's settings: which value becomes which BRIDGE_* variable, and which
Secret is mounted where. The bridge reads a *_FILE again when it changes, so a
rotated Secret needs no restart; that is why none is mounted by subPath. */}}

{{- define "bridge.sasl" -}}
{{- if hasPrefix "SASL_" .Values.kafka.securityProtocol }}true{{ end -}}
{{- end -}}

{{- define "bridge.env" -}}
- name: BRIDGE_TOPIC
  value: {{ .Values.topic | quote }}
{{- with .Values.topics.deadLetters }}
- name: BRIDGE_TOPICS_DEAD_LETTERS
  value: {{ . | quote }}
{{- end }}
{{- with .Values.topics.gaps }}
- name: BRIDGE_TOPICS_GAPS
  value: {{ . | quote }}
{{- end }}
{{- with .Values.topics.previews }}
- name: BRIDGE_TOPICS_PREVIEWS
  value: {{ . | quote }}
{{- end }}
- name: BRIDGE_PREVIEWS
  value: {{ .Values.previews | quote }}
- name: BRIDGE_AFTER_TERMINAL
  value: {{ .Values.afterTerminal | quote }}
- name: BRIDGE_LIMITS_EVENT_BYTES
  value: {{ int64 .Values.limits.eventBytes | quote }}
- name: BRIDGE_LIMITS_PREVIEW_BYTES
  value: {{ int64 .Values.limits.previewBytes | quote }}
- name: BRIDGE_LIMITS_DEAD_LETTER_BYTES
  value: {{ int64 .Values.limits.deadLetterBytes | quote }}
- name: BRIDGE_DELIVERY
  value: {{ .Values.delivery | quote }}
- name: BRIDGE_SHUTDOWN_TIMEOUT_SECONDS
  value: {{ .Values.shutdownTimeoutSeconds | quote }}
- name: BRIDGE_CLIENT_ID
  value: {{ .Values.dryapi.clientId | quote }}
- name: BRIDGE_API_TOKEN_FILE
  value: /etc/bridge/dryapi/api-token
- name: BRIDGE_API_URL
  value: {{ .Values.dryapi.apiUrl | quote }}
- name: BRIDGE_PUSHER_URL
  value: {{ .Values.pusher.url | quote }}
- name: BRIDGE_PUSHER_APP_KEY
  value: {{ .Values.pusher.appKey | quote }}
{{- if .Values.pusher.tls.existingSecret }}
- name: BRIDGE_PUSHER_CA_FILE
  value: /etc/bridge/pusher-tls/ca.crt
{{- end }}
{{ include "bridge.kafkaEnv" .Values.kafka }}
{{- if .Values.schemaRegistry.url }}
{{ include "bridge.registryEnv" . }}
{{- end }}
- name: BRIDGE_OUTBOX_DIR
  value: /var/lib/bridge
- name: BRIDGE_OUTBOX_BUFFER_BYTES
  value: {{ int64 .Values.outbox.bufferBytes | quote }}
- name: BRIDGE_OUTBOX_MAX_BYTES
  value: {{ int64 .Values.outbox.maxBytes | quote }}
- name: BRIDGE_OUTBOX_KEEP_ACKED_SECONDS
  value: {{ .Values.outbox.keepAckedSeconds | quote }}
- name: BRIDGE_OUTBOX_KEEP_ACKED_BYTES
  value: {{ int64 .Values.outbox.keepAckedBytes | quote }}
- name: BRIDGE_OPERATIONS_LISTEN
  value: {{ printf "%s:%d" .Values.operations.address (int .Values.operations.port) | quote }}
- name: BRIDGE_LOG_FORMAT
  value: {{ .Values.log.format | quote }}
- name: BRIDGE_LOG_LEVEL
  value: {{ .Values.log.level | quote }}
{{- end -}}

{{- define "bridge.kafkaEnv" -}}
- name: BRIDGE_KAFKA_BOOTSTRAP_SERVERS
  value: {{ .bootstrapServers | quote }}
- name: BRIDGE_KAFKA_SECURITY_PROTOCOL
  value: {{ .securityProtocol | quote }}
- name: BRIDGE_KAFKA_CREATE_TOPICS
  value: {{ .createTopics | quote }}
- name: BRIDGE_KAFKA_PARTITIONS
  value: {{ int64 .partitions | quote }}
- name: BRIDGE_KAFKA_REPLICATION_FACTOR
  value: {{ int64 .replicationFactor | quote }}
- name: BRIDGE_KAFKA_COMPRESSION
  value: {{ .compression | quote }}
{{- if hasPrefix "SASL_" .securityProtocol }}
- name: BRIDGE_KAFKA_SASL_MECHANISM
  value: {{ .sasl.mechanism | quote }}
- name: BRIDGE_KAFKA_SASL_USERNAME
  {{- if .sasl.username }}
  value: {{ .sasl.username | quote }}
  {{- else }}
  valueFrom:
    secretKeyRef:
      name: {{ .sasl.existingSecret }}
      key: {{ .sasl.usernameKey }}
  {{- end }}
- name: BRIDGE_KAFKA_SASL_PASSWORD_FILE
  value: /etc/bridge/kafka-sasl/password
{{- end }}
{{- if .tls.existingSecret }}
{{- if .tls.caKey }}
- name: BRIDGE_KAFKA_SSL_CA_FILE
  value: /etc/bridge/kafka-tls/ca.crt
{{- end }}
{{- if .tls.certKey }}
- name: BRIDGE_KAFKA_SSL_CERT_FILE
  value: /etc/bridge/kafka-tls/tls.crt
- name: BRIDGE_KAFKA_SSL_KEY_FILE
  value: /etc/bridge/kafka-tls/tls.key
{{- end }}
{{- end }}
{{- end -}}

{{- define "bridge.registryEnv" -}}
- name: BRIDGE_SCHEMA_REGISTRY_URL
  value: {{ .Values.schemaRegistry.url | quote }}
- name: BRIDGE_SCHEMA_REGISTRY_SUBJECT_NAMING
  value: {{ .Values.schemaRegistry.subjectNaming | quote }}
- name: BRIDGE_SCHEMA_REGISTRY_REGISTER
  value: {{ .Values.schemaRegistry.register | quote }}
{{- if .Values.schemaRegistry.existingSecret }}
- name: BRIDGE_SCHEMA_REGISTRY_USERNAME
  value: {{ .Values.schemaRegistry.username | quote }}
- name: BRIDGE_SCHEMA_REGISTRY_PASSWORD_FILE
  value: /etc/bridge/registry/password
{{- end }}
{{- if .Values.schemaRegistry.tls.existingSecret }}
- name: BRIDGE_SCHEMA_REGISTRY_CA_FILE
  value: /etc/bridge/registry-tls/ca.crt
{{- end }}
{{- end -}}

{{- define "bridge.secretMounts" -}}
- name: dryapi
  mountPath: /etc/bridge/dryapi
  readOnly: true
{{- if .Values.pusher.tls.existingSecret }}
- name: pusher-tls
  mountPath: /etc/bridge/pusher-tls
  readOnly: true
{{- end }}
{{- if include "bridge.sasl" . }}
- name: kafka-sasl
  mountPath: /etc/bridge/kafka-sasl
  readOnly: true
{{- end }}
{{- if .Values.kafka.tls.existingSecret }}
- name: kafka-tls
  mountPath: /etc/bridge/kafka-tls
  readOnly: true
{{- end }}
{{- if .Values.schemaRegistry.existingSecret }}
- name: registry
  mountPath: /etc/bridge/registry
  readOnly: true
{{- end }}
{{- if .Values.schemaRegistry.tls.existingSecret }}
- name: registry-tls
  mountPath: /etc/bridge/registry-tls
  readOnly: true
{{- end }}
{{- end -}}

{{- /* Mode 0440: the files belong to root and to the pod's fsGroup. */ -}}
{{- define "bridge.secretVolumes" -}}
- name: dryapi
  secret:
    secretName: {{ .Values.dryapi.existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ .Values.dryapi.apiTokenKey }}
        path: api-token
{{- with .Values.pusher.tls }}
{{- if .existingSecret }}
- name: pusher-tls
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ .caKey }}
        path: ca.crt
{{- end }}
{{- end }}
{{- if include "bridge.sasl" . }}
- name: kafka-sasl
  secret:
    secretName: {{ .Values.kafka.sasl.existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ .Values.kafka.sasl.passwordKey }}
        path: password
{{- end }}
{{- with .Values.kafka.tls }}
{{- if .existingSecret }}
- name: kafka-tls
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      {{- with .caKey }}
      - key: {{ . }}
        path: ca.crt
      {{- end }}
      {{- if .certKey }}
      - key: {{ .certKey }}
        path: tls.crt
      - key: {{ .keyKey }}
        path: tls.key
      {{- end }}
{{- end }}
{{- end }}
{{- with .Values.schemaRegistry }}
{{- if .existingSecret }}
- name: registry
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ .passwordKey }}
        path: password
{{- end }}
{{- if .tls.existingSecret }}
- name: registry-tls
  secret:
    secretName: {{ .tls.existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ .tls.caKey }}
        path: ca.crt
{{- end }}
{{- end }}
{{- end -}}
