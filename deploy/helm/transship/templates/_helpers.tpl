{{- define "transship.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* What selects pods: never changes for a Deployment. Arguments: root, component. */}}
{{- define "transship.selector" -}}
app.kubernetes.io/name: transship
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .region }}
transship/region: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "transship.labels" -}}
{{ include "transship.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* A region's name as part of an object's. */}}
{{- define "transship.slug" -}}
{{ . | lower | replace "_" "-" | replace "." "-" | trunc 20 | trimSuffix "-" }}
{{- end }}

{{- define "transship.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (ternary (include "transship.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* A number as an integer where it is one: Helm reads 16777216 as 1.6777216e+07. */}}
{{- define "transship.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* The variables that all processes share, as a YAML map. */}}
{{- define "transship.config" -}}
{{- $mine := dict
  "TRANSSHIP_LISTEN" "0.0.0.0:8470"
  "TRANSSHIP_METRICS_LISTEN" "0.0.0.0:9400"
  "TRANSSHIP_METRICS_TOKEN_FILE" "/run/transship/metrics_token"
}}
{{- if eq .Values.mode "agent" }}
{{- $_ := set $mine "TRANSSHIP_URL" (required "agent.url: the https:// address of the API at home" .Values.agent.url) }}
{{- $_ := set $mine "TRANSSHIP_AGENT_DIR" "/data/agent" }}
{{- else }}
{{- $_ := set $mine "TRANSSHIP_SECRET_KEY_FILE" "/run/transship/secret_keys" }}
{{- end }}
{{- if .Values.flower.enabled }}
{{- $_ := set $mine "TRANSSHIP_FLOWER_LISTEN" "0.0.0.0:5555" }}
{{- $_ := set $mine "TRANSSHIP_FLOWER_PASSWORD_FILE" "/run/transship/flower_password" }}
{{- end }}
{{- if .Values.passwordsSecret }}
{{- $_ := set $mine "TRANSSHIP_SECRETS_DIR" "/run/transship-passwords" }}
{{- end }}
{{- range $name, $value := merge (deepCopy .Values.settings) $mine }}
{{ $name }}: {{ include "transship.text" $value | quote }}
{{- end }}
{{- end }}

{{/* The variables of one process that come from the Secret. */}}
{{- define "transship.secretEnv" -}}
{{- $keys := .Values.secret.keys }}
{{- $from := dict "TRANSSHIP_REDIS_URL" $keys.redisUrl }}
{{- if eq .Values.mode "agent" }}{{ $_ := set $from "TRANSSHIP_TOKEN" $keys.agentToken }}{{ else }}{{ $_ := set $from "TRANSSHIP_DATABASE_URL" $keys.databaseUrl }}{{ end }}
{{- range $name, $key := $from }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: {{ $.Values.secret.name }}, key: {{ $key }}}}
{{- end }}
{{- end }}

{{/* Files of the Secret in /run/transship: root, more (keys beside those of every process). */}}
{{- define "transship.volumes" -}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 256Mi}
- name: secret
  secret:
    secretName: {{ .root.Values.secret.name }}
    defaultMode: 0440
    items:
{{- range $key, $path := merge (dict .root.Values.secret.keys.metricsToken "metrics_token") (.more | default dict) (eq .root.Values.mode "agent" | ternary dict (dict .root.Values.secret.keys.secretKeys "secret_keys")) }}
      - {key: {{ $key }}, path: {{ $path }}}
{{- end }}
{{- with .root.Values.passwordsSecret }}
- name: passwords
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .gateway }}
- name: data
  emptyDir: {sizeLimit: {{ $.root.Values.gateway.storage }}}
- name: gateway
  configMap: {name: {{ . }}}
{{- end }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "transship.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: secret, mountPath: /run/transship, readOnly: true}
{{- if .Values.passwordsSecret }}
- {name: passwords, mountPath: /run/transship-passwords, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "transship.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "transship.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "transship.image" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{/*
The template of a pod. Arguments: root, component, region, command (list), resources, scheduling, settings (of this process alone),
port (name and number), metrics (whether it has that port beside), health (path), ready (path), more (keys of the Secret), agent (whether it has a
volume /data), gateway (the ConfigMap of its file).
*/}}
{{- define "transship.pod" -}}
metadata:
  labels:
{{ include "transship.labels" . | indent 4 }}
  annotations:
    transship/config: {{ include "transship.config" .root | sha256sum | trunc 16 | quote }}
{{- with .root.Values.podAnnotations }}
{{ toYaml . | indent 4 }}
{{- end }}
spec:
  serviceAccountName: {{ include "transship.serviceAccount" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false # they would be variables TRANSSHIP_...
  terminationGracePeriodSeconds: {{ .root.Values.terminationGracePeriodSeconds }}
  securityContext:
{{ include "transship.podSecurity" . | indent 4 }}
{{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
{{ toYaml . | indent 4 }}
{{- end }}
{{- with .scheduling }}
{{ toYaml . | indent 2 }}
{{- end }}
  containers:
    - name: {{ .component }}
{{ include "transship.image" .root | indent 6 }}
      command: {{ toJson .command }}
      workingDir: /tmp
      envFrom:
        - configMapRef: {name: {{ include "transship.name" .root }}}
{{- with .root.Values.extraEnvFrom }}
{{ toYaml . | indent 8 }}
{{- end }}
      env:
        - {name: HOME, value: /tmp}
{{ include "transship.secretEnv" .root | trim | indent 8 }}
{{- range $name, $value := .settings | default dict }}
        - {name: {{ $name }}, value: {{ include "transship.text" $value | quote }}}
{{- end }}
      ports:
        - {name: {{ .port.name }}, containerPort: {{ .port.number }}}
{{- if .metrics }}
        - {name: metrics, containerPort: 9400}
{{- end }}
      startupProbe:
        httpGet: {path: {{ .health }}, port: {{ .port.name }}}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: {{ .health }}, port: {{ .port.name }}}
        periodSeconds: 20
        timeoutSeconds: 5
        failureThreshold: 6
{{- with .ready }}
      readinessProbe:
        httpGet: {path: {{ . }}, port: {{ $.port.name }}}
        periodSeconds: 5
        timeoutSeconds: 5
{{- end }}
      resources:
{{ toYaml .resources | indent 8 }}
      securityContext:
{{ include "transship.security" . | indent 8 }}
      volumeMounts:
{{ include "transship.mounts" .root | indent 8 }}
{{- if .agent }}
        - {name: data, mountPath: /data}
{{- end }}
{{- if .gateway }}
        - {name: data, mountPath: /data}
        - {name: gateway, mountPath: /etc/transship, readOnly: true}
{{- end }}
  volumes:
{{ include "transship.volumes" . | indent 4 }}
{{- end }}
