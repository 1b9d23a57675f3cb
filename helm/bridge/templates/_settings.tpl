{{/* The bridge's settings: which value becomes which BRIDGE_* variable. */}}

{{- /* Variables with their values, without those that are empty. Numbers as digits: Helm
would write 1e+09. */ -}}
{{- define "bridge.variables" -}}
{{- range $name, $value := . }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- name: {{ $name }}
  {{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}
  value: {{ int64 $value | quote }}
  {{- else }}
  value: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* What the bridge signs in to Kafka with: password, oauth, aws or nothing; of .Values.kafka. */ -}}
{{- define "bridge.signIn" -}}
{{- if hasPrefix "SASL_" .securityProtocol -}}
{{- get (dict "OAUTHBEARER" "oauth" "AWS_MSK_IAM" "aws") .sasl.mechanism | default "password" -}}
{{- end -}}
{{- end -}}

{{- define "bridge.env" -}}
{{- include "bridge.sharedEnv" . }}
{{- include "bridge.ownEnv" . }}
{{- include "bridge.accountEnv" . }}
{{- include "bridge.pusherEnv" .Values.pusher }}
{{- include "bridge.kafkaEnv" .Values.kafka }}
{{- include "bridge.writingEnv" .Values.kafka }}
{{- if .Values.schemaRegistry.url }}
{{- include "bridge.registryEnv" .Values.schemaRegistry }}
{{- end }}
{{- if .Values.webhook.enabled }}
{{- include "bridge.webhookEnv" . }}
{{- end }}
{{- end -}}

{{- /* What the board is told as well: where everything stands, and how it is read. */ -}}
{{- define "bridge.sharedEnv" -}}
{{- include "bridge.variables" (dict
  "BRIDGE_TOPIC" .Values.topic
  "BRIDGE_TOPICS_DEAD_LETTERS" .Values.topics.deadLetters
  "BRIDGE_TOPICS_GAPS" .Values.topics.gaps
  "BRIDGE_TOPICS_PREVIEWS" .Values.topics.previews
  "BRIDGE_PREVIEWS" .Values.previews
  "BRIDGE_ALLOW_CLEARTEXT_CREDENTIALS" .Values.allowCleartextCredentials
  "BRIDGE_LOG_FORMAT" .Values.log.format
  "BRIDGE_LOG_LEVEL" .Values.log.level
) }}
{{- end -}}

{{- define "bridge.ownEnv" -}}
{{- include "bridge.variables" (dict
  "BRIDGE_AFTER_TERMINAL" .Values.afterTerminal
  "BRIDGE_LIMITS_EVENT_BYTES" .Values.limits.eventBytes
  "BRIDGE_LIMITS_PREVIEW_BYTES" .Values.limits.previewBytes
  "BRIDGE_DELIVERY" .Values.delivery
  "BRIDGE_SHUTDOWN_TIMEOUT_SECONDS" .Values.shutdownTimeoutSeconds
  "BRIDGE_API_URL" .Values.dryapi.apiUrl
  "BRIDGE_OUTBOX_DIR" "/var/lib/bridge"
  "BRIDGE_OUTBOX_BUFFER_BYTES" .Values.outbox.bufferBytes
  "BRIDGE_OUTBOX_MAX_BYTES" .Values.outbox.maxBytes
  "BRIDGE_RECONCILIATION_ENABLED" .Values.reconciliation.enabled
  "BRIDGE_RECONCILIATION_RESERVE_PERCENT" .Values.reconciliation.reservePercent
  "BRIDGE_RECONCILIATION_STALE_AFTER_SECONDS" .Values.reconciliation.staleAfterSeconds
  "BRIDGE_OPERATIONS_LISTEN" (printf "%s:%d" .Values.operations.address (int .Values.operations.port))
  "BRIDGE_OPERATIONS_HOSTS" .Values.operations.hosts
  "BRIDGE_TRACING_ENABLED" .Values.tracing.enabled
) }}
{{- end -}}

{{- /* The one account; several stand in the file that --config names. */ -}}
{{- define "bridge.accountEnv" -}}
{{- if not .Values.accounts }}
{{- include "bridge.variables" (dict
  "BRIDGE_CLIENT_ID" .Values.dryapi.clientId
  "BRIDGE_API_TOKEN_FILE" "/etc/bridge/dryapi/api-token"
) }}
{{- end }}
{{- end -}}

{{- define "bridge.pusherEnv" -}}
{{- include "bridge.variables" (dict
  "BRIDGE_PUSHER_URL" .url
  "BRIDGE_PUSHER_APP_KEY" .appKey
  "BRIDGE_PUSHER_CA_FILE" (ternary "/etc/bridge/pusher-tls/ca.crt" "" (not (empty .tls.existingSecret)))
  "BRIDGE_PUSHER_ACTIVITY_TIMEOUT_SECONDS" .activityTimeoutSeconds
  "BRIDGE_PUSHER_TIMEOUT_SECONDS" .timeoutSeconds
  "BRIDGE_PUSHER_REFUSED_TIMEOUT_SECONDS" .refusedTimeoutSeconds
  "BRIDGE_PUSHER_PROBE_INTERVAL_SECONDS" .probeIntervalSeconds
) }}
{{- end -}}

{{- define "bridge.kafkaEnv" -}}
{{- include "bridge.variables" (dict
  "BRIDGE_KAFKA_BOOTSTRAP_SERVERS" .bootstrapServers
  "BRIDGE_KAFKA_SECURITY_PROTOCOL" .securityProtocol
  "BRIDGE_KAFKA_CLIENT_ID" .clientId
  "BRIDGE_KAFKA_START_TIMEOUT_SECONDS" .startTimeoutSeconds
  "BRIDGE_KAFKA_REQUEST_TIMEOUT_SECONDS" .requestTimeoutSeconds
) }}
{{- if hasPrefix "SASL_" .securityProtocol }}
{{- include "bridge.saslEnv" . }}
{{- end }}
{{- if .tls.existingSecret }}
{{- include "bridge.variables" (dict
  "BRIDGE_KAFKA_SSL_CA_FILE" (ternary "/etc/bridge/kafka-tls/ca.crt" "" (not (empty .tls.caKey)))
  "BRIDGE_KAFKA_SSL_CERT_FILE" (ternary "/etc/bridge/kafka-tls/tls.crt" "" (not (empty .tls.certKey)))
  "BRIDGE_KAFKA_SSL_KEY_FILE" (ternary "/etc/bridge/kafka-tls/tls.key" "" (not (empty .tls.keyKey)))
  "BRIDGE_KAFKA_SSL_KEY_PASSWORD_FILE" (ternary "/etc/bridge/kafka-tls/key-password" "" (not (empty .tls.keyPasswordKey)))
) }}
{{- end }}
{{- end -}}

{{- /* Of use to whoever writes. */ -}}
{{- define "bridge.writingEnv" -}}
{{- include "bridge.variables" (dict
  "BRIDGE_KAFKA_CREATE_TOPICS" .createTopics
  "BRIDGE_KAFKA_PARTITIONS" .partitions
  "BRIDGE_KAFKA_REPLICATION_FACTOR" .replicationFactor
  "BRIDGE_KAFKA_COMPRESSION" .compression
  "BRIDGE_KAFKA_METADATA_MAX_AGE_SECONDS" .metadataMaxAgeSeconds
  "BRIDGE_KAFKA_LINGER_MS" .lingerMs
  "BRIDGE_KAFKA_TRANSACTION_TIMEOUT_SECONDS" .transactionTimeoutSeconds
  "BRIDGE_KAFKA_RESUME_QUIET_SECONDS" .resumeQuietSeconds
) }}
{{- end -}}

{{- /* Of what belongs to another mechanism nothing is passed on: the bridge would refuse it. */ -}}
{{- define "bridge.saslEnv" -}}
{{- include "bridge.variables" (dict
  "BRIDGE_KAFKA_SASL_MECHANISM" .sasl.mechanism
) }}
{{- $way := include "bridge.signIn" . }}
{{- if eq $way "password" }}
{{- include "bridge.variables" (dict
  "BRIDGE_KAFKA_SASL_USERNAME" .sasl.username
  "BRIDGE_KAFKA_SASL_PASSWORD_FILE" "/etc/bridge/kafka-sasl/password"
) }}
{{- if not .sasl.username }}
- name: BRIDGE_KAFKA_SASL_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ .sasl.existingSecret }}
      key: {{ .sasl.usernameKey }}
{{- end }}
{{- else if eq $way "oauth" }}
{{- include "bridge.variables" (dict
  "BRIDGE_KAFKA_SASL_OAUTH_TOKEN_URL" .sasl.oauth.tokenUrl
  "BRIDGE_KAFKA_SASL_OAUTH_CLIENT_ID" .sasl.oauth.clientId
  "BRIDGE_KAFKA_SASL_OAUTH_CLIENT_SECRET_FILE" "/etc/bridge/kafka-oauth/client-secret"
  "BRIDGE_KAFKA_SASL_OAUTH_SCOPE" .sasl.oauth.scope
  "BRIDGE_KAFKA_SASL_OAUTH_AUDIENCE" .sasl.oauth.audience
  "BRIDGE_KAFKA_SASL_OAUTH_EXTENSIONS" .sasl.oauth.extensions
  "BRIDGE_KAFKA_SASL_OAUTH_CA_FILE" (ternary "/etc/bridge/kafka-oauth-tls/ca.crt" "" (not (empty .sasl.oauth.tls.existingSecret)))
) }}
{{- else if eq $way "aws" }}
{{- include "bridge.variables" (dict
  "BRIDGE_KAFKA_SASL_AWS_REGION" .sasl.aws.region
) }}
{{- end }}
{{- end -}}

{{- define "bridge.registryEnv" -}}
{{- include "bridge.variables" (dict
  "BRIDGE_SCHEMA_REGISTRY_URL" .url
  "BRIDGE_SCHEMA_REGISTRY_SUBJECT_NAMING" .subjectNaming
  "BRIDGE_SCHEMA_REGISTRY_REGISTER" .register
  "BRIDGE_SCHEMA_REGISTRY_USERNAME" .username
  "BRIDGE_SCHEMA_REGISTRY_PASSWORD_FILE" (ternary "/etc/bridge/registry/password" "" (not (empty .existingSecret)))
  "BRIDGE_SCHEMA_REGISTRY_CA_FILE" (ternary "/etc/bridge/registry-tls/ca.crt" "" (not (empty .tls.existingSecret)))
) }}
{{- end -}}

{{- /* Nothing of it where no webhooks are taken: the bridge would refuse a secret then. */ -}}
{{- define "bridge.webhookEnv" -}}
{{- $hasTls := not (empty .Values.webhook.tls.existingSecret) }}
{{- include "bridge.variables" (dict
  "BRIDGE_WEBHOOK_LISTEN" (printf "%s:%d" .Values.webhook.address (int .Values.webhook.port))
  "BRIDGE_WEBHOOK_SECRET_FILE" (ternary "" "/etc/bridge/webhook/secret" (not (empty .Values.accounts)))
  "BRIDGE_WEBHOOK_GRACE_PERIOD_SECONDS" .Values.webhook.gracePeriodSeconds
  "BRIDGE_WEBHOOK_TLS_CERT_FILE" (ternary "/etc/bridge/webhook-tls/tls.crt" "" $hasTls)
  "BRIDGE_WEBHOOK_TLS_KEY_FILE" (ternary "/etc/bridge/webhook-tls/tls.key" "" $hasTls)
) }}
{{- end -}}

{{- /* All of the board's. It has a client id of its own, so that it takes of no quota of
the bridge's. */ -}}
{{- define "bridge.boardEnv" -}}
{{- include "bridge.sharedEnv" . }}
{{- include "bridge.kafkaEnv" (merge (dict "clientId" (printf "%s-board" (default "bridge" .Values.kafka.clientId))) .Values.kafka) }}
{{- $name := include "bridge.boardName" . }}
{{- $place := printf "%s.%s" $name .Release.Namespace }}
{{- $hosts := concat (list $name $place (printf "%s.svc" $place)) .Values.board.extraHosts }}
{{- if .Values.board.ingress.enabled }}
{{- $hosts = prepend $hosts .Values.board.ingress.host }}
{{- end }}
{{- with .Values.board }}
{{- include "bridge.variables" (dict
  "BRIDGE_BOARD_LISTEN" (printf "%s:%d" .address (int .port))
  "BRIDGE_BOARD_HOSTS" (join "," $hosts)
  "BRIDGE_BOARD_SINCE_SECONDS" .sinceSeconds
  "BRIDGE_BOARD_SHOW_RESULTS" .showResults
) }}
{{- end }}
{{- end -}}
