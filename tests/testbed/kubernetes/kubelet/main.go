// What istioctl needs of a kubelet, and no more: it forwards ports of pods. Run by `bed kubelet`.
//
//	kubelet LISTEN CERTIFICATE KEY NAMESPACE/POD:PORT=ADDRESS…
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubelet/pkg/cri/streaming/portforward"
)

// Where the ports of pods are.
type ports map[string]string

func (ports ports) PortForward(_ context.Context, pod string, _ types.UID, port int32, stream io.ReadWriteCloser) error {
	address, found := ports[fmt.Sprintf("%s:%d", pod, port)]
	if !found {
		return fmt.Errorf("nothing listens on port %d of %s", port, pod)
	}
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	go func() {
		_, _ = io.Copy(connection, stream)
		_ = connection.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, connection)
	return err
}

func main() {
	if len(os.Args) < 5 {
		log.Fatal("usage: kubelet LISTEN CERTIFICATE KEY NAMESPACE/POD:PORT=ADDRESS…")
	}
	forwarded := ports{}
	for _, pair := range os.Args[4:] {
		port, address, _ := strings.Cut(pair, "=")
		forwarded[port] = address
	}
	http.HandleFunc("/portForward/{namespace}/{pod}", func(writer http.ResponseWriter, request *http.Request) {
		pod := request.PathValue("namespace") + "/" + request.PathValue("pod")
		portforward.ServePortForward(writer, request, forwarded, pod, "", nil, time.Hour, time.Minute,
			portforward.SupportedProtocols)
	})
	log.Fatal(http.ListenAndServeTLS(os.Args[1], os.Args[2], os.Args[3], nil))
}
