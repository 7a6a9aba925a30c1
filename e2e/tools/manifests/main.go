// Command manifests reads each file with the type that Kubernetes itself reads it into, and fails on a field that the
// type does not have.
package main

import (
	"fmt"
	"os"

	node "k8s.io/api/node/v1"
	kubelet "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

func check(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var kind struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
	}
	if err := yaml.Unmarshal(text, &kind); err != nil {
		return err
	}
	switch kind.APIVersion + " " + kind.Kind {
	case kubelet.SchemeGroupVersion.String() + " KubeletConfiguration":
		return yaml.UnmarshalStrict(text, &kubelet.KubeletConfiguration{})
	case node.SchemeGroupVersion.String() + " RuntimeClass":
		return yaml.UnmarshalStrict(text, &node.RuntimeClass{})
	}
	return fmt.Errorf("kind %q of %q is not known here", kind.Kind, kind.APIVersion)
}

func main() {
	failed := false
	for _, file := range os.Args[1:] {
		if err := check(file); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}
