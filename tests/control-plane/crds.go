package main

import (
	"context"
	"fmt"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// kind is one custom resource: a name and a version, and a schema which
// accepts everything. No controller stands behind it.
type kind struct{ group, version, kind, plural string }

var kinds = []kind{
	{"leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet", "leaderworkersets"},
	{"ray.io", "v1", "RayCluster", "rayclusters"},
	{"ray.io", "v1", "RayService", "rayservices"},
	{"jobset.x-k8s.io", "v1alpha2", "JobSet", "jobsets"},
	{"kubeflow.org", "v1", "PyTorchJob", "pytorchjobs"},
	{"kubeflow.org", "v2beta1", "MPIJob", "mpijobs"},
	{"trainer.kubeflow.org", "v1alpha1", "TrainJob", "trainjobs"},
	{"batch.volcano.sh", "v1alpha1", "Job", "jobs"},
	{"kueue.x-k8s.io", "v1beta1", "Workload", "workloads"},
}

func (k kind) definition() *apiextensions.CustomResourceDefinition {
	yes := true
	return &apiextensions.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{
			Name: k.plural + "." + k.group,
			// Groups under k8s.io ask for a word on who approved them.
			Annotations: map[string]string{"api-approved.kubernetes.io": "unapproved, for tests only"},
		},
		Spec: apiextensions.CustomResourceDefinitionSpec{
			Group: k.group,
			Scope: apiextensions.NamespaceScoped,
			Names: apiextensions.CustomResourceDefinitionNames{
				Kind:     k.kind,
				ListKind: k.kind + "List",
				Plural:   k.plural,
				Singular: strings.ToLower(k.kind),
			},
			Versions: []apiextensions.CustomResourceDefinitionVersion{{
				Name:    k.version,
				Served:  true,
				Storage: true,
				Schema: &apiextensions.CustomResourceValidation{OpenAPIV3Schema: &apiextensions.JSONSchemaProps{
					Type:                   "object",
					XPreserveUnknownFields: &yes,
				}},
				Subresources: &apiextensions.CustomResourceSubresources{Status: &apiextensions.CustomResourceSubresourceStatus{}},
			}},
		},
	}
}

// installKinds creates the definitions and returns without waiting for the
// API server to serve them all: it does so while the rest settles.
func installKinds(ctx context.Context, config *rest.Config) error {
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return err
	}
	for _, k := range kinds {
		_, err := client.ApiextensionsV1().CustomResourceDefinitions().Create(ctx, k.definition(), metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return nil
}

// kindsServed fails until every definition is established.
func kindsServed(ctx context.Context, config *rest.Config) error {
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return err
	}
	list, err := client.ApiextensionsV1().CustomResourceDefinitions().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	established := 0
	for _, definition := range list.Items {
		for _, c := range definition.Status.Conditions {
			if c.Type == apiextensions.Established && c.Status == apiextensions.ConditionTrue {
				established++
			}
		}
	}
	if established < len(kinds) {
		return fmt.Errorf("%d of %d definitions are established", established, len(kinds))
	}
	return nil
}
