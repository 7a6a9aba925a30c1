# What is done to the node itself: these run alone.

witness() { # a pod that writes a number every fifth of a second
  pod witness 'i=0; while :; do i=$((i + 1)); echo $i; sleep .2; done'
  ready pod/witness
}
whole() { # every number from 1 on, once: no line was lost while nobody was there
  local lines; lines=$(k logs witness)
  [ -n "$lines" ]
  awk '$1 != NR { print "line " NR " says " $1; exit 1 }' <<<"$lines"
}
answers() { crictl version; }
node_ready() { kubectl wait --for=condition=Ready node/node1 --timeout=1s; }

alone_runtime_restart() {
  witness
  local id before; id=$(container witness)
  before=$(crictl ps -q | sort)
  has "$before" "${id:0:12}"
  systemctl kill --kill-whom=main --signal=KILL orlop
  eventually 60 answers
  is "$(crictl ps -q | sort)" "$before"
  eventually 60 node_ready
  k exec witness -- true
  is "$(container witness)" "$id"
  whole
  pod after 'sleep 100000'
  ready pod/after
  delete witness --grace-period=1
}

alone_kubelet_restart() {
  witness
  local before id; id=$(container witness)
  before=$(crictl ps -q | sort)
  has "$before" "${id:0:12}"
  systemctl restart kubelet
  pod after 'sleep 100000'
  ready pod/after
  is "$(crictl ps -q | sort | comm -12 - <(echo "$before"))" "$before"
  equals witness '.status.containerStatuses[0].restartCount' 0
  whole
}

alone_evented_pleg() { # the kubelet learns of an exit from the runtime's events
  witness
  cp /var/lib/kubelet/config.yaml /root/config.yaml
  sed -i '/^featureGates:/a\  EventedPLEG: true' /var/lib/kubelet/config.yaml
  systemctl restart kubelet
  eventually 60 connected
  pod short 'sleep 3; exit 5'
  ended Failed short
  equals short '.status.containerStatuses[0].state.terminated.exitCode' 5
  systemctl kill --kill-whom=main --signal=KILL orlop # the stream breaks, and is made again
  eventually 60 answers
  pod again 'exit 6'
  ended Failed again
  equals again '.status.containerStatuses[0].state.terminated.exitCode' 6
  whole
  cp /root/config.yaml /var/lib/kubelet/config.yaml
  systemctl restart kubelet
  eventually 60 node_ready
}
connected() { kubectl get --raw /api/v1/nodes/node1/proxy/metrics | grep -q '^kubelet_evented_pleg_connection_success_count [1-9]'; }

alone_static_pod() { # with no API server at all
  local id
  mv /etc/kubernetes/manifests/kube-apiserver.yaml /root/
  eventually 90 no_container kube-apiserver
  cat >/etc/kubernetes/manifests/alone.yaml <<Y
apiVersion: v1
kind: Pod
metadata: {name: alone, namespace: default}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: alone, image: $BUSYBOX, imagePullPolicy: Never, command: [sh, -c, 'echo on its own; sleep 100000']}]
Y
  eventually 90 runs alone
  id=$(crictl ps -q --name '^alone$')
  is "$(crictl logs "$id")" 'on its own'
  crictl stop -t 0 "$id" >/dev/null
  eventually 90 runs_other "$id"
  rm /etc/kubernetes/manifests/alone.yaml
  eventually 90 no_container alone
  mv /root/kube-apiserver.yaml /etc/kubernetes/manifests/
  eventually 180 kubectl get --raw /readyz
}
runs() { [ -n "$(crictl ps -q --name "^$1\$")" ]; }
no_container() { local ids; ids=$(crictl ps -q --name "^$1\$") && [ -z "$ids" ]; }
runs_other() { runs alone && [ "$(crictl ps -q --name '^alone$')" != "$1" ]; }

alone_image_collection() { # the kubelet removes what no container uses, and nothing else
  cp /var/lib/kubelet/config.yaml /root/config.yaml
  sed -i '/^imageM..imumGCAge:/d' /var/lib/kubelet/config.yaml
  printf 'imageMinimumGCAge: 1s\nimageMaximumGCAge: 5s\n' >>/var/lib/kubelet/config.yaml
  witness
  crictl inspecti localhost/spare:1 >/dev/null
  systemctl restart kubelet
  eventually 400 no_image localhost/spare:1 # the kubelet looks every five minutes
  crictl inspecti $BUSYBOX >/dev/null
  equals witness '.status.containerStatuses[0].restartCount' 0
  cp /root/config.yaml /var/lib/kubelet/config.yaml
  systemctl restart kubelet
  orlop load --input "$IMAGES/spare.tar" >/dev/null
}
no_image() { local ids; ids=$(crictl images -q "$1") && [ -z "$ids" ]; }
