package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/argoproj/argo-cd/v3/cmpserver/apiclient"
	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/cmp"
	"google.golang.org/protobuf/types/known/emptypb"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

// patience is what Argo CD grants a plugin by default.
const patience = 60 * time.Second

func documents(stream io.Reader) ([][]byte, error) {
	var found [][]byte
	reader := yaml.NewYAMLReader(newBuffered(stream))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(document)) > 0 {
			found = append(found, document)
		}
	}
}

func check(stream io.Reader) error {
	all, err := documents(stream)
	if err != nil {
		return err
	}
	for _, document := range all {
		var head struct{ Kind string }
		if err := sigsyaml.Unmarshal(document, &head); err != nil {
			return err
		}
		var into any
		switch head.Kind {
		case "Application":
			into = &v1alpha1.Application{}
		case "ApplicationSet":
			into = &v1alpha1.ApplicationSet{}
		default:
			return fmt.Errorf("%q is none of Argo CD's kinds", head.Kind)
		}
		if err := sigsyaml.UnmarshalStrict(document, into); err != nil {
			return fmt.Errorf("%s: %w", head.Kind, err)
		}
		if application, ok := into.(*v1alpha1.Application); ok {
			kind, err := application.Spec.Source.ExplicitType()
			if err != nil {
				return err
			}
			fmt.Printf("Application %s %s\n", application.Name, *kind)
		} else {
			fmt.Println(head.Kind)
		}
	}
	return nil
}

func application(stream io.Reader) (*v1alpha1.Application, error) {
	text, err := io.ReadAll(stream)
	if err != nil {
		return nil, err
	}
	var application v1alpha1.Application
	return &application, sigsyaml.UnmarshalStrict(text, &application)
}

// environment is what the repo server hands to a plugin (reposerver/repository: newEnv, getPluginParamEnvs), but for
// KUBE_VERSION and KUBE_API_VERSIONS, which it does not know while it lists parameters.
func environment(application *v1alpha1.Application) ([]string, error) {
	source := application.Spec.GetSource()
	revision := "4f0c1d2e3a4b5c6d7e8f90123456789abcdef012"
	own := []string{
		"ARGOCD_APP_NAME=" + application.Name,
		"ARGOCD_APP_NAMESPACE=" + application.Spec.Destination.Namespace,
		"ARGOCD_APP_PROJECT_NAME=" + application.Spec.Project,
		"ARGOCD_APP_REVISION=" + revision,
		"ARGOCD_APP_REVISION_SHORT=" + revision[:7],
		"ARGOCD_APP_REVISION_SHORT_8=" + revision[:8],
		"ARGOCD_APP_SOURCE_REPO_URL=" + source.RepoURL,
		"ARGOCD_APP_SOURCE_PATH=" + source.Path,
		"ARGOCD_APP_SOURCE_TARGET_REVISION=" + source.TargetRevision,
	}
	for _, entry := range source.Plugin.Env {
		own = append(own, "ARGOCD_ENV_"+entry.Name+"="+entry.Value)
	}
	parameters, err := source.Plugin.Parameters.Environ()
	return append(own, parameters...), err
}

func connect(application *v1alpha1.Application, sockets string) (io.Closer, apiclient.ConfigManagementPluginServiceClient, error) {
	source := application.Spec.GetSource()
	if source.Plugin == nil {
		return nil, nil, errors.New("the Application names no plugin")
	}
	return apiclient.NewConfigManagementPluginClientSet(filepath.Join(sockets, source.Plugin.Name+".sock")).NewConfigManagementPluginClient()
}

func generate(stream io.Reader, sockets, repository string, times int) error {
	application, err := application(stream)
	if err != nil {
		return err
	}
	connection, client, err := connect(application, sockets)
	if err != nil {
		return err
	}
	defer connection.Close()
	type answer struct {
		manifests []string
		err       error
	}
	answers := make(chan answer, times)
	for range times {
		go func() {
			manifests, err := generateOnce(application, client, repository)
			answers <- answer{manifests, err}
		}()
	}
	var first []string
	for number := range times {
		answer := <-answers
		if answer.err != nil {
			return answer.err
		}
		if number == 0 {
			first = answer.manifests
			continue
		}
		if fmt.Sprint(answer.manifests) != fmt.Sprint(first) {
			return errors.New("two generations of one checkout differ")
		}
	}
	for _, manifest := range first {
		fmt.Println(manifest)
	}
	return nil
}

func generateOnce(application *v1alpha1.Application, client apiclient.ConfigManagementPluginServiceClient, repository string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// as in the repo server: is there a discovery block, and then the manifests
	configuration, err := client.CheckPluginConfiguration(ctx, &emptypb.Empty{})
	if err != nil {
		return nil, err
	}
	if configuration.IsDiscoveryConfigured {
		return nil, errors.New("the plugin has a discover block")
	}
	variables, err := environment(application)
	if err != nil {
		return nil, err
	}
	requests, err := client.GenerateManifest(ctx)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(repository, application.Spec.GetSource().Path)
	if err := cmp.SendRepoStream(requests.Context(), path, repository, requests, variables, []string{".git"}); err != nil {
		return nil, err
	}
	response, err := requests.CloseAndRecv()
	if err != nil {
		return nil, err
	}
	return response.Manifests, nil
}

func announce(stream io.Reader, sockets, repository string) error {
	application, err := application(stream)
	if err != nil {
		return err
	}
	connection, client, err := connect(application, sockets)
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	requests, err := client.GetParametersAnnouncement(ctx)
	if err != nil {
		return err
	}
	path := filepath.Join(repository, application.Spec.GetSource().Path)
	// an Application's details are asked for with fewer variables
	variables := []string{"ARGOCD_APP_NAME=" + application.Name}
	if err := cmp.SendRepoStream(requests.Context(), path, repository, requests, variables, []string{".git"}); err != nil {
		return err
	}
	response, err := requests.CloseAndRecv()
	if err != nil {
		return err
	}
	text, err := json.Marshal(response.ParameterAnnouncements)
	fmt.Println(string(text))
	return err
}
