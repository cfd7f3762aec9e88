// Reads a SPIFFE bundle as the reference implementation does, and prints the SHA-256 of each root in it.
//
// usage: spiffe-bundle TRUST_DOMAIN < bundle.json
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"sort"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "spiffe-bundle:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: spiffe-bundle TRUST_DOMAIN < bundle.json")
	}
	domain, err := spiffeid.TrustDomainFromString(os.Args[1])
	if err != nil {
		return err
	}
	bundle, err := spiffebundle.Read(domain, os.Stdin)
	if err != nil {
		return err
	}
	sequence, _ := bundle.SequenceNumber()
	hint, _ := bundle.RefreshHint()
	fmt.Printf("sequence %d\nrefresh %s\n", sequence, hint)
	var roots []string
	for _, root := range bundle.X509Authorities() {
		// the key that a verifier would use is the certificate's
		roots = append(roots, fmt.Sprintf("root sha256:%x %T", sha256.Sum256(root.Raw), root.PublicKey))
	}
	sort.Strings(roots)
	for _, root := range roots {
		fmt.Println(root)
	}
	return nil
}
