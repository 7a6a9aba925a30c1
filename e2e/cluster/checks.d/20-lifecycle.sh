# A container's life, as a kubelet makes it.

check_probes() { # exec, HTTP, TCP and gRPC, each of which has to fail as well
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: exec
    image: $BUSYBOX
    imagePullPolicy: Never
    command: [sh, -c, 'touch /tmp/alive /tmp/ready; sleep 100000']
    startupProbe: {exec: {command: [test, -e, /tmp/alive]}, periodSeconds: 1, timeoutSeconds: 20}
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, timeoutSeconds: 20}
    livenessProbe: {exec: {command: [sh, -c, 'test -e /tmp/alive']}, periodSeconds: 1, failureThreshold: 2, timeoutSeconds: 20}
  - name: web
    image: $AGNHOST
    imagePullPolicy: Never
    args: [netexec, --http-port=8080]
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, timeoutSeconds: 20}
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, initialDelaySeconds: 30, failureThreshold: 3, timeoutSeconds: 20}
  - name: grpc
    image: $AGNHOST
    imagePullPolicy: Never
    args: [grpc-health-checking, --port=5000, --http-port=8081]
    readinessProbe: {grpc: {port: 5000}, periodSeconds: 1, timeoutSeconds: 20}
Y
  ready pod/probed
  equals probed '.status.containerStatuses[*].restartCount' '0 0 0'
  k exec probed -c exec -- rm /tmp/ready
  wait_for condition=Ready=false pod/probed
  k exec probed -c exec -- touch /tmp/ready
  ready pod/probed
  k exec probed -c exec -- rm /tmp/alive
  eventually 60 equals probed '.status.containerStatuses[?(@.name=="exec")].restartCount' 1
  ready pod/probed
  k exec probed -c grpc -- wget -qO- http://127.0.0.1:8081/make-not-serving >/dev/null
  eventually 60 equals probed '.status.containerStatuses[?(@.name=="grpc")].ready' false
}

check_probe_timeout() { # an exec probe that hangs counts as failed, and is killed
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: hangs}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: $BUSYBOX
    imagePullPolicy: Never
    command: [sh, -c, 'sleep 100000']
    readinessProbe: {exec: {command: [sleep, '4321']}, periodSeconds: 2, timeoutSeconds: 1}
Y
  ended Running hangs
  eventually 60 hung
  equals hangs '.status.containerStatuses[0].ready' false
  local seen; seen=$(k exec hangs -- ps)
  has "$seen" 'sleep 100000'
  [ "$(grep -c 'sleep 4321' <<<"$seen")" -le 2 ] # the one that runs, and the one that is just killed
}
hung() { has "$(k get events --field-selector=reason=Unhealthy)" 'timed out'; }

check_init_and_sidecar() {
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: ordered}
spec:
  restartPolicy: Never
  volumes: [{name: shared, emptyDir: {}}]
  initContainers:
  - {name: first, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'echo first >>/shared/order'], volumeMounts: [{name: shared, mountPath: /shared}]}
  - name: sidecar
    image: $BUSYBOX
    imagePullPolicy: Never
    restartPolicy: Always
    command: [sh, -c, 'trap "echo sidecar ends; exit 0" TERM; echo sidecar >>/shared/order; while :; do sleep .2; done']
    startupProbe: {exec: {command: [grep, -q, sidecar, /shared/order]}, periodSeconds: 1, timeoutSeconds: 20}
    volumeMounts: [{name: shared, mountPath: /shared}]
  - {name: last, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'echo last >>/shared/order'], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - {name: main, image: $BUSYBOX, imagePullPolicy: Never, command: [cat, /shared/order], volumeMounts: [{name: shared, mountPath: /shared}]}
Y
  ended Succeeded ordered
  is "$(k logs ordered -c main | tr '\n' ' ')" 'first sidecar last '
  has "$(k logs ordered -c sidecar)" 'sidecar ends'
  equals ordered '.status.initContainerStatuses[?(@.name=="sidecar")].state.terminated.exitCode' 0
}

check_hooks() {
  local dir=/var/tmp/$ns; mkdir -p "$dir"
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: hooked}
spec:
  volumes: [{name: out, hostPath: {path: $dir}}]
  containers:
  - name: c
    image: $BUSYBOX
    imagePullPolicy: Never
    command: [sh, -c, 'trap "echo term >>/out/order; exit 0" TERM; while :; do sleep .2; done']
    volumeMounts: [{name: out, mountPath: /out}]
    lifecycle:
      postStart: {exec: {command: [sh, -c, 'echo post >>/out/order']}}
      preStop: {exec: {command: [sh, -c, 'echo pre >>/out/order']}}
Y
  ready pod/hooked
  delete hooked
  is "$(tr '\n' ' ' <"$dir/order")" 'post pre term '
  rm -r "$dir"
}

check_back_off() {
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: crashes}
spec:
  containers:
  - {name: c, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'echo life; echo why >/dev/termination-log; exit 3']}
Y
  eventually 90 equals crashes '.status.containerStatuses[0].state.waiting.reason' CrashLoopBackOff
  equals crashes '.status.containerStatuses[0].lastState.terminated.exitCode' 3
  equals crashes '.status.containerStatuses[0].lastState.terminated.reason' Error
  is "$(of crashes '.status.containerStatuses[0].lastState.terminated.message')" why
  is "$(k logs -p crashes)" life
}

check_grace() {
  local dir=/var/tmp/$ns; mkdir -p "$dir"
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: polite}
spec:
  terminationGracePeriodSeconds: 60
  volumes: [{name: out, hostPath: {path: $dir}}]
  containers:
  - {name: c, image: $BUSYBOX, imagePullPolicy: Never, volumeMounts: [{name: out, mountPath: /out}],
     command: [sh, -c, 'trap "sleep 2; echo bye >/out/polite; exit 0" TERM; while :; do sleep .2; done']}
---
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - {name: c, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'trap "" TERM; while :; do sleep .2; done']}
---
apiVersion: v1
kind: Pod
metadata: {name: forced}
spec:
  terminationGracePeriodSeconds: 600
  containers:
  - {name: c, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'trap "" TERM; while :; do sleep .2; done']}
Y
  ready pod/polite pod/stubborn pod/forced
  local id; id=$(container forced)
  delete polite
  is "$(cat "$dir/polite")" bye
  delete stubborn
  k delete pod forced --grace-period=0 --force >/dev/null 2>&1
  eventually 60 not_running "$id"
  rm -r "$dir"
}
not_running() { local left; left=$(crictl ps -q --id "$1") && is "$left" ""; }

check_out_of_memory() {
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: eats}
spec:
  restartPolicy: Never
  containers:
  - {name: c, image: $BUSYBOX, imagePullPolicy: Never, command: [tail, /dev/zero], resources: {limits: {memory: 32Mi}}}
Y
  ended Failed eats
  equals eats '.status.containerStatuses[0].state.terminated.reason' OOMKilled
  equals eats '.status.containerStatuses[0].state.terminated.exitCode' 137
}

check_bad_starts() { # what cannot start says why
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: absent}
spec:
  containers: [{name: c, image: $BUSYBOX, imagePullPolicy: Never, command: [/no/such/program]}]
---
apiVersion: v1
kind: Pod
metadata: {name: root}
spec:
  containers: [{name: c, image: $BUSYBOX, imagePullPolicy: Never, command: [id], securityContext: {runAsNonRoot: true}}]
---
apiVersion: v1
kind: Pod
metadata: {name: noimage}
spec:
  containers: [{name: c, image: 'registry.k8s.io/no-such:1', imagePullPolicy: Never}]
Y
  eventually 60 message absent /no/such/program
  eventually 60 message root 'runAsNonRoot'
  eventually 60 equals noimage '.status.containerStatuses[0].state.waiting.reason' ErrImageNeverPull
}
message() { has "$(of "$1" '.status.containerStatuses[0].state.waiting.message') $(of "$1" '.status.containerStatuses[0].lastState.terminated.message')" "$2"; }

check_identity() { # users, groups, capabilities, read-only roots, names and addresses
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: id}
spec:
  hostname: named
  subdomain: sub
  hostAliases: [{ip: 192.0.2.1, hostnames: [elsewhere]}]
  dnsConfig: {options: [{name: ndots, value: '3'}]}
  securityContext: {runAsUser: 1000, runAsGroup: 2000, fsGroup: 3000, supplementalGroups: [4000], sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: '80'}]}
  containers:
  - name: c
    image: $BUSYBOX
    imagePullPolicy: Never
    command: [sh, -c, 'sleep 100000']
    env:
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
Y
  ready pod/id
  is "$(k exec id -- id -u) $(k exec id -- id -g) $(k exec id -- id -G)" '1000 2000 2000 3000 4000'
  is "$(k exec id -- hostname)" named
  has "$(k exec id -- cat /etc/hosts)" elsewhere
  has "$(k exec id -- cat /etc/resolv.conf)" ndots:3
  is "$(k exec id -- cat /proc/sys/net/ipv4/ip_unprivileged_port_start)" 80
  has "$(k exec id -- grep CapEff /proc/1/status)" 0000000000000000
  has "$(k exec id -- grep NoNewPrivs /proc/1/status)" 1
  if k exec id -- touch /tmp/x 2>/dev/null; then echo 'the root can be written'; return 1; fi
  has "$(k exec id -- ip addr show eth0)" "$(k exec id -- printenv POD_IP)"
}
