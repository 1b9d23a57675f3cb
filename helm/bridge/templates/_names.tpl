{{/* Names, labels, the image, and parts that several objects share. */}}

{{- define "bridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "bridge.fullname" -}}
{{- /* A StatefulSet adds "-0" and a revision hash of 11 characters to labels of at most 63. */ -}}
{{- $name := include "bridge.name" . -}}
{{- $joined := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $joined .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- /* Labels that select pods: a list of the root, and "", "-board" or "-test". A Service
must not select the pod of another one. */ -}}
{{- define "bridge.selector" -}}
{{- $suffix := last . -}}
app.kubernetes.io/name: {{ include "bridge.name" (first .) | trunc (sub 63 (len $suffix) | int) }}{{ $suffix }}
app.kubernetes.io/instance: {{ (first .).Release.Name }}
{{- end -}}

{{- define "bridge.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "bridge.selector" (list . "") }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- /* An object's metadata: a list of the root, the ending of its name, and its values, of
which labels, annotations and namespace are used. */ -}}
{{- define "bridge.metadata" -}}
{{- $root := first . -}}
{{- $values := last . -}}
{{- $labels := omit ($values.labels | default dict) "app.kubernetes.io/name" "app.kubernetes.io/instance" -}}
name: {{ include "bridge.fullname" $root }}{{ index . 1 }}
namespace: {{ $values.namespace | default $root.Release.Namespace }}
labels:
  {{- toYaml (mergeOverwrite (include "bridge.labels" $root | fromYaml) $labels) | nindent 2 }}
{{- with $values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "bridge.serviceAccountName" -}}
{{- $default := ternary (include "bridge.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $default .Values.serviceAccount.name -}}
{{- end -}}

{{- /* Values that are fields of the same name, those that are empty left out: a list of the
values and of names. */ -}}
{{- define "bridge.fields" -}}
{{- range $name := last . }}
{{- with get (first $) $name }}
{{ dict $name . | toYaml }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "bridge.container" -}}
{{- with .Values.image -}}
image: {{ with .registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
imagePullPolicy: {{ .pullPolicy }}
{{- end }}
{{- include "bridge.fields" (list .Values (list "securityContext")) }}
{{- end -}}

{{- /* What all pods of the release have in common. */ -}}
{{- define "bridge.pod" -}}
# A Service called "bridge" would add BRIDGE_PORT and others to the environment.
enableServiceLinks: false
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- include "bridge.fields" (list .Values (list "imagePullSecrets" "nodeSelector" "tolerations")) }}
{{- end -}}

{{- /* An Ingress: a list of the root, the name's ending, its values, path and port. */ -}}
{{- define "bridge.ingress" -}}
{{- $values := index . 2 }}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {{- include "bridge.metadata" (list (first .) (index . 1) $values) | nindent 2 }}
spec:
  {{- with $values.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with $values.tls.existingSecret }}
  tls:
    - hosts: [{{ $values.host | quote }}]
      secretName: {{ . }}
  {{- end }}
  rules:
    - host: {{ $values.host | quote }}
      http:
        paths:
          - path: {{ index . 3 | quote }}
            pathType: Prefix
            backend:
              service:
                name: {{ include "bridge.fullname" (first .) }}{{ index . 1 }}
                port:
                  name: {{ last . }}
{{- end -}}
