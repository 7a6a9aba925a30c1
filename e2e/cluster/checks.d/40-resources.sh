# Limits, runtime classes, swap, images.

check_resize() { # in place: the same container goes on with other limits. Guaranteed, since a kubelet resizes nothing that may swap.
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: grows}
spec:
  containers:
  - {name: c, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'sleep 100000'], resources: {limits: {cpu: 100m, memory: 64Mi}}}
Y
  ready pod/grows
  local id; id=$(container grows)
  is "$(k exec grows -- cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max | tr '\n' ' ')" '10000 100000 67108864 '
  k patch pod grows --subresource=resize -p '{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"200m","memory":"128Mi"},"limits":{"cpu":"200m","memory":"128Mi"}}}]}}' >/dev/null
  eventually 60 limits '20000 100000 134217728 '
  eventually 60 equals grows '.status.containerStatuses[0].resources.limits.memory' 128Mi
  eventually 60 equals grows '.status.containerStatuses[0].resources.limits.cpu' 200m
  k patch pod grows --subresource=resize -p '{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"150m","memory":"96Mi"},"limits":{"cpu":"150m","memory":"96Mi"}}}]}}' >/dev/null
  eventually 60 limits '15000 100000 100663296 '
  is "$(container grows)" "$id"
  equals grows '.status.containerStatuses[0].restartCount' 0
}
limits() { is "$(k exec grows -- cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max | tr '\n' ' ')" "$1"; }

check_swap() { # LimitedSwap: a share of the node's swap for burstable pods, none for the others
  [ "$(swapon --show --noheadings | wc -l)" -gt 0 ]
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: burstable}
spec:
  containers:
  - {name: c, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'sleep 100000'], resources: {requests: {memory: 512Mi}, limits: {memory: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: guaranteed}
spec:
  containers:
  - {name: c, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'sleep 100000'], resources: {limits: {memory: 64Mi, cpu: 50m}}}
Y
  ready pod/burstable pod/guaranteed
  [ "$(k exec burstable -- cat /sys/fs/cgroup/memory.swap.max)" -gt 1000000 ]
  is "$(k exec guaranteed -- cat /sys/fs/cgroup/memory.swap.max)" 0
}

check_runtime_class() {
  kubectl apply -f manifests/runtimeclass.yaml >/dev/null
  kubectl apply -f - >/dev/null <<Y
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: unknown}
handler: no-such-handler
Y
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: named}
spec:
  runtimeClassName: orlop
  containers: [{name: c, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'sleep 100000']}]
---
apiVersion: v1
kind: Pod
metadata: {name: unknown}
spec:
  runtimeClassName: unknown
  containers: [{name: c, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'sleep 100000']}]
Y
  ready pod/named
  equals named '.spec.overhead.memory' 2Mi
  eventually 60 refused
  delete unknown
}
refused() { has "$(k get events --field-selector=reason=FailedCreatePodSandBox)" no-such-handler; }

check_host_namespaces() {
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  hostNetwork: true
  hostPID: true
  hostIPC: true
  containers: [{name: c, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'sleep 100000']}]
---
apiVersion: v1
kind: Pod
metadata: {name: together}
spec:
  shareProcessNamespace: true
  containers:
  - {name: a, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'sleep 100001']}
  - {name: b, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'sleep 100002']}
Y
  ready pod/host pod/together
  has "$(k exec host -- ps)" kubelet
  has "$(k exec host -- ip addr)" node0
  equals host .status.podIP 172.30.0.1
  has "$(k exec together -c b -- ps)" 'sleep 100001'
}

check_host_port() {
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers: [{name: c, image: $AGNHOST, imagePullPolicy: Never, args: [netexec, --http-port=8080], ports: [{containerPort: 8080, hostPort: 18080}]}]
Y
  ready pod/web
  eventually 30 curl -sS --max-time 5 http://172.30.0.1:18080/hostname
  is "$(curl -sS --max-time $((10 * PATIENCE)) http://172.30.0.1:18080/hostname)" web
}

# An image that nothing else runs: a kubelet asks every pod for the secret once its content was pulled with one.
check_pulls() { # from a registry that wants a password: with the pod's secret, and not without
  local dir=/var/tmp/$ns; mkdir -p "$dir/data"
  htpasswd -Bbn somebody secret >"$dir/users"
  cat >"$dir/config.yml" <<Y
version: 0.1
storage: {filesystem: {rootdirectory: $dir/data}}
http: {addr: 127.0.0.1:5005}
auth: {htpasswd: {realm: here, path: $dir/users}}
Y
  systemd-run --quiet --collect --unit=registry docker-registry serve "$dir/config.yml"
  eventually 20 curl -s -o /dev/null http://127.0.0.1:5005/v2/
  local name
  for name in one two three; do
    printf secret | orlop image push --username somebody --password-stdin registry.k8s.io/pause:3.10.2 "127.0.0.1:5005/$name:1" >/dev/null
  done
  k create secret docker-registry pull --docker-server=127.0.0.1:5005 --docker-username=somebody --docker-password=secret >/dev/null
  for name in one two; do
    apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: $name}
spec:
  imagePullSecrets: [{name: pull}]
  containers: [{name: c, image: '127.0.0.1:5005/$name:1', imagePullPolicy: Always}]
Y
  done
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: without}
spec:
  containers: [{name: c, image: '127.0.0.1:5005/three:1', imagePullPolicy: Always}]
Y
  ready pod/one pod/two
  eventually 60 waits_for_image without
  # The image is on the node now: a pod without the secret must not get it by that.
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: thief}
spec:
  containers: [{name: c, image: '127.0.0.1:5005/one:1', imagePullPolicy: Always}]
Y
  eventually 60 waits_for_image thief
  systemctl stop registry
  delete --all
  rm -r "$dir"
}
waits_for_image() { has "$(of "$1" '.status.containerStatuses[0].state.waiting.reason')" Pull; }
