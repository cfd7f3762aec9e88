package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/argoproj/gitops-engine/pkg/health"
	gitopssync "github.com/argoproj/gitops-engine/pkg/sync"
	"github.com/argoproj/gitops-engine/pkg/sync/common"
	"github.com/argoproj/gitops-engine/pkg/utils/kube"
	"github.com/argoproj/gitops-engine/pkg/utils/kube/kubetest"
	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/util/openapi"
	sigsyaml "sigs.k8s.io/yaml"
)

// wavesPatience is far more than a sync of five waves takes.
const wavesPatience = time.Minute

func newBuffered(stream io.Reader) *bufio.Reader { return bufio.NewReaderSize(stream, 1<<20) }

// cluster is a Kubernetes that keeps what it is given, and writes down what was done to it.
type cluster struct {
	kubetest.MockKubectlCmd
	lock    sync.Mutex
	objects map[kube.ResourceKey]*unstructured.Unstructured
	// kinds whose objects have a namespace
	namespaced map[schema.GroupKind]bool
	done       []string
}

func (c *cluster) note(verb string, object *unstructured.Unstructured) {
	c.done = append(c.done, fmt.Sprintf("%s %s/%s", verb, object.GetKind(), object.GetName()))
}

func (c *cluster) ManageResources(*rest.Config, openapi.Resources) (kube.ResourceOperations, func(), error) {
	return &writer{cluster: c}, func() {}, nil
}

// writer is the half of it that applies.
type writer struct {
	kubetest.MockResourceOps
	*cluster
}

func (w *writer) CreateResource(context.Context, *unstructured.Unstructured, cmdutil.DryRunStrategy, bool) (string, error) {
	return "", errors.New("nothing of ours is created without being applied")
}

func (w *writer) ApplyResource(_ context.Context, object *unstructured.Unstructured, dry cmdutil.DryRunStrategy, _, _, _ bool, _ string) (string, error) {
	if dry != cmdutil.DryRunNone {
		return "", nil
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	w.note("apply", object)
	// Argo CD gives every object the Application's namespace, and an apiserver takes it from those that have none
	object = object.DeepCopy()
	if !w.namespaced[object.GroupVersionKind().GroupKind()] {
		object.SetNamespace("")
	}
	w.objects[kube.GetResourceKey(object)] = object
	return "", nil
}

func (c *cluster) DeleteResource(_ context.Context, _ *rest.Config, kind schema.GroupVersionKind, name, namespace string, _ metav1.DeleteOptions) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	key := kube.NewResourceKey(kind.Group, kind.Kind, namespace, name)
	if object, ok := c.objects[key]; ok {
		c.note("prune", object)
		delete(c.objects, key)
	}
	return nil
}

func (c *cluster) GetResource(_ context.Context, _ *rest.Config, kind schema.GroupVersionKind, name, namespace string) (*unstructured.Unstructured, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.objects[kube.NewResourceKey(kind.Group, kind.Kind, namespace, name)], nil
}

// GetResourceHealth: everything is healthy as soon as it is there, so that the order is that of the waves alone.
func (c *cluster) GetResourceHealth(*unstructured.Unstructured) (*health.HealthStatus, error) {
	return &health.HealthStatus{Status: health.HealthStatusHealthy}, nil
}

func objects(path string) ([]*unstructured.Unstructured, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	all, err := documents(file)
	if err != nil {
		return nil, err
	}
	var found []*unstructured.Unstructured
	for _, document := range all {
		object := &unstructured.Unstructured{}
		if err := sigsyaml.Unmarshal(document, &object.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		found = append(found, object)
	}
	return found, nil
}

// discovery answers which resources an apiserver would have: those of the objects at hand.
func discovery(all []*unstructured.Unstructured) *httptest.Server {
	lists := map[string]*metav1.APIResourceList{}
	seen := map[schema.GroupVersionKind]bool{}
	for _, object := range all {
		kind := object.GroupVersionKind()
		if seen[kind] {
			continue
		}
		seen[kind] = true
		path := "/apis/" + kind.GroupVersion().String()
		if kind.Group == "" {
			path = "/api/" + kind.Version
		}
		list := lists[path]
		if list == nil {
			list = &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList"}, GroupVersion: kind.GroupVersion().String()}
			lists[path] = list
		}
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: strings.ToLower(kind.Kind) + "s", Kind: kind.Kind, Namespaced: object.GetNamespace() != "",
			Verbs: metav1.Verbs{"create", "delete", "get", "list", "patch", "update", "watch"},
		})
	}
	return httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		list, ok := lists[request.URL.Path]
		if !ok {
			http.NotFound(response, request)
			return
		}
		response.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(response).Encode(list)
	}))
}

// waves has Argo CD's sync engine bring a cluster from LIVE to TARGET, and prints what it does, wave by wave. Of one wave,
// what is done is sorted: there Argo CD works at several at once.
func waves(livePath, targetPath string, pruneLast bool) error {
	live, err := objects(livePath)
	if err != nil {
		return err
	}
	target, err := objects(targetPath)
	if err != nil {
		return err
	}
	server := discovery(append(append([]*unstructured.Unstructured{}, live...), target...))
	defer server.Close()
	config := &rest.Config{Host: server.URL}
	world := &cluster{objects: map[kube.ResourceKey]*unstructured.Unstructured{}, namespaced: map[schema.GroupKind]bool{}}
	for _, object := range append(append([]*unstructured.Unstructured{}, live...), target...) {
		world.namespaced[object.GroupVersionKind().GroupKind()] = object.GetNamespace() != ""
	}
	for _, object := range live {
		world.objects[kube.GetResourceKey(object)] = object
	}
	step := 0
	_, err = rounds(wavesPatience, func(state gitopssync.SyncOpt) (gitopssync.SyncContext, func(), error) {
		pairs := gitopssync.ReconciliationResult{}
		wanted := map[kube.ResourceKey]bool{}
		for _, object := range target {
			key := kube.GetResourceKey(object)
			wanted[key] = true
			pairs.Target = append(pairs.Target, object)
			pairs.Live = append(pairs.Live, world.objects[key])
		}
		for key, object := range world.objects {
			if !wanted[key] {
				pairs.Target = append(pairs.Target, nil)
				pairs.Live = append(pairs.Live, object)
			}
		}
		return gitopssync.NewSyncContext("4f0c1d2e", pairs, config, config, world, "istio-system", nil, state,
			gitopssync.WithPrune(true),
			gitopssync.WithPruneLast(pruneLast),
			gitopssync.WithServerSideApply(true),
			gitopssync.WithHealthOverride(world),
			gitopssync.WithLogr(logr.Discard()),
			gitopssync.WithSyncWaveHook(func(_ common.SyncPhase, wave int, _ bool) error {
				world.lock.Lock()
				defer world.lock.Unlock()
				step++
				sort.Strings(world.done)
				for _, line := range world.done {
					fmt.Printf("step %d, wave %d: %s\n", step, wave, line)
				}
				world.done = nil
				return nil
			}),
		)
	})
	return err
}
