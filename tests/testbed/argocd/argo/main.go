// What Argo CD's own code makes of our output. Run by tests/bed/argocd.rs.
//
//	argo check < APPLICATIONS                         read Applications, ApplicationSets and AppProjects strictly, by Argo CD's types
//	argo generate SOCKETS REPOSITORY TIMES < APPLICATION   ask the plugin server for its manifests, TIMES at once
//	argo announce SOCKETS REPOSITORY < APPLICATION    ask it for the parameters
//	argo waves LIVE TARGET                            sync from one file of objects to another; print what is done in which wave
//	argo order LIVE TARGET                            the same with `pruneLast`
//	argo sync KUBECONFIG APPLICATION NAMESPACE TARGET sync a file of objects into a cluster
package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "argo:", err)
		os.Exit(1)
	}
}

func run(words []string) error {
	switch {
	case len(words) == 1 && words[0] == "check":
		return check(os.Stdin)
	case len(words) == 4 && words[0] == "generate":
		times, err := strconv.Atoi(words[3])
		if err != nil {
			return err
		}
		return generate(os.Stdin, words[1], words[2], times)
	case len(words) == 3 && words[0] == "announce":
		return announce(os.Stdin, words[1], words[2])
	case len(words) == 3 && words[0] == "waves":
		return waves(words[1], words[2], false)
	case len(words) == 3 && words[0] == "order":
		return waves(words[1], words[2], true)
	case len(words) == 5 && words[0] == "sync":
		return syncTo(words[1], words[2], words[3], words[4])
	}
	return fmt.Errorf("usage: argo check|generate|announce|waves|order|sync; its source says how")
}
