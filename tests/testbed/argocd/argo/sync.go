package main

import (
	"fmt"
	"time"

	"github.com/argoproj/argo-cd/v3/common"
	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/argo"
	"github.com/argoproj/gitops-engine/pkg/cache"
	"github.com/argoproj/gitops-engine/pkg/health"
	gitopssync "github.com/argoproj/gitops-engine/pkg/sync"
	synccommon "github.com/argoproj/gitops-engine/pkg/sync/common"
	"github.com/argoproj/gitops-engine/pkg/utils/kube"
	"github.com/argoproj/gitops-engine/pkg/utils/tracing"
	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// syncPatience is far more than a sync takes whose objects are healthy as soon as they are there.
	syncPatience = time.Minute
	// roundPause is how long what was done has to be seen.
	roundPause = 100 * time.Millisecond
)

// tracked is the Application that an object in the cluster belongs to.
type tracked struct{ application string }

// rounds has a sync go on as the application controller does: what is wanted beside what is there, anew in every round.
func rounds(patience time.Duration, begin func(gitopssync.SyncOpt) (gitopssync.SyncContext, func(), error)) ([]synccommon.ResourceSyncResult, error) {
	phase, message, started := synccommon.OperationRunning, "", metav1.Time{Time: time.Now()}
	var results []synccommon.ResourceSyncResult
	for time.Since(started.Time) < patience {
		round, cleanup, err := begin(gitopssync.WithInitialState(phase, message, results, started))
		if err != nil {
			return results, err
		}
		round.Sync()
		phase, message, results = round.GetState()
		cleanup()
		switch phase {
		case synccommon.OperationSucceeded:
			return results, nil
		case synccommon.OperationRunning:
			time.Sleep(roundPause)
		default:
			return results, fmt.Errorf("the sync ended as %s: %s", phase, message)
		}
	}
	return results, fmt.Errorf("the sync is %s after %s: %s", phase, patience, message)
}

// present takes an object for healthy as soon as it is there: a cluster without controllers makes no pods of a Deployment.
type present struct{}

func (present) GetResourceHealth(*unstructured.Unstructured) (*health.HealthStatus, error) {
	return &health.HealthStatus{Status: health.HealthStatusHealthy}, nil
}

// syncTo has Argo CD's engine bring an Application's objects into a cluster, server-side and with pruning, as the Applications of
// `engine manifests argocd` ask for. It prints what became of each object.
func syncTo(kubeconfig, application, namespace, manifests string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 500, 1000
	targets, err := objects(manifests)
	if err != nil {
		return err
	}
	tracking, method := argo.NewResourceTracking(), v1alpha1.TrackingMethodAnnotation
	for _, object := range targets {
		if err := tracking.SetAppInstance(object, common.LabelKeyAppInstance, application, namespace, method, ""); err != nil {
			return err
		}
	}
	live := cache.NewClusterCache(config, cache.SetLogr(logr.Discard()),
		cache.SetPopulateResourceInfoHandler(func(object *unstructured.Unstructured, _ bool) (any, bool) {
			name := tracking.GetAppName(object, common.LabelKeyAppInstance, method, "")
			return &tracked{name}, name != ""
		}))
	if err := live.EnsureSynced(); err != nil {
		return err
	}
	defer live.Invalidate()
	isManaged := func(resource *cache.Resource) bool {
		info, ok := resource.Info.(*tracked)
		return ok && info.application == application
	}
	background := metav1.DeletePropagationBackground
	kubectl := &kube.KubectlCmd{Log: logr.Discard(), Tracer: tracing.NopTracer{}}
	results, err := rounds(syncPatience, func(state gitopssync.SyncOpt) (gitopssync.SyncContext, func(), error) {
		managed, err := live.GetManagedLiveObjs(targets, isManaged)
		if err != nil {
			return nil, nil, err
		}
		pairs := gitopssync.Reconcile(targets, managed, namespace, live)
		return gitopssync.NewSyncContext("4f0c1d2e", pairs, config, config, kubectl, namespace, live.GetOpenAPISchema(), state,
			gitopssync.WithPrune(true),
			// no controller collects what has the finalizer of a deletion in the foreground
			gitopssync.WithPrunePropagationPolicy(&background),
			gitopssync.WithServerSideApply(true),
			gitopssync.WithServerSideApplyManager(common.ArgoCDSSAManager),
			gitopssync.WithHealthOverride(present{}),
			gitopssync.WithLogr(logr.Discard()),
		)
	})
	for _, result := range results {
		fmt.Printf("%s %s: %s\n", result.Status, result.ResourceKey.String(), result.Message)
		if result.Status == synccommon.ResultCodeSyncFailed && err == nil {
			err = fmt.Errorf("%s: %s", result.ResourceKey.String(), result.Message)
		}
	}
	return err
}
