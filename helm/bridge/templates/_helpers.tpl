{{/* Names, labels and the image. */}}

{{- define "bridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "bridge.fullname" -}}
{{- /* A StatefulSet adds "-0" and a revision hash of 11 characters to labels of at most 63. */ -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "bridge.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "bridge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "bridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* Of the pod of `helm test`: no Service and no budget may take it for the bridge. */ -}}
{{- define "bridge.testLabels" -}}
app.kubernetes.io/name: {{ include "bridge.name" . | trunc 58 }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* Of the board's pod, for the same reason. */ -}}
{{- define "bridge.boardLabels" -}}
app.kubernetes.io/name: {{ include "bridge.name" . | trunc 57 }}-board
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "bridge.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "bridge.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "bridge.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "bridge.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "bridge.image" -}}
{{- with .Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- .Values.image.repository -}}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end -}}
{{- end -}}

{{- /* A Kubernetes quantity in bytes, with a fraction cut off. */ -}}
{{- define "bridge.bytes" -}}
{{- $quantity := toString . -}}
{{- $number := regexFind "^[0-9]+(\\.[0-9]+)?" $quantity -}}
{{- $factors := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000
  "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf (float64 $number) (get $factors (trimPrefix $number $quantity)) | int64 -}}
{{- end -}}

{{- /* Metadata of an object that a monitoring system looks for by labels, perhaps in a
namespace of its own: a list of the root, the object's values, and an ending of its name. */ -}}
{{- define "bridge.monitoring" -}}
{{- $root := first . -}}
{{- $values := index . 1 -}}
name: {{ include "bridge.fullname" $root }}{{ if gt (len .) 2 }}{{ last . }}{{ end }}
namespace: {{ $values.namespace | default $root.Release.Namespace }}
labels:
  {{- toYaml (mergeOverwrite (include "bridge.labels" $root | fromYaml) $values.labels) | nindent 2 }}
{{- with $values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* The port of an address with or without a scheme. */ -}}
{{- define "bridge.port" -}}
{{- $default := ternary 443 80 (or (hasPrefix "https:" .) (hasPrefix "wss:" .)) -}}
{{- regexFind "^[0-9]+" (regexFind ":[0-9]+(/|$)" . | trimPrefix ":") | default $default -}}
{{- end -}}

{{- /* 52 characters at most, and a Service's name may have 63. */ -}}
{{- define "bridge.webhookName" -}}
{{ include "bridge.fullname" . }}-webhook
{{- end -}}

{{- define "bridge.boardName" -}}
{{ include "bridge.fullname" . }}-board
{{- end -}}

{{- /* Of .Values.webhook, what its Service speaks and at which port. */ -}}
{{- define "bridge.webhookScheme" -}}
{{- ternary "https" "http" (not (empty .tls.existingSecret)) -}}
{{- end -}}

{{- define "bridge.webhookPort" -}}
{{- int64 .service.port | default (ternary 443 80 (not (empty .tls.existingSecret))) -}}
{{- end -}}
