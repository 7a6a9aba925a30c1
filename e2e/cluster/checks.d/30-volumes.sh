# What a pod finds mounted.

check_projected() { # config maps, secrets, the downward API and tokens; all but the sub-path follow their source
  k create configmap conf --from-literal=key=old >/dev/null
  k create secret generic hidden --from-literal=word=xyzzy >/dev/null
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: reads, labels: {colour: red}}
spec:
  containers:
  - name: c
    image: $BUSYBOX
    imagePullPolicy: Never
    command: [sh, -c, 'sleep 100000']
    volumeMounts:
    - {name: all, mountPath: /all, readOnly: true}
    - {name: conf, mountPath: /single/key, subPath: key}
  volumes:
  - {name: conf, configMap: {name: conf}}
  - name: all
    projected:
      sources:
      - {configMap: {name: conf}}
      - {secret: {name: hidden}}
      - {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
      - {serviceAccountToken: {path: token, expirationSeconds: 3600}}
Y
  ready pod/reads
  is "$(k exec reads -- cat /all/key /all/word /single/key)" oldxyzzyold
  has "$(k exec reads -- cat /all/labels)" 'colour="red"'
  is "$(k exec reads -- cat /all/token | tr -cd . | wc -c)" 2
  k create configmap conf --from-literal=key=new --dry-run=client -o yaml | k replace -f - >/dev/null
  k label pod reads colour=blue --overwrite >/dev/null
  eventually 120 shows new
  eventually 120 shows_label blue
  is "$(k exec reads -- cat /single/key)" old
}
shows() { is "$(k exec reads -- cat /all/key)" "$1"; }
shows_label() { has "$(k exec reads -- cat /all/labels)" "$1"; }

check_memory_and_sub_path() {
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: mounts}
spec:
  containers:
  - name: c
    image: $BUSYBOX
    imagePullPolicy: Never
    command: [sh, -c, 'sleep 100000']
    env: [{name: WHO, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    resources: {limits: {memory: 64Mi}}
    volumeMounts:
    - {name: memory, mountPath: /memory}
    - {name: disk, mountPath: /a, subPath: made/deep}
    - {name: disk, mountPath: /b, subPathExpr: '\$(WHO)'}
    - {name: disk, mountPath: /whole}
  volumes:
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
  - {name: disk, emptyDir: {}}
Y
  ready pod/mounts
  has "$(k exec mounts -- grep ' /memory ' /proc/mounts)" tmpfs
  if k exec mounts -- dd if=/dev/zero of=/memory/big bs=1M count=16 2>/dev/null; then echo 'more than the limit fits'; return 1; fi
  k exec mounts -- sh -c 'echo x >/a/file; echo y >/b/file'
  is "$(k exec mounts -- cat /whole/made/deep/file /whole/mounts/file)" "x
y"
}

check_propagation() {
  local dir=/var/tmp/$ns; mkdir -p "$dir"
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: mounter}
spec:
  volumes: [{name: shared, hostPath: {path: $dir}}]
  containers:
  - name: c
    image: $BUSYBOX
    imagePullPolicy: Never
    command: [sh, -c, 'mkdir -p /shared/in && mount -t tmpfs none /shared/in && touch /shared/in/seen; trap "umount /shared/in; exit 0" TERM; while :; do sleep .2; done']
    securityContext: {privileged: true}
    volumeMounts: [{name: shared, mountPath: /shared, mountPropagation: Bidirectional}]
---
apiVersion: v1
kind: Pod
metadata: {name: follower}
spec:
  volumes: [{name: shared, hostPath: {path: $dir}}]
  containers:
  - {name: c, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'sleep 100000'], volumeMounts: [{name: shared, mountPath: /shared, mountPropagation: HostToContainer}]}
Y
  ready pod/mounter pod/follower
  eventually 20 test -e "$dir/in/seen"
  eventually 20 k exec follower -- test -e /shared/in/seen
  delete mounter
  if mountpoint -q "$dir/in"; then echo 'still mounted'; return 1; fi
}

check_image_volume() {
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: layered}
spec:
  containers:
  - name: c
    image: $BUSYBOX
    imagePullPolicy: Never
    command: [sh, -c, 'sleep 100000']
    volumeMounts: [{name: programs, mountPath: /programs}, {name: programs, mountPath: /etc-only, subPath: etc}]
  volumes:
  - {name: programs, image: {reference: $AGNHOST, pullPolicy: Never}}
Y
  ready pod/layered
  k exec layered -- test -x /programs/agnhost
  k exec layered -- test -e /etc-only/passwd
  if k exec layered -- touch /programs/x 2>/dev/null; then echo 'the image can be written'; return 1; fi
}

check_user_namespace() {
  k create configmap conf --from-literal=key=value >/dev/null
  apply <<Y
apiVersion: v1
kind: Pod
metadata: {name: mapped}
spec:
  hostUsers: false
  containers:
  - name: c
    image: $BUSYBOX
    imagePullPolicy: Never
    command: [sh, -c, 'sleep 100000']
    volumeMounts: [{name: conf, mountPath: /conf}, {name: disk, mountPath: /disk}]
  volumes: [{name: conf, configMap: {name: conf}}, {name: disk, emptyDir: {}}]
Y
  ready pod/mapped
  is "$(k exec mapped -- cat /conf/key)" value
  is "$(k exec mapped -- id -u)" 0
  k exec mapped -- awk '$1 != 0 || $2 == 0 || $3 != 65536 { exit 1 }' /proc/self/uid_map
  is "$(k exec mapped -- sh -c 'echo x >/disk/file; stat -c %u /disk/file')" 0
  local pid; pid=$(crictl inspect "$(container mapped)" | jq .info.pid)
  [ "$(stat -c %u "/proc/$pid")" -ge 65536 ]
}
