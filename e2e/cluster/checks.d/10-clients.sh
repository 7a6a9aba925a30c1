# What people do with kubectl.

check_service() {
  k create deployment web --image=$AGNHOST --replicas=2 -- /agnhost netexec --http-port=8080 >/dev/null
  k expose deployment web --type=NodePort --port=80 --target-port=8080 >/dev/null
  k rollout status deployment/web --timeout=$((60 * PATIENCE))s
  local pod port pods
  port=$(k get service web -o jsonpath='{.spec.ports[0].nodePort}')
  eventually 30 one_of_web "http://172.30.0.1:$port/hostname"
  # By name from a pod; each also reaches itself in that way.
  pods=($(k get pods -l app=web -o jsonpath='{.items[*].status.podIP}'))
  is ${#pods[@]} 2
  for pod in "${pods[@]}"; do
    for name in web "web.$ns.svc.cluster.local"; do
      has "$(curl -sS --max-time $((10 * PATIENCE)) "http://$pod:8080/dial?host=$name&port=80&protocol=http&request=hostname&tries=6")" '"responses":["web-'
    done
  done
}
one_of_web() {
  local name; name=$(curl -sS --max-time $((10 * PATIENCE)) "$1")
  [ -n "$name" ] && has "$(k get pods -l app=web -o name)" "pod/$name"
}

check_logs() {
  pod lines 'for i in 1 2 3 4 5; do echo line $i; echo error $i >&2; sleep .3; done; printf end'
  eventually 60 started lines
  local all; all=$(k logs -f lines) # ends by itself with the container
  is "$(grep -c ^line <<<"$all") $(grep -c ^error <<<"$all")" "5 5"
  has "$all" end
  is "$(k logs --tail=1 lines)" end
}

started() { k get pod "$1" -o jsonpath='{.status.containerStatuses[0].started} {.status.phase}' | grep -qE 'true|Succeeded'; }

check_exec() {
  pod w 'sleep 100000'
  ready pod/w
  local status=0
  k exec w -- sh -c 'exit 7' 2>/dev/null || status=$?
  is $status 7
  is "$(echo through | k exec -i w -- cat)" through
  is "$(head -c 3000000 /dev/zero | k exec -i w -- wc -c)" 3000000
  is "$(k exec w -- sh -c 'echo out; echo err >&2' 2>/dev/null)" out
  # A terminal on both sides: the shell sees one, and its size.
  local seen; seen=$(script -qec "stty rows 33 cols 77; kubectl -n $ns exec -it w -- sh -c 'tty; sleep 1; stty size'" /dev/null </dev/null | tr -d '\r')
  has "$seen" /dev/pts/0
  has "$seen" "33 77"
}

check_attach() {
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  containers:
  - {name: c, image: $BUSYBOX, imagePullPolicy: Never, stdin: true, stdinOnce: true, command: [sh, -c, 'while read line; do echo "got \$line"; done; echo over']}
  restartPolicy: Never
Y
  ready pod/reader
  local seen; seen=$(printf 'one\ntwo\n' | k attach -i reader -q)
  has "$seen" "got two"
  ended Succeeded reader
  is "$(k logs reader | tail -n 1)" over
}

check_cp() {
  pod w 'sleep 100000'
  ready pod/w
  local dir; dir=$(mktemp -d)
  mkdir -p "$dir/tree/deep"
  head -c 2000000 /dev/urandom >"$dir/tree/deep/file"
  k cp "$dir/tree" w:/tmp/tree >/dev/null
  k cp w:/tmp/tree "$dir/back" >/dev/null
  diff -r "$dir/tree" "$dir/back"
  rm -rf "$dir"
}

check_port_forward() {
  k run web --image=$AGNHOST --image-pull-policy=Never -- netexec --http-port=8080 >/dev/null
  ready pod/web
  eventually 30 curl -sS --max-time 5 "http://$(of web .status.podIP):8080/hostname"
  local out; out=$(mktemp)
  k port-forward pod/web :8080 >"$out" &
  local forward=$!
  eventually 20 grep -q Forwarding "$out"
  local port; port=$(sed -n 's/Forwarding from 127.0.0.1:\([0-9]*\).*/\1/p' "$out")
  is "$(curl -sS --max-time $((10 * PATIENCE)) "http://127.0.0.1:$port/hostname")" web
  is "$(curl -sS --max-time $((10 * PATIENCE)) "http://127.0.0.1:$port/echo?msg=twice")" twice
  kill $forward
}

check_debug() {
  pod w 'sleep 100000'
  ready pod/w
  k debug w --image=$BUSYBOX --image-pull-policy=Never --target=w -c look -- sh -c 'ps; cat /proc/1/root/etc/hostname; sleep 100000' >/dev/null
  eventually 60 has_log w look 'sleep 100000'
  k logs w -c look | grep -q '^ *1 .*sleep 100000' # the target's first process
}
has_log() { has "$(k logs "$1" -c "$2")" "$3"; }

check_stats() {
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: busy}
spec:
  containers:
  - {name: c, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'dd if=/dev/zero of=/written bs=1M count=5 2>/dev/null; while :; do :; done'], resources: {limits: {cpu: 100m}}}
Y
  ready pod/busy
  eventually 60 used
  # The numbers are CRI's, not cadvisor's: this gate makes the kubelet ask the runtime.
  kubectl get --raw /api/v1/nodes/node1/proxy/metrics/resource | grep "^container_cpu_usage_seconds_total.*namespace=\"$ns\""
  kubectl get --raw /api/v1/nodes/node1/proxy/metrics/resource | grep "^pod_memory_working_set_bytes.*namespace=\"$ns\""
  kubectl get --raw /api/v1/nodes/node1/proxy/metrics/cadvisor | grep "^container_memory_working_set_bytes.*namespace=\"$ns\""
}
used() { # cpu, memory, network, the writable layer, pressure
  summary | jq -e --arg ns "$ns" '.pods[] | select(.podRef.namespace == $ns) |
    .containers[0].cpu.usageNanoCores > 1000000 and .containers[0].memory.workingSetBytes > 0
    and .containers[0].rootfs.usedBytes > 5000000 and .cpu.usageCoreNanoSeconds > 0 and .memory.workingSetBytes > 0
    and (.network.interfaces | length) > 0 and .process_stats.process_count > 0 and .containers[0].cpu.psi.some.total >= 0'
}
