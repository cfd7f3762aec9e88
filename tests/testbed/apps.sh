# The data plane of a cluster of the bed, and the objects that a kubelet and controllers would have made. Sourced by `bed`.
#
# There is no iptables redirection: a client's sidecar listens for plain HTTP on an address of its own and a server's
# sidecar stands on the pod's address, in front of a small program. The way of a request from east to west:
#
#   curl -H 'Host: cart.shop.svc.cluster.local' http://127.0.EAST.60:7001/
#     -> Envoy of the client, identity shop/client, certificate of east's root
#     -> mutual TLS through west's east-west gateway 127.0.WEST.50:15443, which ends no TLS
#     -> Envoy of the server, identity shop/cart, certificate of west's root
#     -> tests/testbed/answer, whose answer names the x-forwarded-client-cert header that it got

# pod_status NAMESPACE NAME ADDRESS READY: what a kubelet would write.
pod_status() {
    kube --namespace "$1" patch pod "$2" --subresource=status --type=merge --patch \
        "{\"status\":{\"phase\":\"Running\",\"podIP\":\"$3\",\"podIPs\":[{\"ip\":\"$3\"}],\"conditions\":[{\"type\":\"Ready\",\"status\":\"$4\"}]}}" >/dev/null
}

# istiod's Deployment and Pod, as its chart would make them, in what others read of them.
istiod_objects() {
    local name=$1 index=$2 grpc container token_env='' token_mount='' volumes=''
    grpc=$(address "$index" istiod-grpc)
    if [ -d relay-token ]; then
        token_env=', {name: PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS, value: tokenFile}'
        token_mount=", volumeMounts: [{name: isthmus-relay, mountPath: $relay_token, readOnly: true}]"
        volumes='volumes: [{name: isthmus-relay, projected: {sources: [{serviceAccountToken:
        {audience: isthmus-relay, expirationSeconds: 3600, path: token}}]}}]'
    fi
    container="{name: discovery, image: 'istio/pilot:1.32-alpha.eed52ebb66ad', env: [
      {name: CLUSTER_ID, value: $name}, {name: REVISION, value: default}, {name: SHARED_MESH_CONFIG, value: isthmus-mesh},
      {name: ISTIO_MULTIROOT_MESH, value: '$multiroot'}$token_env]$token_mount}"
    cat <<OBJECTS
apiVersion: v1
kind: Namespace
metadata:
  name: istio-system
  labels:
    topology.istio.io/network: network-$name
    pod-security.kubernetes.io/warn: restricted
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    trustDomain: $(cat trust-domain)
    accessLogFile: /dev/stdout
    defaultConfig:
      discoveryAddress: $grpc
      meshId: shop
  meshNetworks: "networks: {}"
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istiod, namespace: istio-system, labels: {app: istiod, istio.io/rev: default}}
spec:
  selector: {matchLabels: {app: istiod, istio.io/rev: default}}
  template:
    metadata: {labels: {app: istiod, istio.io/rev: default}}
    spec:
      serviceAccountName: istiod
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers: [$container]
      $volumes
---
apiVersion: v1
kind: Pod
metadata: {name: istiod-$name-0, namespace: istio-system, labels: {app: istiod, istio.io/rev: default}}
spec:
  serviceAccountName: istiod
  containers: [$container]
  $volumes
OBJECTS
}

# A pod that a peer is to know needs an address outside 127.0.0.0/8, which an EndpointSlice may not hold. Root adds one
# to `lo`; anyone else takes the machine's own.
pod_address() {
    local index=$1 address
    [ -s pod-address ] || {
        address=10.206.$index.10
        if ip address add "$address/32" dev lo 2>/dev/null; then
            touch pod-address-added
        elif ! ip -4 -oneline address show dev lo | grep -qF " $address/"; then
            address=$(ip -4 -oneline route get 192.0.2.1 | sed -n 's/.* src \([0-9.]*\).*/\1/p')
        fi
        [ -n "$address" ] || die "this machine has no address but loopback; run as root, so that one can be added"
        echo "$address" >pod-address
    }
    cat pod-address
}

drop_pod_address() {
    ip address del "$(cat "$1/pod-address")/32" dev lo 2>/dev/null || true
    rm -f "$1/pod-address" "$1/pod-address-added"
}

# app_port APP: the port of the Service.
app_port() {
    case $1 in
    cart) echo 7001 ;;
    orders) echo 7002 ;;
    stock) echo 7003 ;;
    *) die "no app '$1'; there are: cart orders stock" ;;
    esac
}

# The east-west gateway, as Istio's own chart would make it.
gateway_objects() {
    local name=$1 index=$2 gateway
    gateway=$(address "$index" gateway)
    cat <<OBJECTS
apiVersion: v1
kind: ServiceAccount
metadata: {name: istio-eastwestgateway, namespace: istio-system}
---
apiVersion: v1
kind: Service
metadata:
  name: istio-eastwestgateway
  namespace: istio-system
  labels: {app: istio-eastwestgateway, istio: eastwestgateway, topology.istio.io/network: network-$name}
spec:
  type: LoadBalancer
  selector: {istio: eastwestgateway}
  ports:
  - {name: status-port, port: 15021, targetPort: 15021}
  - {name: tls, port: 15443, targetPort: 15443}
---
apiVersion: v1
kind: Pod
metadata:
  name: istio-eastwestgateway-0
  namespace: istio-system
  labels: {app: istio-eastwestgateway, istio: eastwestgateway, topology.istio.io/network: network-$name}
spec:
  serviceAccountName: istio-eastwestgateway
  containers: [$(sidecar "$name")]
---
# Where the gateway listens. The bed's own, since a gateway in a pod of its own would take 0.0.0.0.
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: bed-cross-network, namespace: istio-system}
spec:
  selector: {istio: eastwestgateway}
  servers:
  - port: {number: 15443, name: tls, protocol: TLS}
    bind: "${gateway%:*}"
    tls: {mode: AUTO_PASSTHROUGH}
    hosts: ["*.local"]
OBJECTS
}

# The pod of the Deployment that istiod made of a Gateway, and where its Envoy listens: in a pod of its own it would take 0.0.0.0.
managed_gateway_objects() {
    local name=$1 index=$2 gateway
    gateway=$(address "$index" gateway)
    cat <<OBJECTS
apiVersion: v1
kind: Pod
metadata: {name: isthmus-eastwest-istio-0, namespace: istio-system, labels: $(managed_gateway_labels)}
spec:
  serviceAccountName: isthmus-eastwest-istio
  containers: [$(sidecar "$name")]
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: bed-gateway, namespace: istio-system}
spec:
  workloadSelector: {labels: {gateway.networking.k8s.io/gateway-name: isthmus-eastwest}}
  configPatches:
  - applyTo: LISTENER
    match: {context: GATEWAY, listener: {portNumber: 15443}}
    patch:
      operation: MERGE
      value: {address: {socket_address: {address: "${gateway%:*}", port_value: 15443}}}
OBJECTS
}

managed_gateway_labels() {
    kube --namespace istio-system get deployment isthmus-eastwest-istio --output 'jsonpath={.spec.template.metadata.labels}'
}

# sidecar NAME: what injection would have added to a pod, in what others read of it.
sidecar() {
    echo "{name: istio-proxy, image: 'istio/proxyv2:1.32-alpha.eed52ebb66ad', env: [
      {name: PROXY_CONFIG_XDS_AGENT, value: '$xds_agent'}, {name: ISTIO_META_CLUSTER_ID, value: $1}]}"
}

app_objects() {
    local name=$1 index=$2 app=$3 pod=$4 port client sidecar
    client=$(address "$index" client-cart) port=$(server_port "$index") sidecar=$(sidecar "$name")
    cat <<OBJECTS
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: client, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: $app, namespace: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: client-0, namespace: shop, labels: {app: client, security.istio.io/tlsMode: istio}}
spec:
  serviceAccountName: client
  containers: [{name: app, image: none}, $sidecar]
---
apiVersion: v1
kind: Service
metadata: {name: $app, namespace: shop, labels: {app: $app}}
spec:
  selector: {app: $app}
  ports: [{name: http, port: $(app_port "$app"), targetPort: $port}]
---
# Without the label tlsMode, an endpoint is left out by readers in another network.
apiVersion: v1
kind: Pod
metadata:
  name: $app-0
  namespace: shop
  labels: {app: $app, security.istio.io/tlsMode: istio, service.istio.io/canonical-name: $app}
spec:
  serviceAccountName: $app
  containers: [{name: app, image: none}, $sidecar]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: $app-1, namespace: shop, labels: {kubernetes.io/service-name: $app}}
addressType: IPv4
ports: [{name: http, port: $port, protocol: TCP}]
endpoints:
- addresses: ["$pod"]
  conditions: {ready: true, serving: true}
  targetRef: {kind: Pod, name: $app-0, namespace: shop}
---
# Plain text cannot pass by accident.
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: server, namespace: shop}
spec:
  workloadSelector: {labels: {app: $app}}
  ingress:
  - port: {number: $port, name: http, protocol: HTTP}
    bind: "$pod"
    defaultEndpoint: $(address "$index" backend)
  egress:
  - hosts: ["~/*"]
---
# The number of each listener must be that of the Service, otherwise nothing is there and nothing says so.
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: client, namespace: shop}
spec:
  workloadSelector: {labels: {app: client}}
  egress:
  - port: {number: $(app_port cart), name: http-cart, protocol: HTTP}
    bind: "${client%:*}"
    hosts: ["shop/cart.shop.svc.cluster.local"]
  - port: {number: $(app_port orders), name: http-orders, protocol: HTTP}
    bind: "${client%:*}"
    hosts: ["shop/orders.shop.svc.cluster.local"]
  - port: {number: $(app_port stock), name: http-stock, protocol: HTTP}
    bind: "${client%:*}"
    hosts: ["shop/stock.shop.svc.cluster.local"]
OBJECTS
}

# Unprivileged, both clusters share the machine's address: the port tells them apart.
server_port() { echo $((20000 + 20 * $1 + 15)); }

apps() {
    require pilot-agent envoy
    enter "$@"
    local name=$1 index=$2 app=${ISTHMUS_TESTBED_APP:-cart} pod gateway backend
    alive istiod.pid || die "istiod of $name does not run; start it with $here/bed istiod $*"
    ! alive server.pid || { finish "$name: the apps run already"; return; }
    echo "$app" >app
    pod=$(pod_address "$index") backend=$(address "$index" backend) gateway=$(address "$index" gateway)
    need_free "$backend" "$gateway" "$(address "$index" client-cart)" "$(address "$index" client-orders)" \
        "$(address "$index" client-stock)" \
        "$pod:$(server_port "$index")"
    app_objects "$name" "$index" "$app" "$pod" | kube apply --server-side --force-conflicts -f - >/dev/null
    pod_status shop "$app-0" "$pod" True
    pod_status shop client-0 "$(address "$index" client-cart | cut -d : -f 1)" True
    local role roles=(client server)
    if [ "$managed_gateway" = true ]; then
        touch managed-gateway
    else
        roles+=(gateway)
        gateway_objects "$name" "$index" | kube apply --server-side --force-conflicts -f - >/dev/null
        pod_status istio-system istio-eastwestgateway-0 "${gateway%:*}" True
        kube --namespace istio-system patch service istio-eastwestgateway --subresource=status --type=merge --patch \
            "{\"status\":{\"loadBalancer\":{\"ingress\":[{\"ip\":\"${gateway%:*}\"}]}}}" >/dev/null
    fi
    start backend python3 "$here/answer" "${backend%:*}" "${backend#*:}" "$name-$app"
    for role in "${roles[@]}"; do start_proxy "$role" "$name" "$index"; done
    for role in "${roles[@]}"; do wait_for_proxy "$role" "$index"; done
    finish "$name: $app and its proxies run"
}

proxy_again() {
    local role=$1
    shift
    enter "$@"
    [[ $role =~ ^(gateway|client|server)$ ]] || { usage >&2; exit 64; }
    start_proxy "$role" "$1" "$2"
    wait_for_proxy "$role" "$2"
    finish "$1: $role runs"
}

wait_for_proxy() { wait_for "$1" 60 curl --fail --silent --max-time 2 "http://$(address "$2" "admin-$1")/ready"; }

# start_proxy ROLE NAME INDEX: a pilot-agent with its Envoy, in a folder of its own, because all its paths are relative.
start_proxy() {
    local role=$1 name=$2 index=$3 app type=sidecar namespace=shop account labels admin address extra
    app=$(cat app) admin=$(address "$index" "admin-$role") extra=ISTIO_META_INTERCEPTION_MODE=NONE
    admin=${admin#*:}
    case $role in
    gateway)
        type=router namespace=istio-system account=istio-eastwestgateway address=$(address "$index" gateway)
        labels="{\"app\":\"istio-eastwestgateway\",\"istio\":\"eastwestgateway\",\"topology.istio.io/network\":\"network-$name\"}"
        extra=ISTIO_META_REQUESTED_NETWORK_VIEW=network-$name
        if [ -e managed-gateway ]; then
            account=isthmus-eastwest-istio labels=$(managed_gateway_labels)
            managed_gateway_objects "$name" "$index" | kube apply --server-side --force-conflicts -f - >/dev/null
            pod_status istio-system "$account-0" "${address%:*}" True
        fi ;;
    client)
        account=client address=$(address "$index" client-cart) labels='{"app":"client"}' ;;
    server)
        account=$app address=$(pod_address "$index"):
        labels="{\"app\":\"$app\",\"security.istio.io/tlsMode\":\"istio\",\"service.istio.io/canonical-name\":\"$app\"}" ;;
    esac
    mkdir -p "$role"/etc/istio/{proxy,pod} "$role"/var/run/secrets/{tokens,istio} "$role"/var/lib/istio/envoy
    rm -f "$role/etc/istio/proxy/XDS" "$role/var/run/secrets/workload-spiffe-uds/socket"
    cp "$cache/envoy_bootstrap.json" "$role/var/lib/istio/envoy/envoy_bootstrap_tmpl.json"
    # Switches off the agent's status server, which would bind every interface; a statusPort of 0 is refused.
    echo 'status.sidecar.istio.io/port="0"' >"$role/etc/istio/pod/annotations"
    kube --namespace "$namespace" create token "$account" --audience istio-ca --duration 12h \
        >"$role/var/run/secrets/tokens/istio-token"
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        kube --namespace "$namespace" get configmap istio-ca-root-cert \
            --output 'go-template={{index .data "root-cert.pem"}}' >"$role/var/run/secrets/istio/root-cert.pem" 2>/dev/null && break
        sleep 0.2
    done
    # CA_ADDR stays unset: with it, the agent's certificate client would not take ISTIOD_SAN.
    start "$role" env -i -C "$PWD/$role" PATH="$PATH" HOME="$PWD/$role" \
        POD_NAME="$account-0" POD_NAMESPACE=$namespace SERVICE_ACCOUNT="$account" INSTANCE_IP="${address%:*}" \
        TRUST_DOMAIN="$(cat trust-domain)" ISTIOD_SAN=istiod.istio-system.svc PILOT_CERT_PROVIDER=istiod \
        ISTIO_META_CLUSTER_ID="$name" ISTIO_META_NETWORK="network-$name" ISTIO_META_MESH_ID=shop \
        ISTIO_META_WORKLOAD_NAME="$account" ISTIO_META_APP_CONTAINERS=app ISTIO_METAJSON_LABELS="$labels" \
        ENVOY_STATUS_PORT=$((admin + 1)) ENVOY_PROMETHEUS_PORT=$((admin + 2)) GRPC_XDS_BOOTSTRAP= CLOUD_PLATFORM=none \
        PROXY_CONFIG_XDS_AGENT="$xds_agent" "$extra" \
        PROXY_CONFIG="$(printf '%s\n' "binaryPath: $bin/envoy" "configPath: ./etc/istio/proxy" \
            "proxyBootstrapTemplatePath: ./var/lib/istio/envoy/envoy_bootstrap_tmpl.json" \
            "discoveryAddress: $(address "$index" istiod-secure)" "proxyAdminPort: $admin" "statusPort: $((admin + 3))" \
            "concurrency: 1" "terminationDrainDuration: 1s" "drainDuration: 1s" \
            'proxyStatsMatcher: {inclusionRegexps: [".*ssl[.].*", ".*upstream_cx_connect_fail.*"]}')" \
        "$bin/pilot-agent" proxy "$type" --domain "$namespace.svc.cluster.local" \
        --proxyLogLevel=warning --log_output_level=default:info
}
