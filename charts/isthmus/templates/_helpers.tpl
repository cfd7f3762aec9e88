{{/*
Each value of a component template, as JSON, made of the chart's values as the engine makes it of a Mesh and a Cluster.
*/}}

{{- define "isthmus.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name | toJson }}
app.kubernetes.io/managed-by: {{ .Release.Service | toJson }}
app.kubernetes.io/version: {{ .Chart.AppVersion | toJson }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | toJson }}
isthmus.dev/mesh: {{ include "isthmus.mesh" . | toJson }}
{{- end }}

{{/* What has to be given. */}}

{{- define "isthmus.mesh" -}}
{{- required "mesh.name: expected the name of the mesh, the same in all its clusters, found none" .Values.mesh.name }}
{{- end }}

{{- define "isthmus.cluster" -}}
{{- required "cluster.name: expected the name of this cluster in the mesh, found none" .Values.cluster.name }}
{{- end }}

{{- define "isthmus.endpoint" -}}
{{- $endpoint := (.Values.cluster.metadata | default dict).endpoint -}}
{{- required "cluster.metadata.endpoint: expected the URL of the exporter, such as https://istio-metadata.east.example.com/metadata, found none" $endpoint | trimSuffix "/" }}
{{- end }}

{{- define "isthmus.apiHost" -}}
{{- $host := (.Values.cluster.multicluster | default dict).apiHost -}}
{{- required "cluster.multicluster.apiHost: expected the public address of the api-proxy, such as api.east.example.com, found none" $host | trimSuffix ":443" }}
{{- end }}

{{/* Host and path of the endpoint, and the host of the api-proxy, without port and brackets. */}}

{{- define "isthmus.hostOf" -}}
{{- regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" }}
{{- end }}

{{- define "isthmus.endpointHost" -}}
{{- include "isthmus.hostOf" (regexReplaceAll "/.*$" (include "isthmus.endpoint" . | trimPrefix "https://") "") }}
{{- end }}

{{- define "isthmus.pathPrefix" -}}
{{- regexReplaceAll "^[^/]*" (include "isthmus.endpoint" . | trimPrefix "https://") "" | default "/" }}
{{- end }}

{{/* A range of addresses: one address is a range, too. */}}

{{- define "isthmus.range" -}}
{{- if contains "/" . }}{{ . }}{{ else if contains ":" . }}{{ . }}/128{{ else }}{{ . }}/32{{ end }}
{{- end }}

{{/* Values of the component templates. */}}

{{- define "isthmus.namespace" -}}
{{- .Release.Namespace | toJson }}
{{- end }}

{{- define "isthmus.agent_account" -}}
{{- printf "system:serviceaccount:%s:isthmus-agent" .Release.Namespace | toJson }}
{{- end }}

{{- define "isthmus.image" -}}
{{- required "cluster.multicluster.image: expected the image of the engine, found none" (.Values.cluster.multicluster | default dict).image | toJson }}
{{- end }}

{{- define "isthmus.replicas" -}}
{{- (.Values.cluster.multicluster | default dict).replicas | default 2 | int }}
{{- end }}

{{- define "isthmus.exposed_by_gateway" -}}
{{- eq "Gateway" ((.Values.cluster.multicluster | default dict).expose | default "") }}
{{- end }}

{{/* The type of the Services. */}}
{{- define "isthmus.expose" -}}
{{- $type := (.Values.cluster.multicluster | default dict).expose | default "LoadBalancer" -}}
{{- ternary "ClusterIP" $type (eq $type "Gateway") | toJson }}
{{- end }}

{{- define "isthmus.exposed" -}}
{{- ne (include "isthmus.expose" .) "\"ClusterIP\"" }}
{{- end }}

{{/* At node ports clients may come to any node. */}}
{{- define "isthmus.external_traffic_policy" -}}
{{- $otherwise := ternary "Local" "Cluster" (eq (include "isthmus.expose" .) "\"LoadBalancer\"") -}}
{{- (.Values.cluster.multicluster | default dict).externalTrafficPolicy | default $otherwise | toJson }}
{{- end }}

{{- define "isthmus.finds_gateways" -}}
{{- not (and (kindIs "slice" .Values.cluster.gateways) .Values.cluster.network) }}
{{- end }}

{{/* The east-west gateway. */}}

{{- define "isthmus.manages_gateway" -}}
{{- $manages := eq true ((.Values.cluster.gateway | default dict).manage | default false) -}}
{{- if and $manages .Values.cluster.flatNetwork }}
{{- fail "cluster.gateway.manage: expected no gateway beside cluster.flatNetwork, found both" }}
{{- end }}
{{- $manages }}
{{- end }}

{{- define "isthmus.network" -}}
{{- required "cluster.network: expected the name of the network into which the gateway leads, such as network-east, found none" .Values.cluster.network | toJson }}
{{- end }}

{{- define "isthmus.gateway_hosts" -}}
{{- $domain := .Values.cluster.clusterDomain | default "cluster.local" -}}
{{- printf "*.%s" (ternary "local" $domain (eq $domain "cluster.local")) | toJson }}
{{- end }}

{{/* An istiod of a revision takes a Gateway only where it is named. */}}
{{- define "isthmus.has_revision" -}}
{{- not (has "default" (include "isthmus.revisions" . | fromJsonArray)) }}
{{- end }}

{{- define "isthmus.revision" -}}
{{- include "isthmus.revisions" . | fromJsonArray | first | toJson }}
{{- end }}

{{/* The names by which the gateway knows exporter and api-proxy. */}}

{{- define "isthmus.exporter_host" -}}
{{- template "isthmus.nameOf" (dict "host" (include "isthmus.endpointHost" .) "field" "cluster.metadata.endpoint") }}
{{- end }}

{{- define "isthmus.proxy_host" -}}
{{- $host := include "isthmus.hostOf" (include "isthmus.apiHost" .) -}}
{{- if eq $host (include "isthmus.endpointHost" .) }}
{{- fail "cluster.multicluster.apiHost: expected another name than that of cluster.metadata.endpoint, by which the gateway tells them apart, found the same" }}
{{- end }}
{{- template "isthmus.nameOf" (dict "host" $host "field" "cluster.multicluster.apiHost") }}
{{- end }}

{{- define "isthmus.nameOf" -}}
{{- if or (contains ":" .host) (regexMatch "^[0-9.]+$" .host) }}
{{- fail (printf "%s: expected a DNS name, which the gateway knows by its SNI, found %s" .field .host) }}
{{- end }}
{{- .host | toJson }}
{{- end }}

{{- define "isthmus.exporter_service" -}}
{{- printf "isthmus-exporter.%s.svc.%s" .Release.Namespace (.Values.cluster.clusterDomain | default "cluster.local") | toJson }}
{{- end }}

{{- define "isthmus.proxy_service" -}}
{{- printf "isthmus-proxy.%s.svc.%s" .Release.Namespace (.Values.cluster.clusterDomain | default "cluster.local") | toJson }}
{{- end }}

{{- define "isthmus.tls_secret" -}}
{{- (.Values.cluster.multicluster | default dict).tlsSecret | default (printf "%s-tls" .service) | toJson }}
{{- end }}

{{- define "isthmus.require_token" -}}
{{- eq true ((.Values.mesh.credentials | default dict).requireToken | default false) }}
{{- end }}

{{- define "isthmus.revisions" -}}
{{- (.Values.cluster.istio | default dict).revisions | default (list "default") | sortAlpha | toJson }}
{{- end }}

{{- define "isthmus.mesh_config_maps" -}}
{{- $maps := list -}}
{{- range include "isthmus.revisions" . | fromJsonArray }}
{{- $maps = append $maps (ternary "istio" (printf "istio-%s" .) (eq . "default")) }}
{{- end }}
{{- $maps | toJson }}
{{- end }}

{{/* Command lines of the roles. */}}

{{- define "isthmus.args.exporter" -}}
{{- $cluster := .Values.cluster -}}
{{- $args := list "serve" "exporter" (printf "--namespace=%s" .Release.Namespace) "--log=json" -}}
{{- $args = concat $args (list "--tls-cert=/etc/isthmus/tls/tls.crt" "--tls-key=/etc/isthmus/tls/tls.key") -}}
{{- range ($cluster.multicluster | default dict).trustedProxies }}
{{- $args = append $args (printf "--trusted-proxy=%s" (include "isthmus.range" .)) }}
{{- end }}
{{- with $cluster.network }}{{ $args = append $args (printf "--network=%s" .) }}{{ end }}
{{- $args = append $args (printf "--path-prefix=%s" (include "isthmus.pathPrefix" .)) -}}
{{- $args = append $args (printf "--api-host=%s" (include "isthmus.apiHost" .)) -}}
{{- $args = append $args (printf "--mesh-id=%s" (.Values.mesh.meshID | default (include "isthmus.mesh" .))) -}}
{{- $args = append $args (printf "--cluster-domain=%s" ($cluster.clusterDomain | default "cluster.local")) -}}
{{- with $cluster.clusterID }}{{ $args = append $args (printf "--cluster-id=%s" .) }}{{ end }}
{{- $gateways := list -}}
{{- range $cluster.gateways }}
{{- $gateways = append $gateways (printf "%s %05d" .address (.port | default 15443 | int)) }}
{{- end }}
{{- range $gateways | sortAlpha | uniq }}
{{- $gateway := splitList " " . -}}
{{- $address := first $gateway -}}
{{- if contains ":" $address }}{{ $address = printf "[%s]" $address }}{{ end -}}
{{- $args = append $args (printf "--gateway=%s:%s" $address (last $gateway | trimAll " " | regexFind "[1-9][0-9]*")) }}
{{- end }}
{{- if $cluster.flatNetwork }}{{ $args = append $args "--flat-network" }}{{ end }}
{{- $args | toJson }}
{{- end }}

{{- define "isthmus.args.proxy" -}}
{{- $args := list "serve" "proxy" (printf "--namespace=%s" .Release.Namespace) "--log=json" -}}
{{- $args = concat $args (list "--tls-cert=/etc/isthmus/tls/tls.crt" "--tls-key=/etc/isthmus/tls/tls.key") -}}
{{- range (.Values.cluster.multicluster | default dict).trustedProxies }}
{{- $args = append $args (printf "--trusted-proxy=%s" (include "isthmus.range" .)) }}
{{- end }}
{{- append $args "--audit-log=-" | toJson }}
{{- end }}

{{- define "isthmus.args.agent" -}}
{{- $cluster := .Values.cluster -}}
{{- $own := $cluster.multicluster | default dict -}}
{{- $args := list "serve" "agent" (printf "--namespace=%s" .Release.Namespace) "--log=json" -}}
{{- with $cluster.network }}{{ $args = append $args (printf "--network=%s" .) }}{{ end }}
{{- if not $own.tlsSecret }}
{{- $args = append $args (printf "--exporter-host=%s" (include "isthmus.endpointHost" .)) -}}
{{- $args = append $args (printf "--exporter-host=isthmus-exporter.%s.svc" .Release.Namespace) -}}
{{- $args = append $args (printf "--proxy-host=%s" (include "isthmus.hostOf" (include "isthmus.apiHost" .))) -}}
{{- $args = append $args (printf "--proxy-host=isthmus-proxy.%s.svc" .Release.Namespace) -}}
{{- end }}
{{- $revisions := include "isthmus.revisions" . | fromJsonArray -}}
{{- if ne (join "," $revisions) "default" }}
{{- range $revisions }}{{ $args = append $args (printf "--revision=%s" .) }}{{ end }}
{{- end }}
{{- with $cluster.trustDomain }}{{ $args = append $args (printf "--trust-domain=%s" .) }}{{ end }}
{{- range $own.clusterCIDRs }}
{{- $args = append $args (printf "--cluster-cidr=%s" (include "isthmus.range" .)) }}
{{- end }}
{{- if eq (include "isthmus.require_token" .) "true" }}{{ $args = append $args "--require-token" }}{{ end }}
{{- $args | toJson }}
{{- end }}

{{/* The documents that the agent acts for. */}}

{{- define "isthmus.specs" -}}
{{- if not .Values.mesh.acceptForeignRoots }}
{{- fail "mesh.acceptForeignRoots: expected true, found false: every root CA of the mesh can sign every identity of every accepted trust domain" }}
{{- end }}
{{- $api := "isthmus.dev/v1alpha1" -}}
{{- $mesh := omit .Values.mesh "name" -}}
{{- $istio := merge (dict "namespace" .Release.Namespace) (.Values.cluster.istio | default dict) -}}
{{- $own := pick (.Values.cluster.multicluster | default dict) "image" "apiHost" "tlsSecret" -}}
{{- $cluster := merge (dict "reconciler" "agent" "istio" $istio "multicluster" $own) (omit .Values.cluster "name" "multicluster") -}}
{{- dict "apiVersion" $api "kind" "Mesh" "metadata" (dict "name" (include "isthmus.mesh" .)) "spec" $mesh | toYaml }}
---
{{ dict "apiVersion" $api "kind" "Cluster" "metadata" (dict "name" (include "isthmus.cluster" .)) "spec" $cluster | toYaml }}
{{- end }}
