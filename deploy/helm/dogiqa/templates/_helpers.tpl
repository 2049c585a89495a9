{{- define "dogiqa.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 46 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 46 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "dogiqa.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "dogiqa.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "dogiqa.image" -}}
{{- $image := .Values.image -}}
{{- $repository := required "image.repository is not set" $image.repository -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else if and $image.allowTag $image.tag -}}
{{- printf "%s:%s" $repository $image.tag -}}
{{- else -}}
{{- fail "image.digest is not set; to run a tag, which may be moved, set image.tag and image.allowTag=true" -}}
{{- end -}}
{{- end }}

{{- /* The program's settings with those that the chart decides. */ -}}
{{- define "dogiqa.config" -}}
{{- $kafka := .Values.config.kafka | default dict -}}
{{- $_ := required "config.kafka.bootstrap_servers is not set" $kafka.bootstrap_servers -}}
{{- include "dogiqa.refuseSecrets" (dict "path" (list) "value" .Values.config) -}}
{{- $own := dict "telemetry" (dict "server" (dict "enabled" true "address" "0.0.0.0:9464")) -}}
{{- include "dogiqa.toml" (dict "path" "" "table" (mergeOverwrite (deepCopy .Values.config) $own)) -}}
{{- end }}

{{- /* True if a setting, a property of librdkafka or a variable with this name holds a secret. tests/it/chart.rs compares
the pattern with the settings. */ -}}
{{- define "dogiqa.isSecret" -}}
{{- regexMatch "(password|passphrase|secret|token|(access|account|api|storage)_key|key[._]pem|(^|[._])ssl[._]key|oauthbearer[._]config|otlp(_[a-z]+)?_headers)$" (lower .) -}}
{{- end }}

{{- /* True if a text has a URL with a user or a password. */ -}}
{{- define "dogiqa.hasUser" -}}
{{- regexMatch "[a-zA-Z]://[^/?#[:space:]]*@" . -}}
{{- end }}

{{- /* Fails if a secret is below `.value`, the part of `config` at `.path`. */ -}}
{{- define "dogiqa.refuseSecrets" -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- include "dogiqa.refuseSecrets" (dict "path" (append $.path $key) "value" $value) -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range .value -}}
{{- include "dogiqa.refuseSecrets" (dict "path" $.path "value" .) -}}
{{- end -}}
{{- else if .value -}}
{{- $name := printf "config.%s" (join "." .path) -}}
{{- $variable := printf "DOGIQA_%s" (join "__" .path | replace "." "_" | upper) -}}
{{- if eq (include "dogiqa.isSecret" (last .path)) "true" -}}
{{- fail (printf "%s is a secret, and a ConfigMap keeps none; name the key of a Secret in secrets.env, for the variable %s" $name $variable) -}}
{{- else if eq (include "dogiqa.hasUser" (toString .value)) "true" -}}
{{- fail (printf "%s is a URL with a user or a password, and a ConfigMap keeps none; put the URL into a Secret and name its key in secrets.env, for the variable %s" $name $variable) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* A table of TOML: first its values, then its tables. JSON's texts, numbers and lists are valid TOML. */ -}}
{{- define "dogiqa.toml" -}}
{{- $path := .path -}}
{{- if $path }}
[{{ $path }}]
{{ end -}}
{{- range $key, $value := .table }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) -}}
{{ include "dogiqa.tomlKey" $key }} = {{ include "dogiqa.tomlValue" $value }}
{{ end }}
{{- end }}
{{- range $key, $value := .table }}
{{- if kindIs "map" $value -}}
{{- $name := include "dogiqa.tomlKey" $key -}}
{{- include "dogiqa.toml" (dict "path" (ternary (printf "%s.%s" $path $name) $name (ne $path "")) "table" $value) -}}
{{- end }}
{{- end }}
{{- end }}

{{- define "dogiqa.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end }}

{{- define "dogiqa.tomlValue" -}}
{{- if kindIs "map" . -}}
{ {{- range $i, $key := keys . | sortAlpha }}{{ if $i }},{{ end }} {{ include "dogiqa.tomlKey" $key }} = {{ include "dogiqa.tomlValue" (get $ $key) }}{{ end }} }
{{- else if kindIs "slice" . -}}
[{{ range $i, $value := . }}{{ if $i }}, {{ end }}{{ include "dogiqa.tomlValue" $value }}{{ end }}]
{{- else -}}
{{ toRawJson . }}
{{- end -}}
{{- end }}

{{- /* Seconds of the drain, plus ten for the last commit, for leaving the group or for writing responses, after those of
`preStop`. The monitor drains nothing. */ -}}
{{- define "dogiqa.graceSeconds" -}}
{{- $sections := dict "worker" "kafka" "serve" "serve" -}}
{{- $drain := "0s" -}}
{{- with get $sections .component -}}
{{- $drain = dig . "drain_timeout" "25s" $.root.Values.config -}}
{{- end -}}
{{- $number := trimSuffix "m" (trimSuffix "s" $drain) | int -}}
{{- $seconds := ternary (mul 60 $number) $number (hasSuffix "m" $drain) -}}
{{- add 10 $seconds (.role.preStopSeconds | default 0 | int) -}}
{{- end }}

{{- define "dogiqa.isStatic" -}}
{{- if kindIs "invalid" .Values.worker.staticMembership -}}
{{- not .Values.keda.enabled -}}
{{- else -}}
{{- .Values.worker.staticMembership -}}
{{- end -}}
{{- end }}

{{- define "dogiqa.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "dogiqa.secretEnv" -}}
{{- range .Values.secrets.env }}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end }}
{{- end }}

{{- /* The template of a pod. `.role` has the values of its component, `.ports` the names and numbers of its ports. */ -}}
{{- define "dogiqa.pod" -}}
{{- $text := include "dogiqa.podText" . -}}
{{- include "dogiqa.checkPod" (dict "component" .component "spec" (fromYaml $text).spec) -}}
{{- $text -}}
{{- end }}

{{- /* Fails if a variable of a pod is a secret in clear text, or if two parts of it exclude each other. */ -}}
{{- define "dogiqa.checkPod" -}}
{{- $component := .component -}}
{{- range $container := concat (.spec.initContainers | default list) .spec.containers -}}
{{- $values := ternary "models.env" (printf "%s.env" $component) (eq $container.name "models") -}}
{{- range $container.env -}}
{{- if .value -}}
{{- if eq (include "dogiqa.isSecret" .name) "true" -}}
{{- fail (printf "%s: %s is a secret, not a value; use valueFrom.secretKeyRef, or secrets.env for a variable of all pods" $values .name) -}}
{{- else if eq (include "dogiqa.hasUser" .value) "true" -}}
{{- fail (printf "%s: the value of %s is a URL with a user or a password; use valueFrom.secretKeyRef" $values .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- include "dogiqa.refuseRepeated" (dict "what" (printf "%s: the variable" $values) "cure" "the chart, secrets.env or this list sets it already; remove one" "list" $container.env "key" "name") -}}
{{- include "dogiqa.refuseRepeated" (dict "what" (printf "%s: a volume at" $component) "cure" "change a folder of secrets.files or a mountPath" "list" $container.volumeMounts "key" "mountPath") -}}
{{- include "dogiqa.refuseRepeated" (dict "what" (printf "%s: the port" $component) "cure" (printf "9464 is that of the metrics; change %s.port" $component) "list" $container.ports "key" "containerPort") -}}
{{- end -}}
{{- include "dogiqa.refuseRepeated" (dict "what" (printf "%s: the volume" $component) "cure" (printf "the chart has one of this name; rename that of %s.volumes" $component) "list" .spec.volumes "key" "name") -}}
{{- end }}

{{- /* Fails if two entries of `.list` have the same `.key`. */ -}}
{{- define "dogiqa.refuseRepeated" -}}
{{- $seen := dict -}}
{{- range .list -}}
{{- $name := toString (get . $.key) -}}
{{- if hasKey $seen $name -}}
{{- fail (printf "%s %s is there twice; %s" $.what $name $.cure) -}}
{{- end -}}
{{- $_ := set $seen $name true -}}
{{- end -}}
{{- end }}

{{- define "dogiqa.podText" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $component := .component -}}
{{- $gpu := $role.gpu | default dict -}}
{{- $gpus := $gpu.count | default 0 | int -}}
{{- $usesModels := ne $component "monitor" -}}
{{- $models := $root.Values.models -}}
{{- $usesCache := and (eq $component "worker") $root.Values.cache.claim.size -}}
{{- $files := concat $root.Values.secrets.files (.secrets | default list) -}}
metadata:
  labels:
    {{- include "dogiqa.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ $component }}
    {{- with $role.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed setting restarts the pods.
    checksum/config: {{ include "dogiqa.config" $root | sha256sum }}
    {{- with $role.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "dogiqa.fullname" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "dogiqa.graceSeconds" . }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with $role.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $gpu.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $role.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if or $role.tolerations $gpus }}
  tolerations:
    {{- if $gpus }}
    - key: {{ $gpu.resource }}
      operator: Exists
      effect: NoSchedule
    {{- end }}
    {{- with $role.tolerations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- with $role.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $role.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and $usesModels $models.pull }}
  initContainers:
    - name: models
      image: {{ include "dogiqa.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args:
        {{- toYaml (concat (list "models" "pull") $models.pull) | nindent 8 }}
      env:
        - name: HF_HOME
          value: /models
        {{- with $models.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      resources:
        requests: {cpu: 500m, memory: 512Mi}
        limits: {memory: 2Gi}
      securityContext:
        {{- include "dogiqa.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - name: models
          mountPath: /models
        - name: tmp
          mountPath: /tmp
  {{- end }}
  containers:
    - name: {{ $component }}
      image: {{ include "dogiqa.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args:
        {{- toYaml .args | nindent 8 }}
      env:
        {{- with .env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- if $usesModels }}
        - name: HF_HOME
          value: /models
        {{- end }}
        {{- if $usesCache }}
        - name: DOGIQA_CACHE__PATH
          value: /var/cache/dogiqa/answers
        {{- end }}
        {{- include "dogiqa.secretEnv" $root | nindent 8 }}
        {{- with $role.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- range .ports }}
        - name: {{ .name }}
          containerPort: {{ .number }}
        {{- end }}
      {{- with .probes }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- with $role.preStopSeconds }}
      # Load balancers learn of the stop meanwhile.
      lifecycle:
        preStop:
          sleep: {seconds: {{ . }}}
      {{- end }}
      {{- $resources := deepCopy $role.resources }}
      {{- if $gpus }}
      {{- $_ := set $resources "limits" (merge (dict $gpu.resource $gpus) ($resources.limits | default dict)) }}
      {{- end }}
      resources:
        {{- toYaml $resources | nindent 8 }}
      securityContext:
        {{- include "dogiqa.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/dogiqa
          readOnly: true
        - name: tmp
          mountPath: /tmp
        {{- if $usesModels }}
        - name: models
          mountPath: /models
        {{- end }}
        {{- if $usesCache }}
        - name: cache
          mountPath: /var/cache/dogiqa
        {{- end }}
        {{- range $i, $file := $files }}
        - name: secret-{{ $i }}
          mountPath: {{ $file.folder }}
          readOnly: true
        {{- end }}
        {{- with $role.volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "dogiqa.fullname" $root }}
    - name: tmp
      emptyDir:
        sizeLimit: 1Gi
    {{- if $usesModels }}
    {{- if $models.existingClaim }}
    - name: models
      persistentVolumeClaim:
        claimName: {{ $models.existingClaim }}
    {{- else if not (and $models.claim.size (eq $component "worker")) }}
    - name: models
      emptyDir:
        sizeLimit: {{ $models.emptyDirSizeLimit }}
    {{- end }}
    {{- end }}
    {{- range $i, $file := $files }}
    - name: secret-{{ $i }}
      secret:
        secretName: {{ $file.secret }}
        defaultMode: 0440
    {{- end }}
    {{- with $role.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- /* A claim for each worker, by the values `.claim`. */ -}}
{{- define "dogiqa.claimTemplate" -}}
metadata:
  name: {{ .name }}
spec:
  accessModes:
    {{- toYaml .claim.accessModes | nindent 4 }}
  {{- with .claim.storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ .claim.size }}
{{- end }}

{{- /* The health server answers from the start on, while the weights are read. */ -}}
{{- define "dogiqa.probes" -}}
livenessProbe:
  httpGet: {path: /healthz, port: {{ .port }}}
  initialDelaySeconds: 10
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 6
readinessProbe:
  httpGet: {path: {{ .ready }}, port: {{ .port }}}
  periodSeconds: 5
  timeoutSeconds: 3
{{- end }}
